//! The inference engine: continuous batching over a model trait, with llama.cpp behind it.
//!
//! One operating-system thread per loaded model owns everything that belongs to the model: the weights, the KV cache, the
//! samplers and the scheduler. The asynchronous side holds an [`Engine`], which is a bounded mailbox to that
//! thread, and one [`Generation`] per request, which is a bounded stream of [`Event`]s coming back.
//!
//! ```text
//! Request --submit--> [mailbox] --> queue -> Prefill -> Decode -> Done        (scheduler, pure, over trait Model)
//!                                              |          |         |
//! Generation <--------- [events, 32 places] ---+----------+---------+
//! ```
//!
//! What is absent on purpose:
//! - No unbounded queue. A consumer that does not read pauses its own slot and nobody else's.
//! - No cancel call. Dropping the [`Generation`] is the cancellation; its slot is free within one decode step.
//! - No lock around the model and no model call outside its thread.
//! - No HTTP, JSON, chat template or file name in here; a [`Prompt`] says which of its parts may contain control tokens.
//! - No prompt or answer in a log line: content types print their length.
//!
//! A model's file is read by `gguf` before C sees it, and a grammar by `grammar` instead of C. `llama` is the only module that knows C.
//! Everything above it runs just as well over `scripted::ScriptedModel`, which is how the
//! tests of this crate and (feature `scripted`) of others get an engine without a model file.

mod command;
mod control;
mod desk;
mod embedding;
mod error;
mod event;
mod generation;
pub mod gguf;
mod grammar;
mod handle;
pub mod llama;
mod model;
mod prefixes;
mod request;
mod scheduler;
#[cfg(any(test, feature = "scripted"))]
pub mod scripted;
mod starting;
pub mod text;
mod worker;

pub use control::{Interrupt, LoadControl};
pub use desk::Vocabulary;
pub use embedding::{EmbedStop, Embedding, EmbeddingError, EmbeddingInput, Embeddings, Pooling};
pub use error::{DecodeError, Failure, LoadError, ModelError, SampleError, Stopped, SubmitError};
pub use event::{Completion, Event, Finish, TokenLogprob};
pub use generation::Generation;
pub use handle::{Engine, Snapshot};
pub use model::{Adapter, Addition, Batch, Entry, Likelihood, Model, ModelInfo, Sequence, Token};
pub use prefixes::PrefixFile;
pub use request::{AdapterChoice, Control, Grammar, Limits, Mirostat, Priority, Prompt, Request, Sampling, Segment};
pub use starting::Starting;
