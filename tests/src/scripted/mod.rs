//! [`ScriptedUpstream`]: a stand-in for an inference server, in this process, for tests and benchmarks. It has no model:
//! it answers every generation with the same words, as fast or as badly as its [`Script`] says, and counts what it sees.
//!
//! It speaks HTTP/1.1 and HTTP/2 (prior knowledge, or ALPN over TLS). It brings its own accept loop instead of
//! `cerebrum_common::serve`, because it must be able to do what that one never does: cut a connection in mid-answer.

mod answer;
mod calls;
mod connection;

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use cerebrum_common::serve::bind;
use cerebrum_common::tls::{Reloading, ServerFiles};
use cerebrum_common::wire::{Failure, InferenceEvent, InferenceRequest};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What a [`ScriptedUpstream`] does with each generation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Script {
    /// What a stream begins with, at once: how a model is loaded, how a prompt is read.
    pub before: Vec<InferenceEvent>,
    /// Tokens before the ending; a smaller `max_tokens` of the request makes it fewer.
    pub tokens: u32,
    /// Pause between the answer's head and its first token. An answer in one piece waits as long.
    pub first_gap: Duration,
    /// Pause between tokens; zero gives them all at once.
    pub gap: Duration,
    /// How the answer ends once the tokens are out.
    pub ending: Ending,
    /// Answer with this status and failure at once, instead of anything above.
    pub refuse: Option<(u16, Failure)>,
    /// Each token's text is the time of its writing ([`stamp`]), so that a reader on this machine can tell its way's length.
    pub stamped: bool,
    /// Read requests as what they are: needed for [`Seen::last`] and `max_tokens`. Benchmarks switch it off, so that the
    /// stand-in takes equally long over JSON and postcard.
    pub read_requests: bool,
}

impl Default for Script {
    /// Eight tokens at once, then the end.
    fn default() -> Self {
        Self {
            before: Vec::new(),
            tokens: 8,
            first_gap: Duration::ZERO,
            gap: Duration::ZERO,
            ending: Ending::Complete,
            refuse: None,
            stamped: false,
            read_requests: true,
        }
    }
}

/// What follows the last token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// `Done`.
    Complete,
    /// An error event in the stream; the failure's status code for an answer in one piece.
    Fail(Failure),
    /// Nothing more, for ever.
    Stall,
    /// The connection is closed under the answer.
    Cut,
}

/// What a [`ScriptedUpstream`] has seen of generations.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Requests received.
    pub requests: u64,
    /// Those whose answer is not over.
    pub in_progress: u64,
    /// Those whose caller went away, or was cut off, before the last event.
    pub dropped: u64,
    /// The newest request that could be read.
    pub last: Option<InferenceRequest>,
}

/// The running stand-in. Dropping it closes its port and all its connections.
#[derive(Debug)]
pub struct ScriptedUpstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    script: RwLock<Script>,
    seen: watch::Sender<Seen>,
    tls: Option<Reloading<ServerFiles>>,
}

impl ScriptedUpstream {
    /// Starts on a free loopback port, without TLS.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start(script: Script) -> anyhow::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), None, script)
    }

    /// Starts at `address` (port 0 finds one), with TLS when files are given: also how one comes back at its old port.
    ///
    /// # Errors
    /// An address or TLS files that cannot be used.
    pub fn start_at(address: SocketAddr, tls: Option<ServerFiles>, script: Script) -> anyhow::Result<Self> {
        let listener = bind(address)?;
        let address = listener.local_addr()?;
        let tls = tls.map(Reloading::new).transpose()?;
        let shared = Arc::new(Shared { script: RwLock::new(script), seen: watch::Sender::default(), tls });
        let mut accepting = JoinSet::new();
        accepting.spawn(connection::accept(listener, shared.clone()));
        Ok(Self { address, shared, _accepting: accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as settings want it.
    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.address.port())
    }

    /// Changes what it does with requests from now on.
    pub fn follow(&self, script: Script) {
        self.shared.follow(script);
    }

    /// What it has seen.
    pub fn seen(&self) -> Seen {
        self.shared.seen.borrow().clone()
    }

    /// Waits until `wanted` holds.
    ///
    /// # Errors
    /// What it had seen when `limit` was over.
    pub async fn wait_for(&self, limit: Duration, wanted: impl Fn(&Seen) -> bool) -> anyhow::Result<Seen> {
        let mut seen = self.shared.seen.subscribe();
        let found = tokio::time::timeout(limit, seen.wait_for(|seen| wanted(seen))).await;
        match found {
            Ok(found) => Ok(found?.clone()),
            Err(_) => anyhow::bail!("not seen within {limit:?}: {:?}", self.seen()),
        }
    }
}

impl Shared {
    fn script(&self) -> Script {
        self.script.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn follow(&self, script: Script) {
        *self.script.write().unwrap_or_else(PoisonError::into_inner) = script;
    }
}

/// Now, in nanoseconds since 1970: the same for all programs of one machine.
pub fn stamp() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
