//! Upstreams: inference servers the appliance forwards to. Each has a [`way`] to it (a [`link`] to a server of ours: one
//! connection, kept warm, and [`hold`]s for when it breaks; or to a [`service`] of somebody else's), a [`breaker`], a health
//! probe, and [`knowledge`] of its models. `trust` tells who refuses whom when TLS does.

pub mod breaker;
pub mod hold;
pub mod knowledge;
pub mod link;
pub mod probe;
pub mod service;
pub mod spread;
mod trust;
pub mod way;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cerebrum_common::keys::Secret;
use cerebrum_common::lifecycle::Tasks;
use cerebrum_common::tls::TlsError;
use http::{HeaderName, HeaderValue};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::settings;
use crate::status::{Board, Event};
use breaker::Breaker;
use knowledge::{Knowledge, Vocabularies};
use link::Link;
use service::Service;
use way::Way;

/// One inference server, ready for use.
#[derive(Debug)]
pub struct Upstream {
    /// Its place in the status.
    pub index: usize,
    /// Its name.
    pub name: Arc<str>,
    /// How it is spoken to.
    pub way: Way,
    /// What is known of its models.
    pub knowledge: Knowledge,
    /// Lower goes first.
    pub priority: u64,
    /// Its share of the requests among those of equal priority.
    pub weight: i64,
    /// It is the last resort, on this machine.
    pub local: bool,
    turn: spread::Turn,
    /// Which files its models were loaded from, as the newest probe told.
    versions: Mutex<Versions>,
    base: String,
    key: Option<(HeaderName, HeaderValue)>,
    breaker: Mutex<Breaker>,
    board: Board,
    probe: Notify,
}

/// Which files a server's models were loaded from.
#[derive(Debug, Default)]
struct Versions {
    /// As the newest probe told; none where the server does not tell.
    known: Option<BTreeMap<String, String>>,
    /// When it was asked out of turn.
    asked: Option<Instant>,
}

/// Pause between two questions out of turn.
const VERSIONS_EVERY: Duration = Duration::from_secs(2);

impl Upstream {
    /// Opens the connection in the background, keeps it, and probes the server's health until the program stops.
    ///
    /// # Errors
    /// TLS files that cannot be used.
    pub fn start(
        index: usize,
        settings: &settings::Upstream,
        (stream_slots, vocabularies): (usize, &Arc<Vocabularies>),
        board: &Board,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, TlsError> {
        let way = match &settings.service {
            None => Way::Frames(Arc::new(Link::new(&settings.url, settings.tls.clone(), stream_slots)?)),
            Some(service) => Way::Service(Arc::new(Service::new(service)?)),
        };
        let upstream = Arc::new(Self {
            index,
            name: settings.name.as_str().into(),
            way: way.clone(),
            knowledge: Knowledge::new(vocabularies.clone()),
            priority: settings.priority,
            weight: settings.weight,
            local: settings.local,
            turn: spread::Turn::default(),
            versions: Mutex::default(),
            base: service::base(&settings.url),
            key: settings.key.as_ref().and_then(|key| header(key, &way)),
            breaker: Mutex::new(Breaker::new(settings.breaker)),
            board: board.clone(),
            probe: Notify::new(),
        });
        match way {
            Way::Frames(link) => {
                tasks.spawn(link::keep(upstream.clone(), link, board.clone(), tasks.clone()));
                tasks.spawn(probe::keep(upstream.clone(), board.clone(), tasks.clone()));
            }
            Way::Service(service) => {
                tasks.spawn(service::keep(upstream.clone(), service, board.clone(), tasks.clone()));
            }
        }
        Ok(upstream)
    }

    /// Its own name for a model; none when it does not serve it.
    pub fn model<'a>(&'a self, asked: &'a str) -> Option<&'a str> {
        match &self.way {
            Way::Frames(_) => Some(asked),
            Way::Service(service) => service.model(asked),
        }
    }

    /// The names that it answers to, where it is no server of ours.
    pub fn names(&self) -> Vec<String> {
        match &self.way {
            Way::Frames(_) => Vec::new(),
            Way::Service(service) => service.names(),
        }
    }

    /// Which file `model` was loaded from, where that is known.
    pub fn version(&self, model: &str) -> Option<String> {
        self.versions().known.as_ref()?.get(model).cloned()
    }

    /// Whether it tells which files its models were loaded from.
    pub fn tells_versions(&self) -> bool {
        self.versions().known.is_some()
    }

    /// A model was loaded since the newest probe: another one, though not one after the other.
    pub fn ask_for_versions(&self) {
        let mut versions = self.versions();
        if versions.known.is_some() && versions.asked.is_none_or(|asked| asked.elapsed() > VERSIONS_EVERY) {
            versions.asked = Some(Instant::now());
            drop(versions);
            self.probe_now();
        }
    }

    /// Takes note of which files its models were loaded from, where it tells.
    fn loaded(&self, known: Option<BTreeMap<String, String>>) {
        self.versions().known = known;
    }

    fn versions(&self) -> MutexGuard<'_, Versions> {
        self.versions.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Tells the breaker something, or asks it; the status hears of what comes of it.
    pub fn breaker<T>(&self, change: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.breaker.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = breaker.state();
        let out = change(&mut breaker);
        let state = breaker.state();
        if state != before {
            // Still locked, so that no older word comes after a newer one.
            self.board.tell(Event::Breaker { upstream: self.index, state });
        }
        out
    }

    /// Whether a request may go through now.
    ///
    /// # Errors
    /// How long to wait.
    pub fn admit(self: &Arc<Self>) -> Result<Pass, Duration> {
        self.breaker(|breaker| breaker.admit(Instant::now()))?;
        Ok(Pass { upstream: self.clone(), verdict: Verdict::Undecided, alive: false })
    }

    /// Probes its health now rather than at the next turn.
    pub fn probe_now(&self) {
        self.probe.notify_one();
    }

    /// A request for this server, without a body.
    pub fn request(&self, method: http::Method, path: &str) -> http::request::Builder {
        self.request_below(&self.base, method, path)
    }

    /// The same for what is no call of OpenAI's: a service has that beside its `/v1`, not below it.
    pub fn request_beside(&self, method: http::Method, path: &str) -> http::request::Builder {
        self.request_below(self.base.strip_suffix("/v1").unwrap_or(&self.base), method, path)
    }

    fn request_below(&self, base: &str, method: http::Method, path: &str) -> http::request::Builder {
        let builder = http::Request::builder().method(method).uri(format!("{base}{path}"));
        match &self.key {
            Some((name, value)) => builder.header(name, value),
            None => builder,
        }
    }

    /// A service that nobody connects to, with its rank: whether it is the last resort, priority, weight.
    #[cfg(test)]
    pub(crate) fn stub(index: usize, (local, priority, weight): (bool, u64, i64)) -> Arc<Self> {
        let service = Service::new(&service::Settings::default()).unwrap();
        Arc::new(Self {
            index,
            name: "stub".into(),
            way: Way::Service(Arc::new(service)),
            priority,
            weight,
            local,
            turn: spread::Turn::default(),
            versions: Mutex::default(),
            knowledge: Knowledge::default(),
            base: String::new(),
            key: None,
            breaker: Mutex::new(Breaker::new(breaker::Policy::default())),
            board: Board::new([]),
            probe: Notify::new(),
        })
    }

    #[cfg(test)]
    pub(crate) fn stub_service(index: usize) -> Arc<Self> {
        Self::stub(index, (false, 0, 1))
    }

    /// An attempt to reach it failed.
    fn unreachable(&self) {
        self.breaker(|breaker| breaker.unreachable(Instant::now(), chance()));
    }
}

fn header(key: &Secret, way: &Way) -> Option<(HeaderName, HeaderValue)> {
    let (name, text) = match way {
        Way::Frames(_) => (HeaderName::from_static("x-api-key"), key.expose().to_owned()),
        Way::Service(_) => (http::header::AUTHORIZATION, format!("Bearer {}", key.expose())),
    };
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

/// A number in 0..1 that differs between boxes and moments; jitter needs no better one.
pub fn chance() -> f64 {
    (random() >> 11) as f64 / (1_u64 << 53) as f64
}

fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
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
            self.upstream.breaker(Breaker::alive);
        }
    }

    /// Whose pass it is.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
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
        self.upstream.breaker(|breaker| match self.verdict {
            Verdict::Undecided => breaker.undecided(),
            Verdict::Succeeded => breaker.succeeded(),
            Verdict::Failed => breaker.failed(Instant::now(), chance()),
        });
    }
}
