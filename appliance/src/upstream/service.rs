//! An OpenAI-compatible service as an upstream: llama-server, vLLM, Ray Serve, a hosted one. Spoken over a pool of HTTP
//! connections; whether it is there is known from its list of models, asked for every few seconds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::lifecycle::Tasks;
use cerebrum_common::tls::{TlsError, client_roots};
use cerebrum_common::wire::dialect::openai::Manner;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Upstream;
use super::breaker::Breaker;
use super::link::LinkError;
use crate::problem::Trouble;
use crate::status::{Board, Event, Probe};

/// Pause between two looks at it: when it was there, and when not.
const EVERY: Duration = Duration::from_secs(10);
const EVERY_DOWN: Duration = Duration::from_secs(2);

/// For one answer to that question, and its size in bytes.
const ANSWER: Duration = Duration::from_secs(5);
const ANSWER_BYTES: usize = 4 << 20;

/// For a TCP connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Connections without a request are closed after this time: before most servers do, so that none is used as it closes.
const IDLE: Duration = Duration::from_secs(20);

/// What the settings say of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Its CA; the system's roots when absent.
    pub ca: Option<PathBuf>,
    /// The names by which its models are asked for here, and its own for them. Empty passes every name on.
    pub models: BTreeMap<String, String>,
    /// What it takes.
    pub manner: Manner,
}

/// The way to one service.
#[derive(Debug)]
pub struct Service {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    settings: Settings,
    up: AtomicBool,
    /// The models that it listed when it was last asked.
    listed: Mutex<Vec<String>>,
    wanted: Notify,
}

impl Service {
    /// A way that has not been tried yet; `keep` tries it.
    ///
    /// # Errors
    /// A CA, or roots of the system, that cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, TlsError> {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT));
        http.set_keepalive(Some(Duration::from_secs(30)));
        http.enforce_http(false);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(client_roots(settings.ca.as_deref())?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self {
            client,
            settings: settings.clone(),
            up: AtomicBool::new(false),
            listed: Mutex::default(),
            wanted: Notify::new(),
        })
    }

    /// Whether it answered when it was last asked.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// The service's own name for a model; none when it does not serve it.
    pub fn model<'a>(&'a self, asked: &'a str) -> Option<&'a str> {
        match self.settings.models.is_empty() {
            true => Some(asked),
            false => self.settings.models.get(asked).map(String::as_str),
        }
    }

    /// The names by which its models are asked for here: those of the settings, or all that it lists.
    pub fn names(&self) -> Vec<String> {
        match self.settings.models.is_empty() {
            true => self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            false => self.settings.models.keys().cloned().collect(),
        }
    }

    /// What it takes.
    pub fn manner(&self) -> Manner {
        self.settings.manner
    }

    /// Sends one request and waits for the head of its answer. Dropping the future, or the answer's body, closes the
    /// connection: that is how the service learns that nobody listens any more.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Incoming>, LinkError> {
        let sent = self.client.request(request.map(Full::new)).await;
        sent.map_err(|error| {
            if error.is_connect() {
                self.up.store(false, Ordering::Relaxed);
                self.wanted.notify_one();
            }
            LinkError::Service(sentence(&error))
        })
    }
}

/// An error with its causes, the last of which tells most.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

/// Looks at the service until the program stops.
pub(super) async fn keep(upstream: Arc<Upstream>, service: Arc<Service>, board: Board, tasks: Tasks) {
    loop {
        let asked = Instant::now();
        let there = tokio::time::timeout(ANSWER, models(&upstream, &service))
            .await
            .unwrap_or_else(|_| Err(Absent::from("no answer in time".to_owned())));
        let before = service.up.swap(there.is_ok(), Ordering::Relaxed);
        match (&there, before) {
            (Ok(()), false) => {
                tracing::info!(upstream = %upstream.name, "connected");
                upstream.breaker(Breaker::reconnected);
            }
            (Err(absent), true) => tracing::warn!(upstream = %upstream.name, reason = absent.reason, "connection lost"),
            _ => {}
        }
        if there.is_err() {
            upstream.unreachable();
        }
        board.tell(Event::Link { upstream: upstream.index, connected: there.is_ok() });
        let trouble = there.as_ref().err().and_then(|absent| absent.trouble);
        board.tell(Event::Trouble { upstream: upstream.index, trouble });
        let probe = match there {
            Ok(()) => Probe::Answered { status: "healthy".into(), available: true, round_trip: asked.elapsed() },
            Err(_) => Probe::Failed,
        };
        let pause = if matches!(probe, Probe::Failed) { EVERY_DOWN } else { EVERY };
        board.tell(Event::Probed { upstream: upstream.index, probe });
        let next = async {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = service.wanted.notified() => {}
                () = upstream.probe.notified() => {}
            }
        };
        if tasks.until_stopping(next).await.is_none() {
            return;
        }
    }
}

/// Why a service is not there.
struct Absent {
    reason: String,
    /// What a person has to mend.
    trouble: Option<Trouble>,
}

impl From<String> for Absent {
    fn from(reason: String) -> Self {
        Self { reason, trouble: None }
    }
}

/// Most names that are kept of a service's list: a hosted one has some hundred.
const MODELS: usize = 1000;

#[derive(Default, Deserialize)]
struct List {
    #[serde(default)]
    data: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
}

async fn models(upstream: &Upstream, service: &Service) -> Result<(), Absent> {
    let request = upstream.request(Method::GET, "/models").body(Bytes::new()).map_err(|error| error.to_string())?;
    let response = service.send(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    // Read to its end, so that the connection can be used again.
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await.map_err(|error| error.to_string())?;
    if status.is_success() {
        // One that tells no models may have some.
        let list: List = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        let names = list.data.into_iter().take(MODELS).map(|model| model.id).collect();
        *service.listed.lock().unwrap_or_else(PoisonError::into_inner) = names;
        return Ok(());
    }
    let key = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let reason = format!("it answered {status} when asked for its models");
    Err(Absent { reason, trouble: key.then_some(Trouble::Key) })
}

/// The base of every call: what the settings give, less a slash at its end.
pub(super) fn base(url: &Uri) -> String {
    url.to_string().trim_end_matches('/').to_owned()
}
