//! One request's chain of samplers.
//!
//! The chain works on a candidate array of ours and not inside `llama_sampler_sample`, which would end the process where nothing can be
//! chosen. A grammar, when there is one, is no part of the chain: it refuses the chosen token, or is applied to that array before.
#![expect(unsafe_code, reason = "the FFI of this crate; each block says why it is sound")]

use std::cell::OnceCell;
use std::ptr::NonNull;
use std::rc::Rc;

use llama_cpp_sys_2 as sys;

use llama_cpp_2::model::LlamaModel as Weights;

use super::grammar::{Pieces, Rules};
use crate::{ModelError, SampleError, Sampling, Token};

/// An owned sampler chain, or plain argmax where nothing else is asked for.
#[derive(Debug)]
pub struct Chain {
    // `None`: the most probable token, found without building a candidate array.
    chain: Option<Owned>,
    rules: Option<Rules>,
}

/// Room to choose in, filled anew for each choice.
pub(super) type Candidates = Vec<sys::llama_token_data>;

impl Chain {
    pub(super) fn new(sampling: &Sampling, seed: u32, vocabulary: usize) -> Result<Self, ModelError> {
        let plain = sampling.temperature == 0.0 && sampling.logit_bias.is_empty() && !has_penalties(sampling);
        let chain = match plain {
            true => None,
            false => Some(build(sampling, seed, vocabulary)?),
        };
        Ok(Self { chain, rules: None })
    }

    /// With the grammar that the sampling asks for, if it does.
    pub(super) fn with_grammar(
        self,
        weights: &Weights,
        pieces: &OnceCell<Rc<Pieces>>,
        sampling: &Sampling,
    ) -> Result<Self, ModelError> {
        let pieces = || Rc::clone(pieces.get_or_init(|| Rc::new(Pieces::of(weights))));
        let rules = sampling.grammar.as_ref().map(|grammar| Rules::new(weights, pieces(), grammar)).transpose()?;
        Ok(Self { rules, ..self })
    }

    /// Remembers a chosen token.
    pub(super) fn accept(&mut self, token: Token) {
        self.remember(token);
        if let Some(rules) = &mut self.rules {
            rules.accept(token);
        }
    }

    /// Remembers a token of the prompt, for the penalties only.
    pub(super) fn remember(&mut self, token: Token) {
        if let Some(chain) = &mut self.chain {
            // SAFETY: the chain is live; none of its samplers looks tokens up.
            unsafe { sys::llama_sampler_accept(chain.0.as_ptr(), token.0) }
        }
    }

    /// The next token for these logits, one per vocabulary entry.
    ///
    /// With a grammar, first the token that would be chosen without: asking about one is cheap, and mostly it is allowed. Only else is
    /// the grammar asked about all, before anything is left out.
    pub(super) fn choose(&mut self, candidates: &mut Candidates, logits: &[f32]) -> Result<Token, SampleError> {
        let token = self.choose_freely(candidates, logits)?;
        let Some(rules) = self.rules.as_mut() else { return Ok(token) };
        if rules.allows(token).map_err(SampleError::Grammar)? {
            return Ok(token);
        }
        fill(candidates, logits);
        match &mut self.chain {
            None => likeliest_allowed(rules, candidates),
            Some(chain) => {
                rules.exclude(candidates).map_err(SampleError::Grammar)?;
                candidates.retain(|candidate| candidate.logit != f32::NEG_INFINITY);
                if candidates.is_empty() {
                    return Err(dead_end());
                }
                Ok(apply(chain, candidates)?)
            }
        }
    }

    fn choose_freely(&mut self, candidates: &mut Candidates, logits: &[f32]) -> Result<Token, ModelError> {
        match &mut self.chain {
            None => most_probable(logits).ok_or_else(nothing),
            Some(chain) => {
                fill(candidates, logits);
                apply(chain, candidates)
            }
        }
    }
}

// The likeliest of those the grammar allows. It is nearly always among the few likeliest of all, and asking about all of a large
// vocabulary takes as long as a small model does for a token: so first those few are asked about, then more.
fn likeliest_allowed(rules: &mut Rules, candidates: &mut [sys::llama_token_data]) -> Result<Token, SampleError> {
    let mut rest = candidates;
    for few in [64, 1024, usize::MAX] {
        let few = few.min(rest.len());
        if few < rest.len() {
            // Of equals the first, as everywhere.
            rest.select_nth_unstable_by(few, |a, b| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id)));
        }
        let (likeliest, others) = rest.split_at_mut(few);
        rules.exclude(likeliest).map_err(SampleError::Grammar)?;
        let allowed = likeliest.iter().copied().filter(|candidate| candidate.logit != f32::NEG_INFINITY);
        if let Some(best) = allowed.reduce(higher) {
            return Ok(Token(best.id));
        }
        rest = others;
    }
    Err(dead_end())
}

// The higher, and of equals the first in the vocabulary, as llama.cpp's greedy sampler has it.
fn higher(best: sys::llama_token_data, next: sys::llama_token_data) -> sys::llama_token_data {
    let better = next.logit > best.logit || (next.logit == best.logit && next.id < best.id);
    if better { next } else { best }
}

fn fill(candidates: &mut Candidates, logits: &[f32]) {
    candidates.clear();
    let numbers = logits.iter().zip(0..).filter(|(logit, _)| !logit.is_nan());
    candidates.extend(numbers.map(|(&logit, id)| sys::llama_token_data { id, logit, p: 0.0 }));
}

fn most_probable(logits: &[f32]) -> Option<Token> {
    let numbers = logits.iter().zip(0..).filter(|(logit, _)| !logit.is_nan());
    // The first of equals, as llama.cpp's greedy sampler has it.
    let best = numbers.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map(|(_, token)| Token(token))
}

fn apply(chain: &mut Owned, candidates: &mut [sys::llama_token_data]) -> Result<Token, ModelError> {
    if candidates.iter().all(|candidate| candidate.logit == f32::NEG_INFINITY) {
        return Err(nothing());
    }
    let data = candidates.as_mut_ptr();
    let mut array = sys::llama_token_data_array { data, size: candidates.len(), selected: -1, sorted: false };
    // SAFETY: the chain is live, the array is initialised and not empty, and the samplers keep its size at or under the vector's length.
    unsafe { sys::llama_sampler_apply(chain.0.as_ptr(), &raw mut array) }
    let selected = usize::try_from(array.selected).ok().filter(|&selected| selected < array.size);
    // SAFETY: `selected` is below the array's size; `data` still points into initialised candidates, ours or the sampler's own.
    selected.map(|selected| Token(unsafe { (*array.data.add(selected)).id })).ok_or_else(nothing)
}

fn nothing() -> ModelError {
    ModelError::new("no token could be chosen: every one was excluded or the model gave no numbers")
}

fn dead_end() -> SampleError {
    SampleError::Grammar(ModelError::new("the grammar cannot be followed: it allows none of the model's tokens here"))
}

fn has_penalties(sampling: &Sampling) -> bool {
    let neutral = (1.0, 0.0, 0.0);
    let asked = (sampling.repetition_penalty, sampling.frequency_penalty, sampling.presence_penalty);
    sampling.penalty_window > 0 && asked != neutral
}

// The order is that of llama.cpp's own programs: bias, penalties, then truncation on unscaled logits, temperature last.
fn build(sampling: &Sampling, seed: u32, vocabulary: usize) -> Result<Owned, ModelError> {
    let vocabulary = i32::try_from(vocabulary).map_err(|_| ModelError::new("the vocabulary is too large"))?;
    // llama.cpp takes this one value for "draw a seed".
    let seed = seed.min(u32::MAX - 1);
    let mut chain = Owned::new()?;
    if !sampling.logit_bias.is_empty() {
        chain.add(logit_bias(&sampling.logit_bias, vocabulary)?)?;
    }
    if has_penalties(sampling) {
        let window = i32::try_from(sampling.penalty_window).unwrap_or(i32::MAX);
        let Sampling { repetition_penalty: repeat, frequency_penalty: frequency, presence_penalty: presence, .. } =
            sampling;
        // SAFETY: plain numbers; a sampler or null is returned.
        chain.add(unsafe { sys::llama_sampler_init_penalties(vocabulary, window, *repeat, *frequency, *presence) })?;
    }
    if sampling.temperature == 0.0 {
        // SAFETY: takes nothing.
        chain.add(unsafe { sys::llama_sampler_init_greedy() })?;
        return Ok(chain);
    }
    match sampling.mirostat {
        Some(mirostat) => add_mirostat(&mut chain, sampling.temperature, mirostat, seed, vocabulary)?,
        None => add_truncation(&mut chain, sampling, seed)?,
    }
    Ok(chain)
}

fn add_mirostat(
    chain: &mut Owned,
    temperature: f32,
    mirostat: crate::Mirostat,
    seed: u32,
    vocabulary: i32,
) -> Result<(), ModelError> {
    let crate::Mirostat { version, tau, eta } = mirostat;
    // SAFETY: plain numbers; each returns a sampler or null.
    unsafe {
        chain.add(sys::llama_sampler_init_temp(temperature))?;
        chain.add(match version {
            1 => sys::llama_sampler_init_mirostat(vocabulary, seed, tau, eta, MIROSTAT_TOKENS),
            _ => sys::llama_sampler_init_mirostat_v2(seed, tau, eta),
        })
    }
}

fn add_truncation(chain: &mut Owned, sampling: &Sampling, seed: u32) -> Result<(), ModelError> {
    // SAFETY: plain numbers; each returns a sampler or null.
    unsafe {
        if sampling.top_k > 0 {
            chain.add(sys::llama_sampler_init_top_k(i32::try_from(sampling.top_k).unwrap_or(i32::MAX)))?;
        }
        if sampling.typical_p < 1.0 {
            chain.add(sys::llama_sampler_init_typical(sampling.typical_p, 1))?;
        }
        if sampling.top_p < 1.0 {
            chain.add(sys::llama_sampler_init_top_p(sampling.top_p, 1))?;
        }
        if sampling.min_p > 0.0 {
            chain.add(sys::llama_sampler_init_min_p(sampling.min_p, 1))?;
        }
        chain.add(sys::llama_sampler_init_temp(sampling.temperature))?;
        chain.add(sys::llama_sampler_init_dist(seed))
    }
}

fn logit_bias(biases: &[(Token, f32)], vocabulary: i32) -> Result<*mut sys::llama_sampler, ModelError> {
    let biases: Vec<_> = biases.iter().map(|&(token, bias)| sys::llama_logit_bias { token: token.0, bias }).collect();
    let count = i32::try_from(biases.len()).map_err(|_| ModelError::new("too many logit biases"))?;
    // SAFETY: the array has `count` initialised elements and is copied by the call.
    Ok(unsafe { sys::llama_sampler_init_logit_bias(vocabulary, count, biases.as_ptr()) })
}

/// A sampler that frees itself, and if it is a chain the samplers in it.
#[derive(Debug)]
struct Owned(NonNull<sys::llama_sampler>);

impl Owned {
    fn new() -> Result<Self, ModelError> {
        // SAFETY: plain allocation; freed in `drop`.
        let chain = unsafe { sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params()) };
        NonNull::new(chain).map(Self).ok_or_else(|| ModelError::new("no sampler chain"))
    }

    fn add(&mut self, sampler: *mut sys::llama_sampler) -> Result<(), ModelError> {
        if sampler.is_null() {
            return Err(ModelError::new("llama.cpp refused a sampler's parameters"));
        }
        // SAFETY: both are live; the chain takes the sampler over.
        unsafe { sys::llama_sampler_chain_add(self.0.as_ptr(), sampler) }
        Ok(())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: owned and not freed before; frees the samplers added too.
        unsafe { sys::llama_sampler_free(self.0.as_ptr()) }
    }
}

/// Mirostat 1 estimates its constant from the most probable 100 tokens, as its paper does.
const MIROSTAT_TOKENS: i32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(sampling: Sampling, logits: &[f32]) -> Result<Token, SampleError> {
        Chain::new(&sampling, 7, logits.len()).unwrap().choose(&mut Candidates::new(), logits)
    }

    #[test]
    fn greedy_takes_the_first_of_the_highest() {
        let greedy = Sampling::greedy;
        assert_eq!(choose(greedy(), &[0.0, 2.0, 2.0, 1.0]), Ok(Token(1)));
        assert_eq!(choose(greedy(), &[f32::NAN, -1.0]), Ok(Token(1)));
        assert!(choose(greedy(), &[f32::NAN, f32::NAN]).is_err());
    }

    #[test]
    fn logits_without_a_choice_are_an_error_and_not_an_abort() {
        let all_excluded = [f32::NEG_INFINITY; 4];
        assert!(choose(Sampling::default(), &all_excluded).is_err());
        assert!(choose(Sampling::default(), &[f32::NAN; 4]).is_err());
        let forbid_all = (0..4).map(|token| (Token(token), f32::NEG_INFINITY)).collect();
        // What remains is llama.cpp's business; it must not end the process.
        drop(choose(Sampling { logit_bias: forbid_all, ..Sampling::default() }, &[0.0; 4]));
    }

    #[test]
    fn bias_and_penalties_move_the_choice() {
        let logits = [0.0, 2.0, 1.9, 1.0];
        let biased = Sampling { logit_bias: vec![(Token(3), 5.0)], ..Sampling::greedy() };
        assert_eq!(choose(biased, &logits), Ok(Token(3)));
        let forbidden = Sampling { logit_bias: vec![(Token(1), f32::NEG_INFINITY)], ..Sampling::greedy() };
        assert_eq!(choose(forbidden, &logits), Ok(Token(2)));
        let penalty = Sampling { repetition_penalty: 1.5, ..Sampling::greedy() };
        let mut chain = Chain::new(&penalty, 7, 4).unwrap();
        assert_eq!(chain.choose(&mut Candidates::new(), &logits), Ok(Token(1)));
        chain.accept(Token(1));
        assert_eq!(chain.choose(&mut Candidates::new(), &logits), Ok(Token(2)));
    }

    #[test]
    fn every_kind_of_sampler_chooses_and_a_seed_repeats_its_choices() {
        // As steep as text is: mirostat 1 estimates the exponent, and at 0 or exactly 1 its formula always takes the likeliest.
        let logits: Vec<f32> = (0..100).map(|n| -1.2 * ((n + 1) as f32).ln()).collect();
        let hot = Sampling { temperature: 1.0, ..Sampling::default() };
        let kinds = [
            hot.clone(),
            Sampling { top_k: 0, top_p: 1.0, min_p: 0.05, ..hot.clone() },
            Sampling { typical_p: 0.5, ..hot.clone() },
            Sampling { mirostat: Some(crate::Mirostat { version: 1, tau: 5.0, eta: 0.1 }), ..hot.clone() },
            Sampling { mirostat: Some(crate::Mirostat { version: 2, tau: 5.0, eta: 0.1 }), ..hot },
        ];
        for sampling in kinds {
            let series = |seed| {
                let mut chain = Chain::new(&sampling, seed, logits.len()).unwrap();
                (0..20).map(|_| chain.choose(&mut Candidates::new(), &logits).unwrap()).collect::<Vec<_>>()
            };
            assert_eq!(series(1), series(1), "{sampling:?}");
            assert_ne!(series(1), series(2), "{sampling:?}");
            assert_eq!(series(u32::MAX), series(u32::MAX), "{sampling:?}");
        }
    }
}
