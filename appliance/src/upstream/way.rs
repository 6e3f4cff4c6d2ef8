//! The two ways to an upstream, with one face.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
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
        match &mut *self {
            Self::Frames(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
            Self::Service(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
            Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Frames(body) => body.is_end_stream(),
            Self::Service(body) => body.is_end_stream(),
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Frames(body) => body.size_hint(),
            Self::Service(body) => body.size_hint(),
            Self::Empty => SizeHint::with_exact(0),
        }
    }
}
