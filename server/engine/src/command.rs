//! What travels from the handles to the model's thread. Data only.

use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::generation::Outlet;
use crate::{EmbeddingError, EmbeddingInput, Embeddings, Event, Failure, Prompt, Request, Token};

/// One generation on its way through the engine. Dropping it gives its place back and ends the caller's stream.
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) outlet: Outlet,
    /// The prompt's, once the desk has divided it.
    pub(crate) tokens: Vec<Token>,
    pub(crate) submitted: Instant,
    // Held until the slot is free again: the number of permits is what bounds the queue.
    pub(crate) permit: OwnedSemaphorePermit,
}

impl Job {
    /// Ends a request that cannot be taken into a slot.
    pub(crate) fn refuse(self, failure: Failure) {
        drop(self.permit);
        self.outlet.end(Event::Failed(failure));
    }
}

/// What is asked of the vocabulary, or first of it.
pub(crate) enum Question {
    Lengths {
        prompts: Vec<Prompt>,
        answer: oneshot::Sender<Vec<usize>>,
    },
    Tokenize {
        prompt: Prompt,
        answer: oneshot::Sender<Vec<Token>>,
    },
    Embed {
        inputs: Vec<EmbeddingInput>,
        answer: oneshot::Sender<Result<Embeddings, EmbeddingError>>,
        permit: OwnedSemaphorePermit,
    },
    Detokenize {
        tokens: Vec<Token>,
        answer: oneshot::Sender<Vec<u8>>,
    },
}
