//! A stream that notes its end, so that answers which end with it can be told from answers that their caller dropped.
//!
//! It notes the end before whoever reads or writes it can draw conclusions: hyper lets go of a connection's answers only after
//! the read, the write or the close that told it to.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Tells a connection that broke from a caller that wants an answer no more. Over HTTP/2 a caller can drop one answer and keep
/// the connection; over HTTP/1 it can only drop both.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Life>);

#[derive(Debug)]
struct Life {
    opened: Instant,
    /// Whether its end has been noticed.
    lost: AtomicBool,
    /// When bytes came last, in milliseconds after it was opened.
    heard_ms: AtomicU64,
}

/// Who drops an answer has just said so: an answer dropped after so much silence is dropped because pings were not answered.
const SILENCE: Duration = Duration::from_secs(5);

impl Connection {
    pub(super) fn new(lost: bool) -> Self {
        let life = Life { opened: Instant::now(), lost: AtomicBool::new(lost), heard_ms: AtomicU64::new(0) };
        Self(Arc::new(life))
    }

    /// Whether an answer's body that is dropped now is dropped because its connection is gone, rather than by its caller's
    /// will.
    pub fn is_lost(&self) -> bool {
        let heard = Duration::from_millis(self.0.heard_ms.load(Ordering::Relaxed));
        self.0.lost.load(Ordering::Acquire) || self.0.opened.elapsed().saturating_sub(heard) > SILENCE
    }

    fn lose(&self) {
        self.0.lost.store(true, Ordering::Release);
    }

    fn heard(&self) {
        self.0.heard_ms.store(self.0.opened.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

pub(super) struct Watched<I> {
    io: I,
    connection: Connection,
}

impl<I> Watched<I> {
    pub(super) fn new(io: I, connection: Connection) -> Self {
        Self { io, connection }
    }

    fn note<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(outcome, Poll::Ready(Err(_))) {
            self.connection.lose();
        }
        outcome
    }
}

impl<I> Drop for Watched<I> {
    fn drop(&mut self) {
        self.connection.lose();
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, into);
        match read {
            Poll::Ready(Ok(())) if into.filled().len() > before => self.connection.heard(),
            Poll::Ready(Ok(())) if into.remaining() > 0 => self.connection.lose(),
            _ => {}
        }
        self.note(read)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Asked for by this side, or because the other's end was noticed otherwise: a ping without an answer, say.
        self.connection.lose();
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
