//! The stream of one generation: the caller's end ([`Generation`]) and the scheduler's end ([`Outlet`]).
//!
//! The scheduler only ever sends where there is room, so it never waits. It asks before a step ([`Outlet::is_ready`]); a slot whose
//! consumer lags is left out of the step and costs nobody anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;

use tokio::sync::mpsc::{self, error::TryRecvError};

use crate::control::Interrupt;
use crate::{Event, Failure, TokenLogprob};

/// A generation in progress. Read it with [`next`](Generation::next); drop it to cancel.
#[derive(Debug)]
pub struct Generation {
    events: mpsc::Receiver<Event>,
    ended: bool,
    computing: Arc<AtomicBool>,
    interrupt: Interrupt,
    engine: Thread,
}

impl Generation {
    /// The next event; `None` after `Done` or `Failed`. Cancel-safe: a dropped future loses no event.
    pub async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let event = self.events.recv().await;
        Some(self.taken(event))
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        match self.events.try_recv() {
            Ok(event) => Some(self.taken(Some(event))),
            Err(TryRecvError::Disconnected) => Some(self.taken(None)),
            Err(TryRecvError::Empty) => None,
        }
    }

    fn taken(&mut self, event: Option<Event>) -> Event {
        // A thread that died sends no last event; its callers must not wait or take the text for complete.
        let event = event.unwrap_or(Event::Failed(Failure::Stopped));
        self.ended = matches!(event, Event::Done(_) | Event::Failed(_));
        // There is room again: the slot may have been paused for want of it.
        self.engine.unpark();
        event
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.events.close();
        if self.computing.swap(false, Ordering::SeqCst) {
            self.interrupt.caller_left();
        }
        self.engine.unpark();
    }
}

/// Where the scheduler puts a generation's events.
#[derive(Debug)]
pub(crate) struct Outlet {
    events: mpsc::Sender<Event>,
    computing: Arc<AtomicBool>,
}

impl Outlet {
    /// A pair for one request of the engine whose thread and interrupt are given.
    pub(crate) fn open(engine: Thread, interrupt: Interrupt) -> (Self, Generation) {
        let (sender, events) = mpsc::channel(EVENT_PLACES);
        let computing = Arc::new(AtomicBool::new(false));
        let outlet = Self { events: sender, computing: Arc::clone(&computing) };
        (outlet, Generation { events, ended: false, computing, interrupt, engine })
    }

    /// True when the caller has gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.events.is_closed()
    }

    /// True when there is room for what one step can bring: log-probabilities, a text and a last event.
    pub(crate) fn is_ready(&self) -> bool {
        self.events.capacity() >= STEP_PLACES
    }

    /// The step that begins now is computed for this caller too, who may leave at any moment, or have left.
    pub(crate) fn join_step(&self, interrupt: &Interrupt) {
        self.computing.store(true, Ordering::SeqCst);
        if self.is_closed() && self.computing.swap(false, Ordering::SeqCst) {
            interrupt.caller_left();
        }
    }

    /// The step has ended.
    pub(crate) fn leave_step(&self) {
        self.computing.store(false, Ordering::SeqCst);
    }

    /// Sends progress if there is room to spare beside the other events of the same step; the next one says it better.
    pub(crate) fn progress(&self, processed: usize, total: usize) {
        if self.events.capacity() > STEP_PLACES {
            self.send(Event::Progress { processed, total });
        }
    }

    /// Sends text. Only within a step for which `is_ready` was true.
    pub(crate) fn text(&self, text: String, tokens_so_far: usize) {
        debug_assert!(self.is_closed() || self.is_ready(), "a step was taken without room for its text");
        self.send(Event::Text { text, tokens_so_far });
    }

    /// Sends the log-probabilities that belong to the text of a step.
    pub(crate) fn logprobs(&self, tokens: Vec<TokenLogprob>) {
        self.send(Event::Logprobs(tokens));
    }

    /// Sends the last event; a place is always left for it.
    pub(crate) fn end(self, event: Event) {
        self.send(event);
    }

    fn send(&self, event: Event) {
        // Full cannot happen (see above) and Closed is found at the next step, where the slot is freed.
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            tracing::error!(?event, "no room for an event of a generation");
        }
    }
}

/// Events that one step of one generation can bring, progress not counted.
const STEP_PLACES: usize = 3;
/// About 10 s of tokens from a large model on a small machine, and a tenth of one from a tiny model: rides out a hiccup of the network,
/// then pauses the slot.
const EVENT_PLACES: usize = 32;
