//! A socket that hyper reads and writes while its connection's task keeps an eye on it.
//!
//! hyper looks for a client's end only while nothing unread is in its buffer: after a request with a stray line's end behind
//! its body, or with the next request already sent, it would not notice that the client has gone until it writes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// One of the holders; all of them must be polled by one task.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<TcpStream>);

impl Shared {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(Arc::new(stream))
    }

    /// Whether the peer has closed its end and everything it sent has been read. Wakes the task when that changes.
    pub(super) fn is_over(&self, cx: &mut Context<'_>) -> bool {
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        matches!(self.0.poll_peek(cx, &mut byte), Poll::Ready(Ok(0) | Err(_)))
    }
}

/// Tries until it works or the socket is not ready.
fn attempt<T>(
    cx: &mut Context<'_>,
    is_ready: impl Fn(&mut Context<'_>) -> Poll<io::Result<()>>,
    mut work: impl FnMut() -> io::Result<T>,
) -> Poll<io::Result<T>> {
    loop {
        ready!(is_ready(cx))?;
        match work() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
    }
}

impl AsyncRead for Shared {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Into the buffer as it is: eight kilobytes of zeros for each read would push what is needed out of the caches.
        ready!(attempt(cx, |cx| self.0.poll_read_ready(cx), || self.0.try_read_buf(buf)))?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        attempt(cx, |cx| self.0.poll_write_ready(cx), || self.0.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        attempt(cx, |cx| self.0.poll_write_ready(cx), || self.0.try_write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(&*self.0).shutdown(std::net::Shutdown::Write))
    }
}
