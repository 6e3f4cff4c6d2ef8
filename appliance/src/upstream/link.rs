//! The connection to one upstream: opened at start, kept warm by HTTP/2 pings, opened again when it breaks. All requests
//! share it; a request that finds it down wakes the task that opens it.
//!
//! Spoken with `h2` itself rather than through hyper's client, which writes a request's head and its body apart: two
//! packets and two wake-ups of the server where one does.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::lifecycle::Tasks;
use cerebrum_common::tls::{ClientFiles, Reloading, TlsError};
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong, RecvStream};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::Frame;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::Upstream;
use super::breaker::Breaker;
use super::hold::{self, Left};
use super::trust::{self, Noted, Noting};
use crate::problem::Trouble;
use crate::status::{Board, Event};

/// For TCP, TLS and the HTTP/2 preface together.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a request waits for a connection that is being opened.
const WAIT: Duration = Duration::from_secs(3);

/// Pauses between attempts: the first, and the longest (a request wakes the task earlier).
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// How long attempts are refused until the server counts as gone: one that is started anew, or a tunnel's end, listens again
/// sooner, and says itself whether it has an answer.
const GONE: Duration = Duration::from_secs(10);

/// Pings notice a dead link, and keep routers on the way from forgetting it.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_ANSWER: Duration = Duration::from_secs(10);

/// Bytes in flight per answer; a token is about 20, so this rides out seconds of a slow reader. The connection's window
/// is as large as all of them together: readers that stall must not hold up the others.
const STREAM_WINDOW: u32 = 16 << 10;
const CONNECTION_WINDOW_MAX: u32 = 16 << 20;

/// What one byte of the window may cost in frames: h2 counts up to 256 for each small one, and a token's frame has eight
/// bytes or more. With its own budget h2 takes a window full of unread tokens for an attack, and closes the connection.
const FRAME_COST: usize = 256 / 8;

type Sender = SendRequest<Bytes>;

/// The way to one upstream.
#[derive(Debug)]
pub struct Link {
    host: String,
    port: u16,
    tls: Option<Arc<Reloading<ClientFiles>>>,
    window: u32,
    sender: watch::Sender<Option<Sender>>,
    wanted: Notify,
    /// The token of the next request that asks to be held; begins anywhere, so that a restarted appliance uses no old one.
    token: AtomicU64,
    tokens_of: u64,
    left: Left,
    holding: AtomicBool,
    /// Since when every attempt to connect has been refused.
    refused: watch::Sender<Option<Instant>>,
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
    Broke(h2::Error),
    /// A service could not be reached, or its answer broke off before its head.
    #[error("{0}")]
    Service(String),
    /// The server is being stopped, and takes nothing new.
    #[error("the server is shutting down")]
    Leaving,
}

impl From<h2::Error> for LinkError {
    fn from(error: h2::Error) -> Self {
        let orderly = error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
        if orderly { Self::Leaving } else { Self::Broke(error) }
    }
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
    Http2(#[from] h2::Error),
}

/// An answer's body. Dropped before its end, it resets the stream.
#[derive(Debug)]
pub struct Body(RecvStream);

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Some(data) = ready!(self.0.poll_data(cx)).transpose()? else { return Poll::Ready(None) };
        // Taken: the server may send as much again.
        self.0.flow_control().release_capacity(data.len())?;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
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
            token: AtomicU64::new(super::random()),
            tokens_of: super::random(),
            left: Left::default(),
            holding: AtomicBool::new(false),
            refused: watch::Sender::new(None),
        })
    }

    /// A token that no other request has.
    pub(super) fn next_token(&self) -> u128 {
        u128::from(self.tokens_of) << 64 | u128::from(self.token.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether the server held its newest answer.
    pub(super) fn is_holding(&self) -> bool {
        self.holding.load(Ordering::Relaxed)
    }

    /// Takes note of that.
    pub(super) fn holds(&self, newest: bool) {
        self.holding.store(newest, Ordering::Relaxed);
    }

    /// What is to be cancelled over the next connection.
    pub(super) fn left(&self) -> &Left {
        &self.left
    }

    /// Resolves when the server is gone, with a sentence: every attempt of [`GONE`] was refused. A link that is down is silent, or
    /// has no way there; a refusal comes from the machine, on which nobody listens any more.
    pub(super) async fn gone(&self) -> String {
        let mut refused = self.refused.subscribe();
        loop {
            let since = *refused.borrow_and_update();
            let long_enough = async {
                match since {
                    Some(since) => tokio::time::sleep_until(since + GONE).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = long_enough => return format!("nobody listens at {}:{} any more", self.host, self.port),
                // Its other end is this link.
                _ = refused.changed() => {}
            }
        }
    }

    fn attempted(&self, refused: bool) {
        let now = Instant::now();
        self.refused.send_if_modified(|since| {
            let before = *since;
            *since = refused.then(|| before.unwrap_or(now));
            *since != before
        });
    }

    /// The certificates in use, to follow their files.
    pub fn tls(&self) -> Option<&Arc<Reloading<ClientFiles>>> {
        self.tls.as_ref()
    }

    /// Whether there is a connection at this moment.
    pub fn is_up(&self) -> bool {
        self.sender.borrow().is_some()
    }

    /// Sends one request and waits for the head of its answer. Dropping the future, or the answer's body, resets the
    /// stream: that is how the server learns that nobody listens any more.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, LinkError> {
        let mut sender = self.sender().await?.ready().await?;
        let (mut head, body) = request.into_parts();
        if !body.is_empty() {
            head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let (response, mut stream) = sender.send_request(Request::from_parts(head, ()), body.is_empty())?;
        if !body.is_empty() {
            // Beside the head in h2's buffer, to go out with it; flow control holds back what the server cannot take yet.
            stream.send_data(body, true)?;
        }
        Ok(response.await?.map(Body))
    }

    async fn sender(&self) -> Result<Sender, LinkError> {
        if let Some(sender) = self.sender.borrow().as_ref() {
            return Ok(sender.clone());
        }
        self.wanted.notify_one();
        let mut watch = self.sender.subscribe();
        let found = tokio::time::timeout(WAIT, watch.wait_for(Option::is_some)).await;
        let sender = found.ok().and_then(Result::ok).and_then(|sender| sender.clone());
        sender.ok_or_else(|| LinkError::Down { host: self.host.clone(), port: self.port })
    }

    async fn connect(&self) -> Result<Open, ConnectError> {
        let opening = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            tune(&stream)?;
            match &self.tls {
                None => self.handshake(stream, Noted::default()).await,
                Some(tls) => {
                    let name =
                        ServerName::try_from(self.host.clone()).map_err(|_| ConnectError::Name(self.host.clone()))?;
                    let connector = tokio_rustls::TlsConnector::from(tls.current());
                    let stream = connector.connect(name, stream).await?;
                    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                        return Err(ConnectError::NoHttp2);
                    }
                    let noted = Noted::default();
                    self.handshake(Noting::new(stream, noted.clone()), noted).await
                }
            }
        };
        tokio::time::timeout(CONNECT, opening).await.unwrap_or(Err(ConnectError::Timeout))
    }

    async fn handshake<I>(&self, io: I, noted: Noted) -> Result<Open, ConnectError>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(self.window)
            .data_frame_budget(self.window as usize * FRAME_COST)
            .handshake(io)
            .await?;
        Ok(Open { sender, driver: Box::new(connection), noted })
    }
}

impl ConnectError {
    /// Whether the machine is there and nobody listens on it.
    fn is_refused(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused)
    }

    /// Whether somebody is not trusted.
    fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Io(error) => trust::trouble(error),
            _ => None,
        }
    }
}

fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    // Unanswered bytes for this long mean that the link is gone, whatever the pings say.
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(PING_EVERY + PING_ANSWER))
}

/// An open connection.
struct Open {
    sender: Sender,
    driver: Box<dyn Driver>,
    noted: Noted,
}

/// An open connection's work, whatever it runs over.
trait Driver: Future<Output = Result<(), h2::Error>> + Send + Unpin {
    /// Its pings; `None` when they have been taken.
    fn pings(&mut self) -> Option<PingPong>;
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Driver for Connection<I, Bytes> {
    fn pings(&mut self) -> Option<PingPong> {
        self.ping_pong()
    }
}

/// Keeps `upstream`'s connection open until the program stops.
pub(super) async fn keep(upstream: Arc<Upstream>, link: Arc<Link>, board: Board, tasks: Tasks) {
    let mut pause = PAUSE;
    while !tasks.is_stopping() {
        match link.connect().await {
            Ok(open) => {
                pause = PAUSE;
                link.attempted(false);
                tracing::info!(upstream = %upstream.name, "connected");
                run(&upstream, &link, open, &board, &tasks).await;
            }
            Err(error) => {
                tracing::warn!(upstream = %upstream.name, %error, "cannot connect");
                link.attempted(error.is_refused());
                board.tell(Event::Trouble { upstream: upstream.index, trouble: error.trouble() });
                upstream.unreachable();
                let spread = pause.mul_f64(0.8 + 0.4 * super::chance());
                tokio::select! {
                    () = tokio::time::sleep(spread) => {}
                    () = link.wanted.notified() => tokio::time::sleep(PAUSE.min(pause)).await,
                    () = tasks.stopping() => {}
                }
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// Publishes an open connection and drives it until it ends.
async fn run(upstream: &Upstream, link: &Link, open: Open, board: &Board, tasks: &Tasks) {
    let Open { sender, mut driver, noted } = open;
    upstream.breaker(Breaker::reconnected);
    link.sender.send_replace(Some(sender));
    board.tell(Event::Link { upstream: upstream.index, connected: true });
    let pings = driver.pings();
    // Not ended by `stopping`: streams in progress are drained over it.
    let ended = tokio::select! {
        ended = driver => ended.map_or_else(|error| error.to_string(), |()| "closed by the server".to_owned()),
        silence = keep_warm(pings) => silence,
        () = cancel_left(upstream, link) => String::new(),
        () = idle_stop(link, tasks) => String::new(),
    };
    link.sender.send_replace(None);
    board.tell(Event::Link { upstream: upstream.index, connected: false });
    if let Some(&trouble) = noted.get() {
        board.tell(Event::Trouble { upstream: upstream.index, trouble: Some(trouble) });
    }
    if !tasks.is_stopping() {
        tracing::warn!(upstream = %upstream.name, reason = ended, "connection lost");
    }
}

/// Pings for as long as they are answered; then the reason why not.
async fn keep_warm(pings: Option<PingPong>) -> String {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        tokio::time::sleep(PING_EVERY).await;
        match tokio::time::timeout(PING_ANSWER, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return format!("no answer to a ping within {} s", PING_ANSWER.as_secs()),
        }
    }
}

/// First of all over a new connection.
async fn cancel_left(upstream: &Upstream, link: &Link) {
    hold::cancel_left(upstream, link).await;
    std::future::pending().await
}

/// On a stop the connection stays for the streams in progress, and ends with the last of them.
async fn idle_stop(link: &Link, tasks: &Tasks) {
    tasks.stopping().await;
    link.sender.send_replace(None);
    std::future::pending().await
}
