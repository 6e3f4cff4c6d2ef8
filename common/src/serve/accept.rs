//! The accept loop: bounded connections, back-off when accepting fails, drain.
//!
//! When every place is taken, the connection that has waited longest without sending a request makes room: a scanner that
//! holds ten thousand idle connections cannot lock anybody out. When all of them are at work, the newcomer is told so.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpStream};

use super::connection::{self, Waiting};
use super::{Limits, Service};
use crate::lifecycle::{Tasks, notify_kept};
use crate::tls::{Reloading, ServerFiles};

/// Pending connections the kernel holds for us.
const BACKLOG: i32 = 1024;

/// Pause after a failed accept (out of file descriptors, say): time for connections to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening socket: the one that systemd has kept since this program ran before, or a new one, which it is asked to keep. While
/// the program starts anew, whoever connects waits instead of being refused. Called once, before there are other threads.
///
/// # Errors
/// The system's complaint: address in use, not ours, no permission.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let mut kept = ListenFd::from_env();
    for index in 0..kept.len() {
        let listener = kept.take_tcp_listener(index).ok().flatten();
        if let Some(listener) = listener.filter(|listener| listener.local_addr().is_ok_and(|found| found == address)) {
            listener.set_nonblocking(true)?;
            return TcpListener::from_std(listener);
        }
    }
    let listener = open(address)?;
    notify_kept(listener.as_fd());
    TcpListener::from_std(listener)
}

fn open(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// One listener and what serves its connections.
#[derive(Debug)]
pub struct Server<S> {
    /// Answers the requests.
    pub service: Arc<S>,
    /// Bounds.
    pub limits: Limits,
    /// With it, connections are TLS.
    pub tls: Option<Arc<Reloading<ServerFiles>>>,
    /// Where connections run, and what says stop.
    pub tasks: Tasks,
}

impl<S: Service> Server<S> {
    /// Serves `listener` until the program stops. Connections in progress are drained by [`Tasks::drain`].
    pub async fn run(self, listener: TcpListener) {
        let server = Arc::new(self);
        let places = Arc::new(tokio::sync::Semaphore::new(server.limits.connections));
        let waiting = Waiting::default();
        while let Some(accepted) = server.tasks.until_stopping(listener.accept()).await {
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Usually the open files have run out: one idle connection less is one more of them.
                    let closed = waiting.close_longest();
                    tracing::warn!(%error, closed, "accepting a connection failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = place(&places, &waiting).await else {
                turn_away(stream);
                continue;
            };
            let (server, waiting) = (server.clone(), waiting.clone());
            server.tasks.clone().spawn(async move {
                connection::serve(&server, stream, address, waiting).await;
                drop(place);
            });
        }
    }
}

/// A place for a new connection, freed by closing an idle one where need be.
async fn place(places: &Arc<tokio::sync::Semaphore>, waiting: &Waiting) -> Option<tokio::sync::OwnedSemaphorePermit> {
    if let Ok(place) = places.clone().try_acquire_owned() {
        return Some(place);
    }
    if !waiting.close_longest() {
        return None;
    }
    // The closed connection's task gives its place back as soon as it runs.
    tokio::time::timeout(ACCEPT_PAUSE, places.clone().acquire_owned()).await.ok()?.ok()
}

/// Tells a client in one write that there is no room, without waiting for its request.
fn turn_away(stream: TcpStream) {
    let answer = connection::canned("503 Service Unavailable", "connections", "too many connections, retry shortly");
    // A full socket buffer on a fresh connection cannot be; if it is, closing says enough.
    drop(stream.try_write(answer.as_bytes()));
}
