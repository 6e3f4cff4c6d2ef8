//! Where the status lives: whoever has news tells it here, whoever shows something looks here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::pace::Pace;
use super::requests::Requests;
use super::savings::Savings;
use super::{Event, Probe, Status, Totals, UpstreamStatus, reduce};
use crate::problem::Strain;
use crate::upstream::breaker;

/// Where events go and the newest status is read. Clones share one status.
#[derive(Clone, Debug)]
pub struct Board(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    status: Mutex<Status>,
    /// Counts what happened to connections, the only news that anybody waits for: whatever shows something looks from time to
    /// time, and no token has to wake it.
    links: watch::Sender<u64>,
    numbers: AtomicU64,
}

impl Board {
    /// A fresh status over the named upstreams.
    pub fn new(upstreams: impl IntoIterator<Item = Arc<str>>) -> Self {
        let upstream = |name| UpstreamStatus {
            name,
            connected: false,
            probe: Probe::Pending,
            refusing_since: None,
            trouble: None,
            breaker: breaker::State::Closed { failures: 0 },
        };
        let status = Mutex::new(Status {
            started: Instant::now(),
            requests: Requests::default(),
            queued: 0,
            totals: Totals::default(),
            pace: Pace::default(),
            savings: Savings::default(),
            upstreams: upstreams.into_iter().map(upstream).collect(),
            cpu_percent: 0.0,
            addresses: Vec::new(),
            unplugged_since: None,
            alone_since: Some(Instant::now()),
            strain: Strain::default(),
            keys_sound: true,
            update: None,
            dismissed: Vec::new(),
        });
        Self(Arc::new(Shared { status, links: watch::Sender::new(0), numbers: AtomicU64::new(0) }))
    }

    /// A number that no other request has.
    pub fn number(&self) -> u64 {
        self.0.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Folds in what happened. Never waits.
    pub fn tell(&self, event: Event) {
        let link = matches!(event, Event::Link { .. });
        reduce(&mut self.lock(), event, Instant::now());
        if link {
            self.0.links.send_modify(|news| *news += 1);
        }
    }

    /// Looks at the newest status.
    pub fn look<T>(&self, look: impl FnOnce(&Status) -> T) -> T {
        look(&self.lock())
    }

    /// Waits until `wanted` is true; it is looked at now, and whenever a connection was made or lost.
    pub async fn connected(&self, wanted: impl Fn(&Status) -> bool) {
        let mut links = self.0.links.subscribe();
        while !self.look(&wanted) {
            // Its other end is this board.
            links.changed().await.unwrap_or_default();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.0.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
