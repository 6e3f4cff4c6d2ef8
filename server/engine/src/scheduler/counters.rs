//! Running totals, written by the model's thread and read by snapshots. Each number stands for itself, so no ordering is needed.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(crate) struct Counters {
    active: AtomicUsize,
    tokens: AtomicU64,
    requests: AtomicU64,
    started: Instant,
    used_after_us: AtomicU64,
    stored_bytes: AtomicUsize,
    drafted: AtomicU64,
    accepted: AtomicU64,
    // Mean time in a slot of the last requests; 0 before the first has ended.
    occupied_us: AtomicU64,
}

impl Counters {
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            active: AtomicUsize::new(0),
            tokens: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            started,
            used_after_us: AtomicU64::new(0),
            stored_bytes: AtomicUsize::new(0),
            drafted: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            occupied_us: AtomicU64::new(0),
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

    pub(crate) fn stored_bytes(&self) -> usize {
        self.stored_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn stored(&self, bytes: usize) {
        self.stored_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Tokens guessed and computed, and how many of them were right.
    pub(crate) fn drafts(&self) -> (u64, u64) {
        (self.drafted.load(Ordering::Relaxed), self.accepted.load(Ordering::Relaxed))
    }

    pub(super) fn drafted(&self, drafted: usize, accepted: usize) {
        self.drafted.fetch_add(drafted as u64, Ordering::Relaxed);
        self.accepted.fetch_add(accepted as u64, Ordering::Relaxed);
    }

    /// How long until one of so many busy slots is free for who comes after `ahead` others, on average; unknown before any answer was
    /// complete.
    pub(crate) fn free_in(&self, slots: usize, ahead: usize) -> Option<Duration> {
        let mean = Duration::from_micros(self.occupied_us.load(Ordering::Relaxed));
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        (!mean.is_zero()).then(|| mean.saturating_mul(count(ahead + 1)) / count(slots.max(1)))
    }

    /// An answer was complete after so long in its slot.
    pub(super) fn occupied(&self, time: Duration) {
        let mean = self.occupied_us.load(Ordering::Relaxed);
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        self.occupied_us.store(if mean == 0 { time } else { mean - mean / 8 + time / 8 }, Ordering::Relaxed);
    }

    pub(super) fn slot_taken(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    /// Left by a request that waits again.
    pub(super) fn slot_left(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn slot_freed(&self) {
        self.slot_left();
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn token_generated(&self) {
        self.tokens.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn used(&self, now: Instant) {
        let after = now.saturating_duration_since(self.started).as_micros();
        self.used_after_us.store(u64::try_from(after).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_late_waits_for_those_before() {
        let counters = Counters::new(Instant::now());
        assert_eq!(counters.free_in(2, 0), None);
        counters.occupied(Duration::from_secs(8));
        assert_eq!(counters.free_in(2, 0), Some(Duration::from_secs(4)));
        assert_eq!(counters.free_in(2, 3), Some(Duration::from_secs(16)));
    }
}
