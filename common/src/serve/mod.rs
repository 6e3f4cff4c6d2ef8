//! The HTTP serving core under both programs: listener, connection limits and deadlines, bodies, refusals, drain.
//!
//! A program hands in a bound listener and a [`Service`]; this module never looks at a path or a payload.

mod accept;
mod body;
mod connection;
mod refusal;
mod room;
mod shared;
mod watched;

pub use accept::{Server, bind};
pub use body::{Answer, collect, discard, empty, full, json};
pub use connection::Peer;
pub use refusal::Refusal;
pub use room::{Bodies, Room};
pub use watched::Connection;

use std::future::Future;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;

use crate::settings::Section;

/// What answers requests. Dropping the future, or the answer's body, means that the client has gone.
pub trait Service: Send + Sync + 'static {
    /// One request, one answer; failures are answers too.
    fn call(&self, request: Request<Incoming>, peer: Peer) -> impl Future<Output = Response<Answer>> + Send;
}

/// What one listener holds and how long it waits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time. Past it, the one that has waited longest without sending a request is closed.
    pub connections: usize,
    /// For a connection's first bytes, its TLS handshake, and each request's head; also how long an idle one is kept.
    pub header: Duration,
    /// For a request's whole body.
    pub body: Duration,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// How long bytes written to a peer may go unanswered before it counts as gone: its cable was pulled, say.
    pub unanswered: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            header: Duration::from_secs(15),
            body: Duration::from_secs(15),
            body_bytes: 4 << 20,
            unanswered: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// What the settings' `[limits]` says of them.
    pub fn read(section: &mut Section<'_>) -> Self {
        let base = Self::default();
        Self {
            connections: section.within("connections", base.connections as u64, 1, 100_000) as usize,
            header: section.time("header_ms", base.header),
            body: section.time("body_ms", base.body),
            body_bytes: section.within("body_bytes", base.body_bytes as u64, 1024, 64 << 20) as usize,
            unanswered: section.time("unanswered_ms", base.unanswered),
        }
    }
}
