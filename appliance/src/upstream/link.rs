//! The connection to one upstream: opened at start, kept warm by HTTP/2 pings, opened again when it breaks. All requests
//! share it; a request that finds it down wakes the task that opens it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::lifecycle::Tasks;
use cerebrum_common::tls::{ClientFiles, Reloading, TlsError};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

use super::Upstream;
use crate::status::{Board, Event};

/// For TCP, TLS and the HTTP/2 preface together.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a request waits for a connection that is being opened.
const WAIT: Duration = Duration::from_secs(3);

/// Pauses between attempts: the first, and the longest (a request wakes the task earlier).
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Pings notice a dead link, and keep routers on the way from forgetting it.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_ANSWER: Duration = Duration::from_secs(10);

/// Bytes in flight per answer; a token is about 20, so this rides out seconds of a slow reader. The connection's window
/// is as large as all of them together: readers that stall must not hold up the others.
const STREAM_WINDOW: u32 = 16 << 10;
const CONNECTION_WINDOW_MAX: u32 = 16 << 20;

type Sender = SendRequest<Full<Bytes>>;

/// The way to one upstream.
#[derive(Debug)]
pub struct Link {
    host: String,
    port: u16,
    tls: Option<Arc<Reloading<ClientFiles>>>,
    window: u32,
    sender: watch::Sender<Option<Sender>>,
    wanted: Notify,
}

/// Why a request could not be handed over, or got no answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no connection, and none came in time.
    #[error("no connection to {host}:{port} within {} ms", WAIT.as_millis())]
    Down {
        /// The server.
        host: String,
        /// Its port.
        port: u16,
    },
    /// The connection broke before the answer's head.
    #[error("the connection broke: {0}")]
    Broke(#[source] hyper::Error),
}

/// Why a connection cannot be opened.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("no connection within {} ms", CONNECT.as_millis())]
    Timeout,
    #[error("the server does not speak HTTP/2 over TLS (ALPN h2)")]
    NoHttp2,
    #[error("{0:?} is not a host name")]
    Name(String),
    #[error("HTTP/2: {0}")]
    Http2(#[from] hyper::Error),
}

impl Link {
    /// A link that is not connected yet; `keep` connects it.
    ///
    /// # Errors
    /// TLS files that cannot be used.
    pub fn new(url: &Uri, tls: Option<ClientFiles>, stream_slots: usize) -> Result<Self, TlsError> {
        let secure = url.scheme_str() == Some("https");
        let slots = u32::try_from(stream_slots).unwrap_or(u32::MAX);
        Ok(Self {
            host: url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
            port: url.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            tls: tls.filter(|_| secure).map(Reloading::new).transpose()?.map(Arc::new),
            window: STREAM_WINDOW.saturating_mul(slots.saturating_add(2)).clamp(64 << 10, CONNECTION_WINDOW_MAX),
            sender: watch::Sender::new(None),
            wanted: Notify::new(),
        })
    }

    /// The certificates in use, to follow their files.
    pub fn tls(&self) -> Option<&Arc<Reloading<ClientFiles>>> {
        self.tls.as_ref()
    }

    /// Whether there is a connection at this moment.
    pub fn is_up(&self) -> bool {
        self.sender.borrow().as_ref().is_some_and(|sender| !sender.is_closed())
    }

    /// Sends one request and waits for the head of its answer. Dropping the future, or the answer's body, resets the
    /// stream: that is how the server learns that nobody listens any more.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, LinkError> {
        let mut sender = self.sender().await?;
        sender.send_request(request).await.map_err(LinkError::Broke)
    }

    async fn sender(&self) -> Result<Sender, LinkError> {
        let usable = |sender: &Option<Sender>| sender.as_ref().is_some_and(|sender| !sender.is_closed());
        if let Some(sender) = self.sender.borrow().as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        self.wanted.notify_one();
        let mut watch = self.sender.subscribe();
        let found = tokio::time::timeout(WAIT, watch.wait_for(usable)).await;
        let sender = found.ok().and_then(Result::ok).and_then(|sender| sender.clone());
        sender.ok_or_else(|| LinkError::Down { host: self.host.clone(), port: self.port })
    }

    async fn connect(&self) -> Result<(Sender, Box<dyn Driver>), ConnectError> {
        let opening = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            tune(&stream)?;
            match &self.tls {
                None => self.handshake(stream).await,
                Some(tls) => {
                    let name =
                        ServerName::try_from(self.host.clone()).map_err(|_| ConnectError::Name(self.host.clone()))?;
                    let connector = tokio_rustls::TlsConnector::from(tls.current());
                    let stream = connector.connect(name, stream).await?;
                    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                        return Err(ConnectError::NoHttp2);
                    }
                    self.handshake(stream).await
                }
            }
        };
        tokio::time::timeout(CONNECT, opening).await.unwrap_or(Err(ConnectError::Timeout))
    }

    async fn handshake<I>(&self, io: I) -> Result<(Sender, Box<dyn Driver>), ConnectError>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(self.window)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_ANSWER)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(io))
            .await?;
        Ok((sender, Box::new(connection)))
    }
}

fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    // Unanswered bytes for this long mean that the link is gone, whatever the pings say.
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(PING_EVERY + PING_ANSWER))
}

/// An open connection's work, whatever it runs over.
trait Driver: Future<Output = Result<(), hyper::Error>> + Send + Unpin {}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Driver for Connection<TokioIo<I>, Full<Bytes>, TokioExecutor> {}

/// Keeps `upstream`'s connection open until the program stops.
pub(super) async fn keep(upstream: Arc<Upstream>, board: Board, tasks: Tasks) {
    let mut pause = PAUSE;
    while !tasks.is_stopping() {
        match upstream.link.connect().await {
            Ok((sender, driver)) => {
                pause = PAUSE;
                tracing::info!(upstream = %upstream.name, "connected");
                run(&upstream, sender, driver, &board, &tasks).await;
            }
            Err(error) => {
                tracing::warn!(upstream = %upstream.name, %error, "cannot connect");
                upstream.failed();
                let spread = pause.mul_f64(0.8 + 0.4 * super::chance());
                tokio::select! {
                    () = tokio::time::sleep(spread) => {}
                    () = upstream.link.wanted.notified() => tokio::time::sleep(PAUSE.min(pause)).await,
                    () = tasks.stopping() => {}
                }
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// Publishes an open connection and drives it until it ends.
async fn run(upstream: &Upstream, sender: Sender, driver: Box<dyn Driver>, board: &Board, tasks: &Tasks) {
    upstream.breaker().reconnected();
    upstream.link.sender.send_replace(Some(sender));
    board.tell(Event::Link { upstream: upstream.index, connected: true });
    // Not ended by `stopping`: streams in progress are drained over it.
    let ended = tokio::select! {
        ended = driver => ended,
        () = idle_stop(&upstream.link, tasks) => Ok(()),
    };
    upstream.link.sender.send_replace(None);
    board.tell(Event::Link { upstream: upstream.index, connected: false });
    if !tasks.is_stopping() {
        let reason = ended.err().map_or_else(|| "closed by the server".to_owned(), |error| error.to_string());
        tracing::warn!(upstream = %upstream.name, reason, "connection lost");
    }
}

/// On a stop the connection stays for the streams in progress, and ends with the last of them.
async fn idle_stop(link: &Link, tasks: &Tasks) {
    tasks.stopping().await;
    link.sender.send_replace(None);
    std::future::pending().await
}
