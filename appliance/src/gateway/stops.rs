//! Requests that a person can stop at the board, by their id.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Answers in progress.
#[derive(Debug, Default)]
pub struct Stops(Mutex<HashMap<u128, CancellationToken>>);

impl Stops {
    /// An answer begins; it can be stopped until the [`Stop`] is dropped.
    pub fn enter(self: &Arc<Self>, id: u128) -> Stop {
        let token = CancellationToken::new();
        self.lock().insert(id, token.clone());
        Stop { id, stops: self.clone(), asked: Box::pin(token.cancelled_owned()) }
    }

    /// Stops an answer, if it is still in progress.
    pub fn stop(&self, id: u128) {
        if let Some(token) = self.lock().get(&id) {
            token.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u128, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One answer's place among those that can be stopped.
#[derive(Debug)]
pub struct Stop {
    id: u128,
    stops: Arc<Stops>,
    asked: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Stop {
    /// Ready once it has been stopped.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.asked.as_mut().poll(cx)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.stops.lock().remove(&self.id);
    }
}
