//! Where the status lives: whoever has news tells it here, whoever shows something looks here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
pub struct Board {
    status: watch::Sender<Status>,
    numbers: Arc<AtomicU64>,
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
        let (status, _) = watch::channel(Status {
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
        Self { status, numbers: Arc::default() }
    }

    /// A number that no other request has.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Folds in what happened. Never waits.
    pub fn tell(&self, event: Event) {
        self.status.send_modify(|status| reduce(status, event, Instant::now()));
    }

    /// Looks at the newest status.
    pub fn look<T>(&self, look: impl FnOnce(&Status) -> T) -> T {
        look(&self.status.borrow())
    }

    /// Follows the status.
    pub fn follow(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }
}
