//! One connection: its first bytes, TLS, HTTP/1.1 or HTTP/2, the deadlines hyper does not have, and its end.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::shared::Shared;
use super::watched::{Connection, Watched};
use super::{Server, Service};

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// What became of the connection.
    pub connection: Connection,
}

/// Largest request head, in bytes.
const HEAD_BYTES: usize = 32 << 10;

/// HTTP/2: concurrent streams of one connection, its window of bytes in flight, and the ping that notices dead links.
const H2_STREAMS: u32 = 1024;
const H2_WINDOW: u32 = 256 << 10;
const H2_PING: Duration = Duration::from_secs(20);

/// Serves one connection to its end.
pub(super) async fn serve<S: Service>(
    server: &Arc<Server<S>>,
    stream: TcpStream,
    address: SocketAddr,
    waiting: Waiting,
) {
    if let Err(error) = tune(&stream, server.limits.unanswered) {
        tracing::debug!(%address, %error, "socket options");
    }
    let ticket = Entry(waiting.enter());
    let outcome = tokio::select! {
        outcome = speak(server, stream, address, &ticket.0) => outcome,
        () = ticket.0.evicted() => Err("closed to make room for another connection".into()),
    };
    if let Err(error) = outcome {
        tracing::debug!(%address, error = &*error, "connection ended");
    }
}

/// After half of `unanswered` in silence the kernel begins to ask whether the peer still lives; the other half is for its
/// questions. The kernel counts in whole seconds there, and wants at least one.
fn tune(stream: &TcpStream, unanswered: Duration) -> std::io::Result<()> {
    const SECOND: Duration = Duration::from_secs(1);
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let (silence, every) = ((unanswered / 2).max(SECOND), (unanswered / 6).max(SECOND));
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(silence).with_interval(every))?;
    socket.set_tcp_user_timeout(Some(unanswered))
}

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn speak<S: Service>(
    server: &Arc<Server<S>>,
    stream: TcpStream,
    address: SocketAddr,
    ticket: &Ticket,
) -> Outcome {
    let mut first = [0; 4];
    let peeked = tokio::time::timeout(server.limits.header, stream.peek(&mut first)).await;
    let Ok(count) = peeked.map_err(|_| "no byte within the header deadline")? else { return Ok(()) };
    let stream = Shared::new(stream);
    let greets_tls = first[..count].first() == Some(&TLS_HANDSHAKE);
    match (&server.tls, greets_tls) {
        (_, _) if count == 0 => Ok(()),
        (Some(tls), true) => {
            let acceptor = tokio_rustls::TlsAcceptor::from(tls.current());
            // Boxed: a handshake's state is large, and most of a connection's life does not need it.
            let handshake = Box::pin(tokio::time::timeout(server.limits.header, acceptor.accept(stream.clone())));
            let secured = handshake.await.map_err(|_| "no TLS handshake within the header deadline")?;
            let secured = secured.inspect_err(|error| {
                tracing::warn!(%address, %error, "TLS handshake refused");
            })?;
            let h2 = secured.get_ref().1.alpn_protocol() == Some(b"h2");
            http(server, secured, stream, h2, address, ticket).await
        }
        (Some(_), false) => refuse(stream, &plain_on_tls()).await,
        (None, true) => Err("a TLS client on a port that speaks plain HTTP".into()),
        (None, false) => {
            let h2 = first[..count] == H2_PREFACE[..count.min(4)];
            http(server, stream.clone(), stream, h2 && count == 4, address, ticket).await
        }
    }
}

/// First byte of a TLS record with a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// How an HTTP/2 client without TLS begins.
const H2_PREFACE: &[u8; 4] = b"PRI ";

/// An answer outside of hyper: for peers that never sent a request hyper could see.
pub(super) fn canned(status: &str, error: &str, message: &str) -> String {
    let body = format!("{{\"error\":\"{error}\",\"message\":\"{message}\"}}\n");
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\nretry-after: 1\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

fn plain_on_tls() -> String {
    canned("400 Bad Request", "tls_required", "this port speaks TLS: use https:// in the address")
}

fn head_too_slow() -> String {
    canned("408 Request Timeout", "head_timeout", "the request's head did not arrive in time; try again")
}

/// Longest wait for a peer that is being turned away to take the reason, or to close its end.
const FAREWELL: Duration = Duration::from_secs(1);

async fn refuse(mut io: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> Outcome {
    let farewell = async {
        io.write_all(answer.as_bytes()).await?;
        io.shutdown().await?;
        // Closing with unread bytes would reset the connection and lose the answer on its way.
        tokio::io::copy(&mut tokio::io::AsyncReadExt::take(&mut io, HEAD_BYTES as u64), &mut tokio::io::sink()).await
    };
    tokio::time::timeout(FAREWELL, farewell).await??;
    Ok(())
}

async fn http<S, I>(
    server: &Arc<Server<S>>,
    io: I,
    socket: Shared,
    h2: bool,
    address: SocketAddr,
    ticket: &Ticket,
) -> Outcome
where
    S: Service,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Over HTTP/1 nothing but the connection's end drops an answer.
    let connection = Connection::new(!h2);
    let service = service_fn(|request: Request<Incoming>| {
        let working = ticket.work();
        let service = server.service.clone();
        let peer = Peer { address, connection: connection.clone() };
        let head_only = request.method() == Method::HEAD;
        // Boxed: `poll_without_shutdown` wants it unpinned, and an idle connection should not hold room for it.
        Box::pin(async move {
            let response = service.call(request, peer).await;
            let (mut head, mut body) = response.into_parts();
            if head_only {
                // hyper leaves the body out itself only over HTTP/1.
                if let Some(length) = body.size_hint().exact() {
                    head.headers.entry(header::CONTENT_LENGTH).or_insert(length.into());
                }
                body = super::full(Bytes::new());
            }
            Ok::<_, Infallible>(http::Response::from_parts(head, Working { body, _working: working }))
        })
    });
    match h2 {
        true => http2(server, Watched::new(io, connection.clone()), service).await,
        false => http1(server, io, socket, service).await,
    }
}

async fn http1<S, I, F>(server: &Arc<Server<S>>, io: I, socket: Shared, service: F) -> Outcome
where
    S: Service,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: hyper::service::HttpService<Incoming, ResBody = Working, Error = Infallible> + Unpin,
    F::Future: Unpin,
{
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(server.limits.header)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(io), service);
    let ended = {
        let mut stopping = pin!(server.tasks.stopping());
        let mut told = false;
        poll_fn(|cx| {
            if !told && stopping.as_mut().poll(cx).is_ready() {
                told = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
            match connection.poll_without_shutdown(cx) {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                Poll::Pending if socket.is_over(cx) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    };
    // The client has gone: everything in progress goes with the connection.
    let Some(ended) = ended else { return Ok(()) };
    let parts = connection.into_parts();
    let mut io = parts.io.into_inner();
    match ended {
        // An idle connection is closed without a word; one with half a head in it deserves the reason.
        Err(error) if error.is_timeout() && !parts.read_buf.is_empty() => refuse(io, &head_too_slow()).await,
        ended => {
            tokio::time::timeout(FAREWELL, io.shutdown()).await??;
            Ok(ended?)
        }
    }
}

async fn http2<S, I, F>(server: &Arc<Server<S>>, io: I, service: F) -> Outcome
where
    S: Service,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: hyper::service::HttpService<Incoming, ResBody = Working, Error = Infallible>,
    F::Future: Send + 'static,
{
    let executor = TokioExecutor::new();
    let connection = http2::Builder::new(executor)
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES as u32)
        .max_concurrent_streams(H2_STREAMS)
        .initial_stream_window_size(H2_WINDOW)
        .initial_connection_window_size(H2_WINDOW)
        .keep_alive_interval(H2_PING)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = server.tasks.stopping() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

/// An answer's body that keeps its connection from counting as idle.
struct Working {
    body: super::Answer,
    _working: WorkGuard,
}

impl http_body::Body for Working {
    type Data = bytes::Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// Connections that wait for a request, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    waiting: BTreeMap<u64, CancellationToken>,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn enter(&self) -> Ticket {
        let shared = Arc::new(Mutex::new(Activity::default()));
        let ticket = Ticket { waiting: self.clone(), evict: CancellationToken::new(), activity: shared };
        ticket.rest();
        ticket
    }

    /// Closes the connection that has waited longest; false when all are at work.
    pub(super) fn close_longest(&self) -> bool {
        self.lock().waiting.pop_first().map(|(_, evict)| evict.cancel()).is_some()
    }
}

#[derive(Debug, Default)]
struct Activity {
    requests: usize,
    place: Option<u64>,
    ended: bool,
}

/// The connection itself: with it, its place among those that wait ends for good.
struct Entry(Ticket);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.leave();
    }
}

/// A connection's entry among those that wait.
#[derive(Clone, Debug)]
struct Ticket {
    waiting: Waiting,
    evict: CancellationToken,
    activity: Arc<Mutex<Activity>>,
}

impl Ticket {
    async fn evicted(&self) {
        self.evict.cancelled().await;
    }

    fn lock(&self) -> MutexGuard<'_, Activity> {
        self.activity.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn rest(&self) {
        let mut activity = self.lock();
        if activity.ended {
            return;
        }
        let mut queue = self.waiting.lock();
        let place = queue.next;
        queue.next += 1;
        queue.waiting.insert(place, self.evict.clone());
        activity.place = Some(place);
    }

    fn leave(&self) {
        let place = self.lock().place.take();
        if let Some(place) = place {
            self.waiting.lock().waiting.remove(&place);
        }
    }

    fn work(&self) -> WorkGuard {
        self.lock().requests += 1;
        self.leave();
        WorkGuard(self.clone())
    }
}

/// While it lives, its connection is at work.
struct WorkGuard(Ticket);

impl Drop for WorkGuard {
    fn drop(&mut self) {
        let idle = {
            let mut activity = self.0.lock();
            activity.requests -= 1;
            activity.requests == 0
        };
        if idle {
            self.0.rest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_resting_connections_are_evicted_oldest_first() {
        let waiting = Waiting::default();
        let (a, b, c) = (waiting.enter(), waiting.enter(), waiting.enter());
        let working = a.work();
        assert!(waiting.close_longest());
        assert!(b.evict.is_cancelled() && !a.evict.is_cancelled());
        drop(working); // back among those that wait, behind c
        assert!(waiting.close_longest());
        assert!(c.evict.is_cancelled());
        assert!(waiting.close_longest());
        assert!(a.evict.is_cancelled() && !waiting.close_longest());
    }

    #[test]
    fn an_ended_connection_never_comes_back() {
        let waiting = Waiting::default();
        let entry = Entry(waiting.enter());
        let working = entry.0.work();
        drop(entry);
        drop(working);
        assert!(!waiting.close_longest());
    }
}
