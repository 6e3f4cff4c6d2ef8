//! Requests that can be stopped from inside, by their id: a person does it at the board, and whatever could wait makes room.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

/// Answers in progress.
#[derive(Debug, Default)]
pub struct Stops(Mutex<Answers>);

#[derive(Debug, Default)]
struct Answers {
    /// By the order of their beginning: several may go by one id, which clients may choose.
    begun: BTreeMap<u64, Answer>,
    next: u64,
}

#[derive(Debug)]
struct Answer {
    id: u128,
    stop: Option<oneshot::Sender<&'static str>>,
}

impl Stops {
    /// An answer begins; it can be stopped until the [`Stop`] is dropped.
    pub fn enter(self: &Arc<Self>, id: u128) -> Stop {
        let (stop, asked) = oneshot::channel();
        let mut answers = self.lock();
        let number = answers.next;
        answers.next += 1;
        answers.begun.insert(number, Answer { id, stop: Some(stop) });
        Stop { number, stops: self.clone(), asked }
    }

    /// Stops the answers of this id that are still in progress; `why` completes "stopped ...".
    pub fn stop(&self, id: u128, why: &'static str) {
        for answer in self.lock().begun.values_mut().filter(|answer| answer.id == id) {
            if let Some(stop) = answer.stop.take() {
                stop.send(why).ok();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One answer's place among those that can be stopped.
#[derive(Debug)]
pub struct Stop {
    number: u64,
    stops: Arc<Stops>,
    asked: oneshot::Receiver<&'static str>,
}

impl Stop {
    /// Ready once it has been stopped, with the reason; never again afterwards.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        if self.asked.is_terminated() {
            return Poll::Pending;
        }
        match Pin::new(&mut self.asked).poll(cx) {
            Poll::Ready(Ok(why)) => Poll::Ready(why),
            _ => Poll::Pending,
        }
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.stops.lock().begun.remove(&self.number);
    }
}
