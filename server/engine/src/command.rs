//! What travels from the handles to the model's thread. Data only.

use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::generation::Outlet;
use crate::{Prompt, Request, Token};

/// One generation on its way through the engine. Dropping it gives its place back and ends the caller's stream.
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) outlet: Outlet,
    pub(crate) submitted: Instant,
    // Held until the slot is free again: the number of permits is what bounds the queue.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// A question that the model answers between two steps.
pub(crate) enum Question {
    Tokenize { prompt: Prompt, answer: oneshot::Sender<Vec<Token>> },
    Detokenize { tokens: Vec<Token>, answer: oneshot::Sender<Vec<u8>> },
}
