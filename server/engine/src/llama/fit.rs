//! A model tried out: whether it computes at all, and with how many threads and how large a batch it does so fastest here.
//!
//! Meant for a process of its own, which a file that llama.cpp trips over may end. Every step counts: a large model on a small machine
//! takes seconds for one, so measuring stops when its time is up and goes by what it has.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::load::{self, MAX_THREADS};
use super::{LlamaModel, Options};
use crate::{Batch, DecodeError, Entry, Interrupt, Limits, LoadControl, LoadError, Model, Sequence, Token};

/// What suits a model on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Threads for a step of few tokens, which waits for memory.
    pub threads: usize,
    /// Threads for a step of many tokens, which waits for arithmetic.
    pub batch_threads: usize,
    /// Prompt tokens per step.
    pub chunk: usize,
}

/// Loads the model, computes with it, and says what suits it. What `options` prescribe is not tried otherwise, and no chunk is larger
/// than that of `limits`.
///
/// # Errors
/// [`LoadError`].
pub fn try_out(options: &Options, limits: Limits) -> Result<Fit, LoadError> {
    let control = LoadControl::new(limits, Interrupt::default(), watch::channel(0.0).0);
    let mut model = load::load(options, &control)?;
    let mut trial = Trial { model: &mut model, until: Instant::now() + BUDGET };
    let candidates = options.threads.map_or_else(candidates, |threads| vec![threads]);
    let most = limits.chunk_tokens.min(trial.model.info.context.saturating_sub(2)).max(1);
    let fit = trial.fit(&candidates, options, most);
    // A model that does not continue text, or refuses these tokens, is used as it would be untried.
    let usual = candidates.first().copied().unwrap_or(1);
    Ok(fit.unwrap_or(Fit {
        threads: usual,
        batch_threads: usual,
        chunk: options.chunk.unwrap_or(DEFAULT_CHUNK).min(most),
    }))
}

// All processors, all but one (for the rest of the system), half of them (where two share a core), in this order.
fn candidates() -> Vec<usize> {
    let all = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS as usize);
    let mut candidates = vec![all, all - all / 8, all.saturating_sub(1), all / 2];
    candidates.retain(|&threads| threads > 0);
    candidates.sort_by_key(|&threads| std::cmp::Reverse(threads));
    candidates.dedup();
    candidates
}

struct Trial<'a> {
    model: &'a mut LlamaModel,
    until: Instant,
}

impl Trial<'_> {
    fn fit(&mut self, candidates: &[usize], options: &Options, most: usize) -> Result<Fit, DecodeError> {
        // The first step reads the weights from disk and is no measure of anything.
        self.step(1)?;
        let threads = self.best(candidates, 1, STEPS)?;
        let batch_threads = self.best(candidates, SOME_ROWS.min(most), 1)?;
        self.model.context.set_threads(threads, batch_threads);
        let chunk = match options.chunk {
            Some(chunk) => chunk.min(most),
            None => self.chunk(most)?,
        };
        Ok(Fit { threads, batch_threads, chunk })
    }

    // Of the candidates the one with the shortest step; a smaller number of threads has to be better by something, and a larger one
    // is tried first.
    fn best(&mut self, candidates: &[usize], rows: usize, times: usize) -> Result<usize, DecodeError> {
        let mut best = (candidates[0], f64::INFINITY);
        for &threads in candidates {
            if best.1.is_finite() && Instant::now() >= self.until {
                break;
            }
            self.model.context.set_threads(threads, threads);
            let mut shortest = f64::INFINITY;
            for _ in 0..times {
                shortest = shortest.min(self.step(rows)?.as_secs_f64());
            }
            if shortest < best.1 * BETTER {
                best = (threads, shortest);
            }
        }
        Ok(best.0)
    }

    // The smallest chunk that comes near to the highest rate, of those whose step is short enough for the neighbours.
    fn chunk(&mut self, most: usize) -> Result<usize, DecodeError> {
        let mut rates = Vec::new();
        for chunk in CHUNKS.into_iter().filter(|&chunk| chunk <= most) {
            let took = self.step(chunk)?;
            if took > LONGEST_STEP && !rates.is_empty() {
                break;
            }
            rates.push((chunk, chunk as f64 / took.as_secs_f64().max(1e-9)));
            if took > LONGEST_STEP || Instant::now() >= self.until {
                break;
            }
        }
        let highest = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
        let near = rates.iter().find(|(_, rate)| *rate >= highest * NEAR);
        Ok(near.map_or(DEFAULT_CHUNK.min(most), |(chunk, _)| *chunk))
    }

    fn step(&mut self, rows: usize) -> Result<Duration, DecodeError> {
        let vocabulary = self.model.info.vocabulary.max(1);
        let entry = |position: usize| Entry {
            token: Token(i32::try_from(position * 7 % vocabulary).unwrap_or(0)),
            sequence: Sequence(0),
            position,
            output: position + 1 == rows,
        };
        let batch = Batch { entries: (0..rows).map(entry).collect() };
        self.model.rewind(Sequence(0), 0);
        let begun = Instant::now();
        self.model.decode(&batch)?;
        Ok(begun.elapsed())
    }
}

/// For all measuring together; the load itself comes before.
const BUDGET: Duration = Duration::from_secs(15);
/// Single-token steps per number of threads; the shortest counts, since something else may have held up the others.
const STEPS: usize = 5;
/// Enough that a step waits for arithmetic.
const SOME_ROWS: usize = 32;
const CHUNKS: [usize; 5] = [32, 64, 128, 256, 512];
/// A neighbour's next token waits for so long at most, unless the smallest chunk already takes longer.
const LONGEST_STEP: Duration = Duration::from_millis(1500);
/// So near to the highest rate is as good.
const NEAR: f64 = 0.95;
/// So much shorter is better; less may be chance.
const BETTER: f64 = 0.97;
/// Where nothing was measured.
pub(super) const DEFAULT_CHUNK: usize = 128;
