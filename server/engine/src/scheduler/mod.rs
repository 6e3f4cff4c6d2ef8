//! placeholder
use crate::command::Job;
use crate::{Limits, Model};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Running totals, written by the model's thread and read by snapshots.
#[derive(Debug)]
pub(crate) struct Counters {
    active: AtomicUsize,
    tokens: AtomicU64,
    requests: AtomicU64,
    started: Instant,
    used_after_us: AtomicU64,
}
impl Counters {
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            active: AtomicUsize::new(0),
            tokens: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            started,
            used_after_us: AtomicU64::new(0),
        }
    }
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }
    pub(crate) fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
    pub(crate) fn last_used(&self) -> Instant {
        self.started + Duration::from_micros(self.used_after_us.load(Ordering::Relaxed))
    }
}
pub(crate) struct Scheduler<M: Model> {
    model: M,
}
#[derive(PartialEq)]
pub(crate) enum Step {
    Idle,
}
impl<M: Model> Scheduler<M> {
    pub(crate) fn new(model: M, _l: Limits, _c: Arc<Counters>, _n: fn() -> Instant) -> Self {
        Self { model }
    }
    pub(crate) fn model(&self) -> &M {
        &self.model
    }
    pub(crate) fn submit(&mut self, _job: Job) {}
    pub(crate) fn step(&mut self) -> Step {
        Step::Idle
    }
}
