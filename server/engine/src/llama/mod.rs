//! llama.cpp behind [`Model`]: the only module that knows C.
//!
//! `llama-cpp-2` gives the backend, the weights and the vocabulary. What it lacks or ties to lifetimes is done here over
//! `llama-cpp-sys-2`: a context with its abort callback and capped output rows, and sampler chains that cannot abort the process.
//! No pointer leaves this module, and every value in it lives on its engine's thread.
//!
//! ## Context size
//!
//! Each slot has its own stream of the KV cache (`kv_unified = false`) with `context` places, so the cache holds `context` times
//! `slots` places, all allocated at load. A request may fill its slot whatever the others do, and a sequence's places are always in order
//! of position, without which the last bits of attention sums would depend on the neighbours.
//!
//! ## The same text, whatever the batch
//!
//! Flash attention is off: llama.cpp computes it in one way for 64 rows and more, in another for fewer and in a third for a single row
//! beyond 512 places, so that the numbers of a prompt would depend on how it was cut into chunks and what of it was cached. Without it,
//! and with `Q8_0` and `Q4_K` weights on x86, the logits of a request do not depend on its neighbours, on the size of its chunks or on the cache;
//! the tests of this module hold it to that.
//!
//! llama.cpp by itself adds up the attention of a *single* row in another order than that of several, and the products of a single row
//! and repacked `Q4_K` weights, too. `native/one_row.h` and `native/repacked.h` replace that on x86, so that a token computed with a draft,
//! or by itself, is the same to the last bit. What is left: where llama.cpp has one kernel of the weights for a single row and another for
//! many (repacked `Q4_0`, `IQ4_NL` and `MXFP4`; ARM), last bits depend on the batch, and at a near tie another token may follow.
//!
//! ## How fast
//!
//! A step of decoding reads every weight once, and a core of a small virtual machine waits for memory most of that time. So
//! `native/few_rows.h` and `native/read_ahead.h` ask for weights a page before they are needed; the numbers are not touched by it.

mod adapter;
mod context;
mod cpu;
mod embed;
mod fit;
mod grammar;
mod identity;
mod likelihood;
mod load;
mod log;
mod sampler;
mod words;

use std::cell::OnceCell;
use std::ffi::CStr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use llama_cpp_2::model::LlamaModel as Weights;
use llama_cpp_2::token::LlamaToken;

pub use adapter::AdapterFile;
use context::{Context, Shape};
pub use cpu::{Suitability, processor_has, suitability};
use embed::Embedder;
pub use fit::{Fit, try_out};
use grammar::Pieces;
use sampler::{Candidates, Chain};
use words::Words;

use crate::gguf::Header;
use crate::{
    Adapter, Batch, DecodeError, EmbedStop, Embedding, EmbeddingError, Interrupt, Likelihood, Limits, LoadControl,
    LoadError, Model, ModelError, ModelInfo, PrefixFile, SampleError, Sampling, Sequence, Token, Vocabulary,
};

/// How to load a GGUF file. The numbers left `None` are chosen from the model and the machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The GGUF file.
    pub path: PathBuf,
    /// Tokens that prompt and answer of one request may have together. Each slot gets as many, so the KV cache holds this times the
    /// number of slots. Default: what the model was trained for, at most 4096. Never more than the model was trained for.
    pub context: Option<u32>,
    /// Threads that compute. Default: what the machine offers. They wait for each other by spinning, so more threads than idle cores
    /// cost a hundred times the time: a machine shared with other work needs fewer.
    pub threads: Option<usize>,
    /// Threads for steps of many tokens. Default: the same.
    pub batch_threads: Option<usize>,
    /// The most prompt tokens per step. Default: the engine's limit; never more.
    pub chunk: Option<usize>,
    /// Adapters that requests may ask for.
    pub adapters: Vec<AdapterFile>,
    /// A folder for prefixes that outlive the program, and the most bytes in it.
    pub keep_prefixes: Option<(PathBuf, u64)>,
}

impl Options {
    /// Everything by default.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            context: None,
            threads: None,
            batch_threads: None,
            chunk: None,
            adapters: Vec::new(),
            keep_prefixes: None,
        }
    }

    /// Whether the file could be a model's, without loading it.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn check(&self) -> Result<(), LoadError> {
        load::check_file(&self.path)?;
        self.adapters.iter().try_for_each(adapter::check)
    }

    /// Bytes that the KV cache will take with so many slots, as far as the file's header tells; 0 where it tells nothing.
    pub fn cache_bytes(&self, limits: Limits) -> u64 {
        let Ok(header) = Header::of(&self.path) else { return 0 };
        let trained = header.own("context_length").unwrap_or(u64::MAX).max(1);
        let context = u64::from(self.context.unwrap_or(load::DEFAULT_CONTEXT)).clamp(1, trained);
        let places = context.next_multiple_of(256).saturating_mul(limits.slots as u64);
        header.cache_bytes_per_place().saturating_mul(places)
    }

    /// With the numbers that suit, where none is prescribed.
    #[must_use]
    pub fn fitted(self, fit: Fit) -> Self {
        let Fit { threads, batch_threads, chunk } = fit;
        Self {
            batch_threads: self.batch_threads.or(self.threads).or(Some(batch_threads)),
            threads: self.threads.or(Some(threads)),
            chunk: self.chunk.or(Some(chunk)),
            ..self
        }
    }

    /// A loader for [`Engine::start`](crate::Engine::start).
    pub fn loader(self) -> impl FnOnce(&LoadControl) -> Result<LlamaModel, LoadError> + Send + 'static {
        move |control| load::load(&self, control)
    }
}

/// A GGUF model with its context. Made by [`Options::loader`].
#[derive(Debug)]
pub struct LlamaModel {
    info: ModelInfo,
    // Before the weights: fields are dropped in this order, and contexts refer to the weights.
    context: Context,
    embedder: Option<Embedder>,
    shape: Shape,
    interrupt: Interrupt,
    prefix_file: Option<PrefixFile>,
    pieces: OnceCell<Rc<Pieces>>,
    // One array for all requests, which choose one after the other: with a vocabulary of 150,000 it takes 2 MB.
    candidates: Candidates,
    weights: Arc<Weights>,
    words: Arc<Words>,
}

impl LlamaModel {
    fn checked(&self, token: Token) -> Result<LlamaToken, ModelError> {
        // The C side indexes its tables with the token; beyond them it throws, which would end the process.
        match usize::try_from(token.0) {
            Ok(index) if index < self.info.vocabulary => Ok(LlamaToken(token.0)),
            _ => Err(ModelError::new(format!("the vocabulary has no token {}", token.0))),
        }
    }
}

impl Model for LlamaModel {
    type Sampler = Chain;

    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn vocabulary(&self) -> Arc<dyn Vocabulary> {
        Arc::clone(&self.words) as _
    }

    fn ends_generation(&self, token: Token) -> bool {
        self.checked(token).is_ok_and(|token| self.weights.vocab().is_eog(token))
    }

    fn sampler(&mut self, sampling: &Sampling, seed: u32, history: &[Token]) -> Result<Chain, ModelError> {
        for &(token, _) in &sampling.logit_bias {
            self.checked(token)?;
        }
        let mut chain =
            Chain::new(sampling, seed, self.info.vocabulary)?.with_grammar(&self.weights, &self.pieces, sampling)?;
        let window = sampling.penalty_window as usize;
        history[history.len().saturating_sub(window)..].iter().for_each(|&token| chain.remember(token));
        Ok(chain)
    }

    fn adapt(&mut self, adapter: Adapter) -> Result<(), ModelError> {
        self.context.adapt(adapter)
    }

    fn decode(&mut self, batch: &Batch) -> Result<(), DecodeError> {
        self.context.decode(batch)
    }

    fn sample(&mut self, sampler: &mut Chain, row: usize) -> Result<Token, SampleError> {
        let logits = self.context.logits(row).ok_or_else(|| ModelError::new("the model gave no logits"))?;
        let token = sampler.choose(&mut self.candidates, logits)?;
        sampler.accept(token);
        Ok(token)
    }

    fn likelihood(&mut self, row: usize, token: Token, top: usize) -> Option<Likelihood> {
        likelihood::of(self.context.logits(row)?, token, top)
    }

    fn embed(&mut self, text: &mut Embedding) -> Result<(), EmbedStop> {
        if text.done == 0 {
            for &token in &text.tokens {
                self.checked(token).map_err(|error| EmbedStop::Failed(EmbeddingError::Token(error)))?;
            }
        }
        let embedder = match &mut self.embedder {
            Some(embedder) => embedder,
            none => none.insert(Embedder::new(&self.weights, &self.info, self.shape, self.interrupt.clone())?),
        };
        embedder.step(text)
    }

    fn rest(&mut self) {
        self.embedder = None;
    }

    fn rewind(&mut self, sequence: Sequence, length: usize) -> bool {
        self.context.rewind(sequence, length)
    }

    fn copy(&mut self, from: Sequence, to: Sequence, length: usize) -> bool {
        self.context.copy(from, to, length)
    }

    fn save(&mut self, sequence: Sequence, limit: usize) -> Option<Vec<u8>> {
        self.context.save(sequence, limit)
    }

    fn prefix_file(&self) -> Option<PrefixFile> {
        self.prefix_file.clone()
    }

    fn restore(&mut self, sequence: Sequence, state: &[u8], length: usize) -> bool {
        self.context.restore(sequence, state, length)
    }
}

/// The processor features that llama.cpp was built for and found, as one line.
#[expect(unsafe_code, reason = "the safe crate does not expose it")]
pub fn system_info() -> String {
    // SAFETY: the function takes nothing and returns a pointer to a static, NUL-terminated string.
    let text = unsafe { CStr::from_ptr(llama_cpp_sys_2::llama_print_system_info()) };
    text.to_string_lossy().trim().to_owned()
}

#[cfg(test)]
mod tests;
