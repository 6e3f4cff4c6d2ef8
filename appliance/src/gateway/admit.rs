//! Load shedding: a fixed number of requests in progress, a short queue, and a refusal at once beyond it.
//!
//! The permit travels in the stages' values into the answer's body: a stream counts until its *body* ends, however it
//! ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cerebrum_common::keys::{Allowance, Client};
use cerebrum_common::serve::Refusal;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::places::{Place, Places, Rank};
use super::quota::{Quotas, Share};
use super::record::Record;
use super::stops::Stops;
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
    places: Arc<Places>,
    queue: Semaphore,
    pace: Arc<Mutex<Pace>>,
    stops: Arc<Stops>,
    board: Board,
}

/// What is in progress, and how long that usually takes.
#[derive(Debug, Default)]
struct Pace {
    /// Typical length of an answer in seconds: an exponential average over those that were complete.
    typical: Option<f64>,
    running: BTreeMap<u64, Running>,
    next: u64,
}

#[derive(Debug)]
struct Running {
    since: Instant,
    /// The id by which it is stopped when somebody else needs its place.
    gives_way: Option<u128>,
}

impl Pace {
    fn begin(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        self.running.insert(number, Running { since: Instant::now(), gives_way: None });
        number
    }

    fn answered(&mut self, number: u64) {
        let Some(running) = self.running.get(&number) else { return };
        let seconds = running.since.elapsed().as_secs_f64();
        self.typical = Some(self.typical.map_or(seconds, |old| old + NEWEST * (seconds - old)));
    }

    /// Seconds until the first of those in progress ends, probably.
    fn first_free_s(&self, typical: f64, places: usize) -> f64 {
        let longest = self.running.values().map(|running| running.since.elapsed().as_secs_f64()).reduce(f64::max);
        // Who takes longer than usual will not end at once.
        longest.map_or(typical * 0.5 / places as f64, |elapsed| (typical - elapsed).max(typical * 0.1))
    }
}

/// Weight of the newest request in the average.
const NEWEST: f64 = 0.3;

/// How long a place that somebody gives up may take to become free.
const MAKING_ROOM: Duration = Duration::from_secs(2);

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
    _place: Place,
    share: Option<Share>,
    number: u64,
    pace: Arc<Mutex<Pace>>,
}

impl Permit {
    fn new(gate: &Gate, place: Place, share: Option<Share>) -> Self {
        Self { _place: place, share, number: lock(&gate.pace).begin(), pace: gate.pace.clone() }
    }

    /// The request has had a complete answer: what it took tells how long others will take.
    pub(super) fn answered(&self) {
        lock(&self.pace).answered(self.number);
    }

    /// The request is several.
    pub(super) fn is_several(&self, requests: usize) {
        if let Some(share) = &self.share {
            share.more(requests.saturating_sub(1));
        }
    }

    /// Nobody waits for the answer: the request of this id is stopped when somebody needs its place.
    pub(super) fn gives_way(&self, id: u128) {
        if let Some(running) = lock(&self.pace).running.get_mut(&self.number) {
            running.gives_way = Some(id);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        lock(&self.pace).running.remove(&self.number);
    }
}

/// The tokens that an answer has used so far, read and written; they count against its key when it ends, however it does.
#[derive(Debug)]
pub(super) struct Spending {
    permit: Arc<Permit>,
    pub(super) tokens: u32,
}

impl Spending {
    pub(super) fn new(permit: Arc<Permit>) -> Self {
        Self { permit, tokens: 0 }
    }
}

impl Drop for Spending {
    fn drop(&mut self) {
        if let Some(share) = &self.permit.share {
            share.spend(self.tokens);
        }
    }
}

fn lock(pace: &Mutex<Pace>) -> MutexGuard<'_, Pace> {
    pace.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gate {
    /// A gate with all places free.
    pub fn new(limits: Limits, board: Board, stops: Arc<Stops>) -> Self {
        Self {
            limits,
            quotas: Quotas::new(limits.per_key),
            places: Places::new(limits.in_progress),
            queue: Semaphore::new(limits.queue),
            pace: Arc::default(),
            stops,
            board,
        }
    }

    async fn place(&self, rank: Rank) -> Option<Place> {
        if let Some(place) = self.places.free() {
            return Some(place);
        }
        if let Some(place) = self.make_room(rank).await {
            return Some(place);
        }
        let _waiting = self.queue.try_acquire().ok()?;
        let _counted = Waiting::new(&self.board);
        tokio::time::timeout(self.limits.queue_wait, self.places.wait(rank)).await.ok()?
    }

    /// The place of a request that nobody waits for.
    async fn make_room(&self, rank: Rank) -> Option<Place> {
        let id = lock(&self.pace).running.values_mut().find_map(|running| running.gives_way.take())?;
        self.stops.stop(id, "for a request that could not wait");
        tokio::time::timeout(MAKING_ROOM, self.places.wait(rank)).await.ok()?
    }

    /// Counts a call that takes no place against its key's allowance, as one in progress until the share is dropped.
    ///
    /// # Errors
    /// [`Refusal::TooMany`].
    pub(super) fn count(&self, client: &Client) -> Result<Option<Share>, Refusal> {
        self.quotas.take(client)
    }

    /// When a place is likely to be free: those in progress take as long as others did, and those that wait go first.
    fn retry_after(&self) -> Duration {
        let pace = lock(&self.pace);
        pace.typical.map_or(RETRY_UNKNOWN, |typical| {
            let waiting = self.limits.queue.saturating_sub(self.queue.available_permits()) as f64;
            let places = self.limits.in_progress;
            let seconds = pace.first_free_s(typical, places) + typical * waiting / places as f64;
            Duration::from_secs_f64(seconds.clamp(1.0, RETRY_MAX.as_secs_f64()))
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

/// A place for the request, at once or within the queue's wait, in which the more urgent ones go before it.
///
/// # Errors
/// [`Refusal::Busy`] with an estimate of when to come back.
pub(super) async fn admit(gate: &Gate, client: Client, rank: Rank, record: &mut Record) -> Result<Admitted, Refusal> {
    let share = gate.quotas.take(&client)?;
    match gate.place(rank).await {
        Some(place) => {
            record.admitted(&client);
            let permit = Permit::new(gate, place, share);
            Ok(Admitted { client, permit })
        }
        None => {
            share.iter().for_each(Share::give_back);
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
        Gate::new(limits, Board::new([]), Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_conserved_and_the_queue_is_bounded() {
        let gate = gate(1, 1);
        let first = gate.place(Rank::Reading).await.unwrap();
        let (second, third) = tokio::join!(biased; gate.place(Rank::Reading), async {
            let third = gate.place(Rank::Reading).await;
            drop(first);
            third
        });
        assert!(second.is_some(), "the queued one gets the place");
        assert!(third.is_none(), "the queue has one place");
        drop(second);
        assert!(gate.place(Rank::Reading).await.is_some());
        assert_eq!(gate.board.look(|status| status.queued), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queued_request_waits_no_longer_than_told() {
        let gate = gate(1, 1);
        let _first = gate.place(Rank::Reading).await.unwrap();
        assert!(gate.place(Rank::Reading).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_follows_what_requests_take() {
        let gate = gate(2, 0);
        assert_eq!(gate.retry_after(), RETRY_UNKNOWN);
        let permit = Permit::new(&gate, gate.place(Rank::Reading).await.unwrap(), None);
        tokio::time::advance(Duration::from_secs(120)).await;
        permit.answered();
        drop(permit);
        assert_eq!(gate.retry_after(), Duration::from_secs(30));
        // What was refused or remembered took no time, and says nothing.
        drop(Permit::new(&gate, gate.place(Rank::Reading).await.unwrap(), None));
        assert_eq!(gate.retry_after(), Duration::from_secs(30));
        let _running = Permit::new(&gate, gate.place(Rank::Reading).await.unwrap(), None);
        assert_eq!(gate.retry_after(), Duration::from_secs(120));
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(gate.retry_after(), Duration::from_secs(20));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_waited_for_makes_room() {
        let gate = gate(1, 0);
        let warm_up = Permit::new(&gate, gate.place(Rank::Reading).await.unwrap(), None);
        let mut stop = gate.stops.enter(7);
        assert!(gate.place(Rank::Reading).await.is_none(), "it may be waited for");
        warm_up.gives_way(7);
        let ends = async move {
            std::future::poll_fn(|cx| stop.poll(cx)).await;
            drop(warm_up);
        };
        let (place, ()) = tokio::join!(gate.place(Rank::Reading), ends);
        assert!(place.is_some());
    }
}
