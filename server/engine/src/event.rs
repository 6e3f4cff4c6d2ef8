//! What comes back from a generation. Data only.

use std::fmt;
use std::time::Duration;

use crate::Failure;

/// One item of a generation's stream. `Done` or `Failed` comes last, exactly once.
#[derive(Clone, PartialEq)]
pub enum Event {
    /// Part of the prompt has been processed.
    Progress {
        /// Prompt tokens processed so far, those found in the cache included.
        processed: usize,
        /// Prompt tokens in all.
        total: usize,
    },
    /// More of the answer: whole UTF-8 characters, never part of a stop string.
    Text {
        /// The new text; never empty.
        text: String,
        /// Tokens generated so far, those whose text is still held back included.
        tokens_so_far: usize,
    },
    /// How likely the tokens of the next text were; only for who asked. At the end there may be some whose text was never complete.
    Logprobs(Vec<TokenLogprob>),
    /// The generation is complete.
    Done(Completion),
    /// The generation ended early; what came before is all there is.
    Failed(Failure),
}

impl fmt::Debug for Event {
    // Answers stay out of the logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Progress { processed, total } => write!(f, "Progress({processed}/{total})"),
            Self::Text { text, tokens_so_far } => write!(f, "Text({} bytes, {tokens_so_far} tokens)", text.len()),
            Self::Logprobs(tokens) => write!(f, "Logprobs({} tokens)", tokens.len()),
            Self::Done(completion) => completion.fmt(f),
            Self::Failed(failure) => write!(f, "Failed({failure})"),
        }
    }
}

/// How likely a token of an answer was, and what else could have stood there, by the model's own distribution.
#[derive(Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token's bytes; not necessarily whole characters.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens there, the first the likeliest; control tokens as they are written.
    pub top: Vec<(Vec<u8>, f32)>,
}

impl fmt::Debug for TokenLogprob {
    // An answer, token by token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes, {} alternatives>", self.bytes.len(), self.top.len())
    }
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its answer.
    Stop,
    /// A stop string appeared; it is the request's `stop` entry with this index and not part of the text.
    StopString(usize),
    /// `max_tokens` were generated, or the context is full.
    Length,
}

/// The account of a complete generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that were still in the KV cache and cost nothing.
    pub cached_tokens: usize,
    /// Tokens generated. The token by which a model ends its answer has no text and does not count.
    pub completion_tokens: usize,
    /// From `submit` until a slot was free.
    pub queued: Duration,
    /// From then until the first token was chosen.
    pub prefill: Duration,
    /// From then until the last.
    pub decode: Duration,
}

impl Completion {
    /// Generated tokens per second of decoding; 0 when there was nothing to measure.
    pub fn tokens_per_second(&self) -> f64 {
        match self.decode.as_secs_f64() {
            seconds if seconds > 0.0 => self.completion_tokens.saturating_sub(1) as f64 / seconds,
            _ => 0.0,
        }
    }
}
