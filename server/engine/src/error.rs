//! What can go wrong, as values with their context. Nothing here knows a status code.

use std::path::PathBuf;
use std::time::Duration;

/// A request that was not taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SubmitError {
    /// A value outside its range.
    #[error("{field} is {found}, expected {lowest} to {highest}")]
    Invalid {
        /// The request's field.
        field: &'static str,
        /// What it held (for lists and texts, their length).
        found: f32,
        /// Lowest value taken.
        lowest: f32,
        /// Highest value taken.
        highest: f32,
    },
    /// Every slot is busy and every place of the queue taken.
    #[error("all {slots} slots are busy and {queue} requests are waiting")]
    QueueFull {
        /// Slots of this engine.
        slots: usize,
        /// Places of its queue.
        queue: usize,
        /// When a place is likely to be free, going by how long requests have taken; unknown before any has ended.
        free_in: Option<Duration>,
    },
    /// The engine was shut down or its thread has ended.
    #[error("the model has been unloaded")]
    Stopped,
}

/// The engine was shut down or its thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the model has been unloaded")]
pub struct Stopped;

/// Why a generation that was taken did not complete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The prompt leaves no room for a single generated token.
    #[error("the prompt has {prompt_tokens} tokens, the context holds {context}")]
    ContextOverflow {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Tokens that prompt and answer may have together.
        context: usize,
    },
    /// Nothing to continue: no text, and the model has no token to begin with.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// The prompt has control tokens that this model lacks.
    #[error("the model has no control tokens for filling in the middle")]
    NoInfill,
    /// The model has no such adapter.
    #[error("found no adapter called {name:?}, expected {}", if known.is_empty() { "none: the model has none".to_owned() } else { known.join(", ") })]
    NoAdapter {
        /// The one asked for.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// A grammar that cannot be used, or a token that the vocabulary does not have.
    #[error("{0}")]
    Sampling(ModelError),
    /// No slot was free in the time that the request would wait.
    #[error("no slot was free within {} ms", waited.as_millis())]
    NoSlotInTime {
        /// How long it waited.
        waited: Duration,
        /// When a slot is likely to be free.
        free_in: Option<Duration>,
    },
    /// The model failed.
    #[error("{0}")]
    Model(#[from] ModelError),
    /// The engine was shut down or its thread ended before the generation did.
    #[error("the model was unloaded during the generation")]
    Stopped,
}

/// A failure inside the model that concerns one request or one step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ModelError {
    /// What the model said, as a sentence.
    pub reason: String,
}

impl ModelError {
    /// An error with this sentence.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// Why no token could be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// The request's grammar leaves no way to go on, or more than can be followed: its author's mistake, which whoever counts the
    /// server's failures must not count.
    #[error(transparent)]
    Grammar(ModelError),
    /// The model gave nothing to choose from.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl From<SampleError> for Failure {
    fn from(error: SampleError) -> Self {
        match error {
            SampleError::Grammar(error) => Self::Sampling(error),
            SampleError::Model(error) => Self::Model(error),
        }
    }
}

/// A step that did not happen, or only in part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The interrupt was raised during the step. Every sequence of the batch is to be rewound; then the step may be repeated.
    #[error("the step was interrupted")]
    Interrupted,
    /// The cache had no room for the batch; nothing was changed.
    #[error("the KV cache has no room for the batch")]
    CacheFull,
    /// The batch failed and the state of its sequences is unknown.
    #[error(transparent)]
    Failed(#[from] ModelError),
}

/// Why a model could not be loaded, in words that the person who put the file there can act on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// There is no such file.
    #[error("{}: no such file", path.display())]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file is there but cannot be read.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        reason: String,
    },
    /// The file does not begin as a GGUF file does.
    #[error("{}: not a GGUF file (begins with {found:?}, expected \"GGUF\")", path.display())]
    NotGguf {
        /// The file.
        path: PathBuf,
        /// Its first four bytes, made printable.
        found: String,
    },
    /// The file ends before the data that its header announces.
    #[error("{}: the file is incomplete or damaged, fetch it again ({reason})", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// llama.cpp's words.
        reason: String,
    },
    /// The file is a GGUF for a kind of model that this build does not know.
    #[error("{}: unsupported model ({reason})", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// llama.cpp's words.
        reason: String,
    },
    /// llama.cpp refused the file for another reason.
    #[error("{}: cannot be loaded ({reason})", path.display())]
    Rejected {
        /// The file.
        path: PathBuf,
        /// llama.cpp's words.
        reason: String,
    },
    /// The weights were loaded but the context (KV cache and compute buffers) could not be made, mostly for want of memory.
    #[error("no context of {context} tokens in {slots} slots: {reason}")]
    Context {
        /// Tokens per slot asked for.
        context: u32,
        /// Slots asked for.
        slots: usize,
        /// llama.cpp's words.
        reason: String,
    },
    /// Nobody waits for the model any more.
    #[error("loading was cancelled")]
    Cancelled,
    /// The thread could not be started or died while loading.
    #[error("the model's thread failed: {reason}")]
    Thread {
        /// What happened.
        reason: String,
    },
}
