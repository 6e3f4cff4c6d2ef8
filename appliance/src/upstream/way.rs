//! The two ways to an upstream, with one face.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use cerebrum_common::wire::Failure;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::link::{self, Link, LinkError};
use super::service::Service;

/// How an upstream is spoken to.
#[derive(Clone, Debug)]
pub enum Way {
    /// A cerebrum server: frames over one connection.
    Frames(Arc<Link>),
    /// A service that speaks OpenAI's calls.
    Service(Arc<Service>),
}

/// An answer's body. Dropped before its end, it tells the other side that nobody listens any more.
#[derive(Debug)]
pub enum Body {
    /// Over the one connection.
    Frames(link::Body),
    /// From the pool.
    Service(Incoming),
    /// From the pool, when it has begun.
    Coming(Coming),
    /// None: nobody had to be asked.
    Empty,
}

/// How a body broke.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The one connection.
    #[error("{0}")]
    Frames(#[from] h2::Error),
    /// One of the pool.
    #[error("{0}")]
    Service(#[from] hyper::Error),
    /// It never began.
    #[error("{}", .0.message)]
    Refused(Failure),
}

/// A body whose head is awaited.
pub struct Coming(Pin<Box<dyn Future<Output = Result<Body, Failure>> + Send>>);

impl Coming {
    /// Waits for `body` whenever it is polled.
    pub fn new(body: impl Future<Output = Result<Body, Failure>> + Send + 'static) -> Self {
        Self(Box::pin(body))
    }
}

impl Future for Coming {
    type Output = Result<Body, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl std::fmt::Debug for Coming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Coming")
    }
}

impl Way {
    /// Whether the upstream can be reached, as far as is known.
    pub fn is_up(&self) -> bool {
        match self {
            Self::Frames(link) => link.is_up(),
            Self::Service(service) => service.is_up(),
        }
    }

    /// Sends one request and waits for the head of its answer.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, LinkError> {
        match self {
            Self::Frames(link) => Ok(link.send(request).await?.map(Body::Frames)),
            Self::Service(service) => Ok(service.send(request).await?.map(Body::Service)),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Self::Coming(coming) = &mut *self {
            *self = ready!(Pin::new(coming).poll(cx)).map_err(BodyError::Refused)?;
        }
        match &mut *self {
            Self::Frames(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
            Self::Service(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
            Self::Coming(_) | Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Frames(body) => body.is_end_stream(),
            Self::Service(body) => body.is_end_stream(),
            Self::Coming(_) => false,
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Frames(body) => body.size_hint(),
            Self::Service(body) => body.size_hint(),
            Self::Coming(_) => SizeHint::new(),
            Self::Empty => SizeHint::with_exact(0),
        }
    }
}
