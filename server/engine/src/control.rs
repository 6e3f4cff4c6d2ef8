//! How the outside reaches into work in progress: the interrupt that a long computation polls, and what a loader is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::watch;

use crate::Limits;

/// Asks a running computation to return early. Cheap to clone and to poll; shared by the engine's handles and its thread.
///
/// Two reasons are kept apart: `stop` is for good, `step` concerns the present step only (all callers for whom it is computed have gone)
/// and is cleared with its end. One caller who stays keeps the step going: callers who come and go must not hold up the others.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    step: AtomicBool,
    // Callers for whom the present step is computed.
    callers: AtomicUsize,
    stop: AtomicBool,
}

impl Interrupt {
    /// True when the present computation should return as soon as it can.
    pub fn is_raised(&self) -> bool {
        self.0.step.load(Ordering::Relaxed) || self.is_stopping()
    }

    /// True when the engine is to end.
    pub fn is_stopping(&self) -> bool {
        self.0.stop.load(Ordering::Acquire)
    }

    pub(crate) fn stop(&self) {
        self.0.stop.store(true, Ordering::Release);
    }

    pub(crate) fn raise_step(&self) {
        self.0.step.store(true, Ordering::Release);
    }

    pub(crate) fn begin_step(&self, callers: usize) {
        self.0.callers.store(callers, Ordering::SeqCst);
        self.clear_step();
    }

    // One of those for whom the present step is computed has gone.
    pub(crate) fn caller_left(&self) {
        if self.0.callers.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.raise_step();
        }
    }

    pub(crate) fn clear_step(&self) {
        self.0.step.store(false, Ordering::SeqCst);
    }
}

/// What a loader is given: how large to make the model, where to report, and when to give up.
#[derive(Clone, Debug)]
pub struct LoadControl {
    limits: Limits,
    interrupt: Interrupt,
    progress: watch::Sender<f32>,
}

impl LoadControl {
    pub(crate) fn new(limits: Limits, interrupt: Interrupt, progress: watch::Sender<f32>) -> Self {
        Self { limits, interrupt, progress }
    }

    /// The engine's limits: a model needs a sequence per slot and room for a chunk plus one token per slot in a batch.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Tells those who wait how far the load is, from 0 to 1.
    pub fn report(&self, progress: f32) {
        self.progress.send_replace(progress.clamp(0.0, 1.0));
    }

    /// True when nobody waits for the model any more; the loader then returns `LoadError::Cancelled`.
    pub fn is_cancelled(&self) -> bool {
        self.interrupt.is_stopping()
    }

    /// For the model to poll inside a long step.
    pub fn interrupt(&self) -> Interrupt {
        self.interrupt.clone()
    }
}
