//! What each key may take: requests at a time, requests and tokens a minute. Settings say it for all, the key file for one.
//!
//! A minute's allowance is a bucket that fills evenly and holds one minute's worth, so that who was quiet may hurry once. Tokens
//! are known only when an answer ends: an answer may overdraw the bucket, and what is overdrawn has to fill again first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cerebrum_common::keys::{Allowance, Client};
use cerebrum_common::serve::Refusal;
use tokio::time::Instant;

/// What keys have taken.
#[derive(Debug)]
pub(super) struct Quotas {
    usual: Allowance,
    taken: Mutex<HashMap<Arc<str>, Taken>>,
}

#[derive(Debug)]
struct Taken {
    in_progress: u32,
    requests: Bucket,
    tokens: Bucket,
}

/// What is left of a minute's allowance; less than nothing when it is overdrawn.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

const MINUTE: f64 = 60.0;

/// What `Retry-After` says while a key's requests are all in progress: nobody knows when they end.
const IN_PROGRESS_RETRY: Duration = Duration::from_secs(5);

impl Bucket {
    fn full(allowed: Option<u32>, now: Instant) -> Self {
        Self { left: allowed.map_or(0.0, f64::from), at: now }
    }

    fn fill(&mut self, allowed: u32, now: Instant) {
        let allowed = f64::from(allowed);
        let gained = (now - self.at).as_secs_f64() * allowed / MINUTE;
        *self = Self { left: (self.left + gained).min(allowed), at: now };
    }

    /// How long until there is as much as `wanted` again.
    fn wait(&self, allowed: u32, wanted: f64) -> Option<Duration> {
        let lacking = wanted - self.left;
        (lacking > 0.0).then(|| Duration::from_secs_f64(lacking * MINUTE / f64::from(allowed)))
    }
}

/// A request's share of its key's allowance; dropped, its place is free.
#[derive(Debug)]
pub(super) struct Share {
    quotas: Arc<Quotas>,
    name: Arc<str>,
    allowance: Allowance,
}

impl Quotas {
    pub(super) fn new(usual: Allowance) -> Arc<Self> {
        Arc::new(Self { usual, taken: Mutex::default() })
    }

    /// Takes a share for a request of `client`; none is needed where nothing is limited.
    ///
    /// # Errors
    /// [`Refusal::TooMany`] with the time after which it is worth asking again.
    pub(super) fn take(self: &Arc<Self>, client: &Client) -> Result<Option<Share>, Refusal> {
        let allowance = client.allowance.or(self.usual);
        if allowance == Allowance::default() {
            return Ok(None);
        }
        let now = Instant::now();
        let mut all = self.lock();
        let taken = all.entry(client.name.clone()).or_insert_with(|| Taken {
            in_progress: 0,
            requests: Bucket::full(allowance.requests_per_minute, now),
            tokens: Bucket::full(allowance.tokens_per_minute, now),
        });
        if let Some(refusal) = taken.lacking(allowance, now) {
            return Err(refusal);
        }
        taken.in_progress += 1;
        taken.requests.left -= 1.0;
        Ok(Some(Share { quotas: self.clone(), name: client.name.clone(), allowance }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn lacking(&mut self, allowance: Allowance, now: Instant) -> Option<Refusal> {
        let too_many = |message, retry_after| Some(Refusal::TooMany { message, retry_after });
        if allowance.in_progress.is_some_and(|allowed| self.in_progress >= allowed) {
            return too_many("this key has as many requests in progress as it may have", IN_PROGRESS_RETRY);
        }
        if let Some(allowed) = allowance.requests_per_minute {
            self.requests.fill(allowed, now);
            if let Some(wait) = self.requests.wait(allowed, 1.0) {
                return too_many("this key has sent as many requests in a minute as it may send", wait);
            }
        }
        if let Some(allowed) = allowance.tokens_per_minute {
            self.tokens.fill(allowed, now);
            if let Some(wait) = self.tokens.wait(allowed, 1.0) {
                return too_many("this key has used as many tokens in a minute as it may use", wait);
            }
        }
        None
    }
}

impl Share {
    /// The request is so many more.
    pub(super) fn more(&self, requests: usize) {
        self.take(requests as f64);
    }

    /// The request was not taken: it does not count.
    pub(super) fn give_back(&self) {
        self.take(-1.0);
    }

    fn take(&self, requests: f64) {
        if let Some(taken) = self.quotas.lock().get_mut(&self.name) {
            taken.requests.left -= requests;
        }
    }

    /// Whether it matters how many tokens the request uses.
    pub(super) fn counts_tokens(&self) -> bool {
        self.allowance.tokens_per_minute.is_some()
    }

    /// The request used so many tokens, read and written.
    pub(super) fn spend(&self, tokens: u32) {
        if self.counts_tokens()
            && let Some(taken) = self.quotas.lock().get_mut(&self.name)
        {
            taken.tokens.left -= f64::from(tokens);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(taken) = self.quotas.lock().get_mut(&self.name) {
            taken.in_progress -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str, allowance: Allowance) -> Client {
        Client { name: name.into(), allowance }
    }

    fn wait(outcome: Result<Option<Share>, Refusal>) -> u64 {
        match outcome {
            Err(Refusal::TooMany { retry_after, .. }) => retry_after.as_secs(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_key_has_its_own_allowance_and_the_key_files_word_goes_first() {
        let quotas = Quotas::new(Allowance { in_progress: Some(1), ..Allowance::default() });
        let (a, b) = (client("a", Allowance::default()), client("b", Allowance::default()));
        let share = quotas.take(&a).unwrap();
        assert!(share.is_some());
        assert_eq!(wait(quotas.take(&a)), 5);
        assert!(quotas.take(&b).is_ok());
        let own = client("a", Allowance { in_progress: Some(2), ..Allowance::default() });
        assert!(quotas.take(&own).is_ok());
        drop(share);
        assert!(quotas.take(&a).is_ok());
        assert!(Quotas::new(Allowance::default()).take(&a).unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_minutes_requests_come_back_evenly() {
        let quotas = Quotas::new(Allowance { requests_per_minute: Some(6), ..Allowance::default() });
        let a = client("a", Allowance::default());
        for _ in 0..6 {
            quotas.take(&a).unwrap();
        }
        assert_eq!(wait(quotas.take(&a)), 10);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(quotas.take(&a).is_ok());
        assert_eq!(wait(quotas.take(&a)), 10);
        tokio::time::advance(Duration::from_secs(3600)).await;
        for _ in 0..6 {
            quotas.take(&a).unwrap();
        }
        assert_eq!(wait(quotas.take(&a)), 10, "an hour of silence saves no more than a minute's worth");
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_counted_when_they_are_known() {
        let quotas = Quotas::new(Allowance { tokens_per_minute: Some(60), ..Allowance::default() });
        let a = client("a", Allowance::default());
        let share = quotas.take(&a).unwrap().unwrap();
        share.spend(89);
        assert_eq!(wait(quotas.take(&a)), 30);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(quotas.take(&a).is_ok());
    }
}
