//! A server in this process on a loopback port, with scripted models, and a small client that hides nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cerebrum_common::event_log::Retention;
use cerebrum_common::keyring::Keyring;
use cerebrum_common::keys::{KnownKey, Secret};
use cerebrum_common::lifecycle::Tasks;
use cerebrum_common::serve::{self, Server, bind};
use cerebrum_common::wire::{InferenceEvent, frame, sse};
use cerebrum_engine::scripted::Script;
use cerebrum_engine::{Engine, Limits};
use cerebrum_server::guards::{self, Vitals};
use cerebrum_server::http::hold::RETENTION;
use cerebrum_server::http::{Api, Holds, Renderer};
use cerebrum_server::registry::{Catalog, Parts, Registry, Starter};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// How long any wait of a test may take. Reaching it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const KEY: &str = "k";
pub(crate) const OTHER_KEY: &str = "l";

/// A machine with room for everything.
pub(crate) const ROOM: Vitals =
    Vitals { cpu_percent: 0.0, others_percent: 0.0, ram_available: 64 << 30, ram_used: 1 << 30 };

pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) registry: Registry,
    pub(crate) vitals: watch::Sender<Vitals>,
    pub(crate) tasks: Tasks,
    pub(crate) holds: Arc<Holds>,
    _folder: Option<tempfile::TempDir>,
}

/// One slot, no queue: the second request finds it busy.
pub(crate) const ONE: Limits = Limits { slots: 1, queue: 0, chunk_tokens: 64, prefix_bytes: 0, draft_tokens: 0 };

/// A server whose models `tiny` and `other` follow `script`.
pub(crate) fn scripted(script: Script, limits: Limits) -> Site {
    with_models(script, limits, Retention { time: Duration::from_millis(500), ..RETENTION })
}

/// The same with one slot, that holds answers like this.
pub(crate) fn holding(script: Script, holding: Retention) -> Site {
    with_models(script, ONE, holding)
}

fn with_models(script: Script, limits: Limits, holding: Retention) -> Site {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tiny", "other"] {
        std::fs::write(folder.path().join(format!("{name}.gguf")), "GGUF").unwrap();
    }
    let starter: Starter = Box::new(move |found| Engine::start(&found.name, limits, script.clone().loader()));
    let path = folder.path().to_owned();
    Site { _folder: Some(folder), ..site_holding(&path, starter, holding) }
}

/// A server over the models of `folder`.
pub(crate) fn site(folder: &Path, starter: Starter) -> Site {
    site_holding(folder, starter, RETENTION)
}

fn site_holding(folder: &Path, starter: Starter, holding: Retention) -> Site {
    let holds = Arc::new(Holds::new(holding));
    let tasks = Tasks::new();
    let catalog = Catalog {
        folder: folder.to_owned(),
        aliases: [("qwen_7b".to_owned(), "tiny".to_owned())].into(),
        default: Some("tiny".to_owned()),
    };
    let memory = Box::new(|| 64 << 30);
    let registry = Registry::new(Parts {
        catalog,
        starter,
        cache: Box::new(|_| 0),
        memory,
        min_free_ram: 0,
        tasks: tasks.clone(),
    });
    let (publish, vitals) = watch::channel(ROOM);
    let limits = serve::Limits { body_bytes: 64 << 10, ..serve::Limits::default() };
    let keys = [("test", KEY), ("other", OTHER_KEY)].map(|(name, key)| KnownKey::new(name, &Secret::new(key))).into();
    let service = Arc::new(Api {
        keys: Keyring::new(None, keys).unwrap().into(),
        limits,
        tokens: Default::default(),
        guards: guards::Limits::default(),
        vitals,
        registry: registry.clone(),
        renderer: Renderer::Here,
        heartbeat: Duration::from_millis(20),
        holds: holds.clone(),
        tasks: tasks.clone(),
        started: Instant::now(),
    });
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(Server { service, limits, tls: None, tasks: tasks.clone() }.run(listener));
    Site { address, registry, vitals: publish, tasks, holds, _folder: None }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// An answer in progress. Dropping it closes the connection (HTTP/1.1) or resets the stream (HTTP/2).
pub(crate) struct Stream {
    pub(crate) response: Response<Incoming>,
    pub(crate) connection: Connection,
    // An HTTP/2 connection ends with its last sender.
    pub(crate) sender: Box<dyn Send>,
    pub(crate) socket: std::net::TcpStream,
}

/// Closes its socket when dropped.
pub(crate) struct Connection(pub(crate) tokio::task::AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Site {
    /// Any request with these headers.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let exchange = async {
            let mut stream = self.send(false, method, path, headers, body.into()).await;
            let body = stream.response.body_mut().collect().await.unwrap().to_bytes();
            Answer { status: stream.response.status().as_u16(), headers: stream.response.headers().clone(), body }
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("no answer in time")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, &[("x-api-key", KEY)], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: impl ToString) -> Answer {
        self.request(Method::POST, path, &[("x-api-key", KEY)], body.to_string()).await
    }

    pub(crate) async fn frames(&self, body: Bytes) -> Answer {
        let headers = [("authorization", "Bearer k"), ("content-type", frame::MEDIA_TYPE)];
        self.request(Method::POST, "/v1/inference/stream", &headers, body).await
    }

    /// A stream whose head has arrived.
    pub(crate) async fn open(&self, h2: bool, body: Value) -> Stream {
        let headers = [("x-api-key", KEY)];
        let sending = self.send(h2, Method::POST, "/v1/inference/stream", &headers, body.to_string().into());
        tokio::time::timeout(PATIENCE, sending).await.expect("no answer in time")
    }

    pub(crate) async fn send(
        &self,
        h2: bool,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Stream {
        let connected = TcpStream::connect(self.address).await.unwrap().into_std().unwrap();
        let socket = connected.try_clone().unwrap();
        let io = TokioIo::new(TcpStream::from_std(connected).unwrap());
        let uri = if h2 { format!("http://{}{path}", self.address) } else { path.to_owned() };
        let mut request = Request::builder().method(method).uri(uri);
        if !h2 {
            request = request.header("host", "test");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).unwrap();
        if h2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            let connection = background(async { drop(connection.await) });
            Stream {
                response: sender.send_request(request).await.unwrap(),
                connection,
                sender: Box::new(sender),
                socket,
            }
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            let connection = background(async { drop(connection.await) });
            Stream {
                response: sender.send_request(request).await.unwrap(),
                connection,
                sender: Box::new(sender),
                socket,
            }
        }
    }

    /// Waits until all models are idle.
    pub(crate) async fn idle(&self) {
        eventually(|| self.registry.snapshots().iter().all(|model| model.active == 0 && model.queued == 0)).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's connection ends with the test, not with a program")]
fn background(task: impl Future<Output = ()> + Send + 'static) -> Connection {
    Connection(tokio::spawn(task).abort_handle())
}

impl Stream {
    /// Breaks the connection under the answer.
    pub(crate) fn cut(&self) {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
    }

    /// Bytes of the body until they contain `wanted`.
    pub(crate) async fn until(&mut self, wanted: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(wanted) {
            let frame =
                tokio::time::timeout(PATIENCE, self.response.body_mut().frame()).await.expect("nothing in time");
            let frame = frame.unwrap_or_else(|| panic!("the stream ended without {wanted:?}: {seen}")).unwrap();
            seen.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        seen
    }
}

/// Waits for a condition, which is looked at again and again.
pub(crate) async fn eventually(condition: impl Fn() -> bool) {
    let looking = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("it never came true");
}

/// The JSON of an event stream.
pub(crate) fn events(body: &[u8]) -> Vec<Value> {
    let mut decoder = sse::Decoder::default();
    decoder.push(&Bytes::copy_from_slice(body)).unwrap();
    std::iter::from_fn(|| decoder.next()).map(|event| serde_json::from_str(&event.data).unwrap()).collect()
}

/// The events of a framed answer.
pub(crate) fn framed(body: Bytes) -> Vec<InferenceEvent> {
    let mut decoder = frame::Decoder::new(1 << 20);
    decoder.push(body);
    std::iter::from_fn(|| decoder.next().unwrap()).collect()
}

/// The log of this process, from the first call on.
pub(crate) fn log() -> &'static Mutex<Vec<u8>> {
    static LOG: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();
    let mut first = false;
    let log = LOG.get_or_init(|| {
        first = true;
        Mutex::default()
    });
    if first {
        let level = tracing_subscriber::filter::LevelFilter::TRACE;
        tracing_subscriber::fmt().with_ansi(false).with_max_level(level).with_writer(|| Sink).init();
    }
    log
}

struct Sink;

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        log().lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The lines of the log so far that contain `part`.
pub(crate) fn lines(part: &str) -> Vec<String> {
    let log = log().lock().unwrap();
    String::from_utf8_lossy(&log).lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
}
