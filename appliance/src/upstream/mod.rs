//! Upstreams: inference servers the appliance forwards to. Each has a [`link`] (one connection, kept warm), a
//! [`breaker`] and a health probe. `trust` tells who refuses whom when TLS does.

pub mod breaker;
pub mod link;
pub mod probe;
mod trust;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cerebrum_common::keys::Secret;
use cerebrum_common::lifecycle::Tasks;
use cerebrum_common::tls::TlsError;
use http::{HeaderValue, Uri};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::settings;
use crate::status::Board;
use breaker::Breaker;
use link::Link;

/// One inference server, ready for use.
#[derive(Debug)]
pub struct Upstream {
    /// Its place in the status.
    pub index: usize,
    /// Its name.
    pub name: Arc<str>,
    /// The connection.
    pub link: Link,
    url: Uri,
    key: Option<HeaderValue>,
    breaker: Mutex<Breaker>,
    probe: Notify,
}

impl Upstream {
    /// Opens the connection in the background, keeps it, and probes the server's health until the program stops.
    ///
    /// # Errors
    /// TLS files that cannot be used.
    pub fn start(
        index: usize,
        settings: &settings::Upstream,
        stream_slots: usize,
        board: &Board,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, TlsError> {
        let upstream = Arc::new(Self {
            index,
            name: settings.name.as_str().into(),
            link: Link::new(&settings.url, settings.tls.clone(), stream_slots)?,
            url: settings.url.clone(),
            key: settings.key.as_ref().and_then(header),
            breaker: Mutex::new(Breaker::new(settings.breaker)),
            probe: Notify::new(),
        });
        tasks.spawn(link::keep(upstream.clone(), board.clone(), tasks.clone()));
        tasks.spawn(probe::keep(upstream.clone(), board.clone(), tasks.clone()));
        Ok(upstream)
    }

    /// The breaker, for one decision.
    pub fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whether a request may go through now.
    ///
    /// # Errors
    /// How long to wait.
    pub fn admit(self: &Arc<Self>) -> Result<Pass, Duration> {
        self.breaker().admit(Instant::now())?;
        Ok(Pass { upstream: self.clone(), verdict: Verdict::Undecided, alive: false })
    }

    /// Probes its health now rather than at the next turn.
    pub fn probe_now(&self) {
        self.probe.notify_one();
    }

    /// A request for this server, without a body.
    pub fn request(&self, method: http::Method, path: &str) -> http::request::Builder {
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        let scheme = self.url.scheme_str().unwrap_or("http");
        let base = self.url.path().trim_end_matches('/');
        let builder = http::Request::builder().method(method).uri(format!("{scheme}://{authority}{base}{path}"));
        match &self.key {
            Some(key) => builder.header("x-api-key", key),
            None => builder,
        }
    }

    /// An attempt to reach it failed.
    fn failed(&self) {
        self.breaker().failed(Instant::now(), chance());
    }
}

fn header(key: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(key.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A number in 0..1 that differs between boxes and moments; jitter needs no better one.
pub fn chance() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let drawn = std::collections::hash_map::RandomState::new().build_hasher().finish();
    (drawn >> 11) as f64 / (1_u64 << 53) as f64
}

/// What an admitted request has told about its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Undecided,
    Succeeded,
    Failed,
}

/// Leave to send one request. Dropped, it reports to the breaker, so that no way out of a request forgets to.
#[derive(Debug)]
pub struct Pass {
    upstream: Arc<Upstream>,
    verdict: Verdict,
    alive: bool,
}

impl Pass {
    /// The server answers: where this request is the probe of a half-open breaker, others need not wait for its end.
    pub fn alive(&mut self) {
        if !self.alive {
            self.alive = true;
            self.upstream.breaker().alive();
        }
    }

    /// The server does not take our key: the board shall know soon.
    pub fn key_refused(&self) {
        self.upstream.probe_now();
    }

    /// The server answered as it should.
    pub fn succeeded(&mut self) {
        self.verdict = Verdict::Succeeded;
    }

    /// The server, or the way to it, failed.
    pub fn failed(&mut self) {
        self.verdict = Verdict::Failed;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut breaker = self.upstream.breaker();
        match self.verdict {
            Verdict::Undecided => breaker.undecided(),
            Verdict::Succeeded => breaker.succeeded(),
            Verdict::Failed => breaker.failed(Instant::now(), chance()),
        }
    }
}
