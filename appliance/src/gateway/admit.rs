//! Load shedding: a fixed number of requests in progress, a short queue, and a refusal at once beyond it.
//!
//! The permit travels in the stages' values into the answer's body: a stream counts until its *body* ends, however it
//! ends.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cerebrum_common::keys::{Allowance, Client};
use cerebrum_common::serve::Refusal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::quota::{Quotas, Share};
use super::record::Record;
use crate::status::{Board, Event};

/// Places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests at a time: a small server has two slots.
    pub in_progress: usize,
    /// Requests that may wait for one.
    pub queue: usize,
    /// How long they wait at most.
    pub queue_wait: Duration,
    /// What a key may take, where the key file does not say otherwise.
    pub per_key: Allowance,
}

impl Default for Limits {
    fn default() -> Self {
        Self { in_progress: 2, queue: 0, queue_wait: Duration::from_secs(30), per_key: Allowance::default() }
    }
}

/// Holds the places.
#[derive(Debug)]
pub struct Gate {
    limits: Limits,
    quotas: Arc<Quotas>,
    places: Arc<Semaphore>,
    queue: Semaphore,
    /// Typical length of a request in seconds: an exponential average over those that ended.
    typical: Arc<Mutex<Option<f64>>>,
    board: Board,
}

/// Weight of the newest request in the average.
const NEWEST: f64 = 0.3;

/// What `Retry-After` says before any request has ended, and the most it says.
const RETRY_UNKNOWN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(600);

/// A request with a place.
#[derive(Debug)]
pub struct Admitted {
    /// Who asked.
    pub client: Client,
    /// The place.
    pub permit: Permit,
}

/// One place; dropping it frees the place.
#[derive(Debug)]
pub struct Permit {
    _place: OwnedSemaphorePermit,
    share: Option<Share>,
    taken: Instant,
    typical: Arc<Mutex<Option<f64>>>,
}

impl Permit {
    /// The request used so many tokens, read and written.
    pub(super) fn spend(&self, tokens: u32) {
        if let Some(share) = &self.share {
            share.spend(tokens);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let seconds = self.taken.elapsed().as_secs_f64();
        let mut typical = self.typical.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *typical = Some(typical.map_or(seconds, |old| old + NEWEST * (seconds - old)));
    }
}

impl Gate {
    /// A gate with all places free.
    pub fn new(limits: Limits, board: Board) -> Self {
        Self {
            limits,
            quotas: Quotas::new(limits.per_key),
            places: Arc::new(Semaphore::new(limits.in_progress)),
            queue: Semaphore::new(limits.queue),
            typical: Arc::default(),
            board,
        }
    }

    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Some(place);
        }
        let _waiting = self.queue.try_acquire().ok()?;
        let _counted = Waiting::new(&self.board);
        tokio::time::timeout(self.limits.queue_wait, self.places.clone().acquire_owned()).await.ok()?.ok()
    }

    /// When a place is likely to be free: requests in progress are on average half done, and those that wait go first.
    fn retry_after(&self) -> Duration {
        let typical = *self.typical.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        typical.map_or(RETRY_UNKNOWN, |seconds| {
            let waiting = self.limits.queue.saturating_sub(self.queue.available_permits()) as f64;
            let share = seconds * (0.5 + waiting) / self.limits.in_progress as f64;
            Duration::from_secs_f64(share.clamp(1.0, RETRY_MAX.as_secs_f64()))
        })
    }
}

/// Counts one waiting request for as long as it waits.
struct Waiting<'a>(&'a Board);

impl<'a> Waiting<'a> {
    fn new(board: &'a Board) -> Self {
        board.tell(Event::Queued(1));
        Self(board)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.tell(Event::Queued(-1));
    }
}

/// A place for the request, at once or within the queue's wait.
///
/// # Errors
/// [`Refusal::Busy`] with an estimate of when to come back.
pub(super) async fn admit(gate: &Gate, client: Client, record: &mut Record) -> Result<Admitted, Refusal> {
    let share = gate.quotas.take(&client)?;
    match gate.place().await {
        Some(place) => {
            record.admitted(&client);
            let permit = Permit { _place: place, share, taken: Instant::now(), typical: gate.typical.clone() };
            Ok(Admitted { client, permit })
        }
        None => {
            gate.board.tell(Event::Shed);
            Err(Refusal::Busy { who: "CM4 busy", retry_after: gate.retry_after() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(in_progress: usize, queue: usize) -> Gate {
        let limits = Limits { in_progress, queue, queue_wait: Duration::from_secs(30), per_key: Allowance::default() };
        Gate::new(limits, Board::new([]))
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_conserved_and_the_queue_is_bounded() {
        let gate = gate(1, 1);
        let first = gate.place().await.unwrap();
        let (second, third) = tokio::join!(biased; gate.place(), async {
            let third = gate.place().await;
            drop(first);
            third
        });
        assert!(second.is_some(), "the queued one gets the place");
        assert!(third.is_none(), "the queue has one place");
        drop(second);
        assert!(gate.place().await.is_some());
        assert_eq!(gate.board.look(|status| status.queued), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queued_request_waits_no_longer_than_told() {
        let gate = gate(1, 1);
        let _first = gate.place().await.unwrap();
        assert!(gate.place().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_follows_what_requests_take() {
        let gate = gate(2, 0);
        assert_eq!(gate.retry_after(), RETRY_UNKNOWN);
        let place = gate.place().await.unwrap();
        let permit = Permit { _place: place, share: None, taken: Instant::now(), typical: gate.typical.clone() };
        tokio::time::advance(Duration::from_secs(120)).await;
        drop(permit);
        assert_eq!(gate.retry_after(), Duration::from_secs(30));
    }
}
