//! Health probes: the server's own word, asked for over the same connection every few seconds, so that `/health` and
//! routing never wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::lifecycle::Tasks;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::Upstream;
use crate::problem::Trouble;
use crate::status::{Board, Event, Probe, Status};

/// Pause between probes.
const EVERY: Duration = Duration::from_secs(10);

/// For one answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Largest answer to a probe or a question, in bytes.
const ANSWER_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
struct Health {
    status: String,
    available: bool,
}

/// Probes until the program stops: at once when the connection comes up, then every [`EVERY`], or sooner where a person or a
/// request wants to know. The health does not tell whether the server takes our key; the list of its models does, and which
/// files they were loaded from.
pub(super) async fn keep(upstream: Arc<Upstream>, board: Board, tasks: Tasks) {
    loop {
        let connected = |status: &Status| status.upstreams.get(upstream.index).is_some_and(|known| known.connected);
        if !board.look(connected) {
            // Whoever answers next may have loaded other files.
            upstream.loaded(None);
        }
        if tasks.until_stopping(board.connected(connected)).await.is_none() {
            return;
        }
        let probe = probe(&upstream).await;
        let answered = matches!(probe, Probe::Answered { .. });
        board.tell(Event::Probed { upstream: upstream.index, probe });
        if answered {
            let models = models(&upstream).await;
            let trouble = matches!(models, Some(Models::KeyRefused)).then_some(Trouble::Key);
            upstream.loaded(models.and_then(Models::versions));
            board.tell(Event::Trouble { upstream: upstream.index, trouble });
        }
        let next = async {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = upstream.probe.notified() => {}
            }
        };
        if tasks.until_stopping(next).await.is_none() {
            return;
        }
    }
}

async fn probe(upstream: &Upstream) -> Probe {
    let asked = Instant::now();
    match ask(upstream, "/health", ANSWER).await.map(serde_json::from_value::<Health>) {
        Some(Ok(health)) => {
            Probe::Answered { status: health.status.into(), available: health.available, round_trip: asked.elapsed() }
        }
        _ => Probe::Failed,
    }
}

/// What the server says of its models.
enum Models {
    /// Nothing to those whose key it does not know.
    KeyRefused,
    /// Its list.
    Listed(Value),
}

impl Models {
    /// Which files they were loaded from.
    fn versions(self) -> Option<BTreeMap<String, String>> {
        match self {
            Self::Listed(mut list) => serde_json::from_value(list.get_mut("versions")?.take()).ok(),
            Self::KeyRefused => None,
        }
    }
}

/// `None` when it does not say in time.
async fn models(upstream: &Upstream) -> Option<Models> {
    let (status, body) = answer(upstream, "/v1/models", ANSWER, ANSWER_BYTES).await?;
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(Models::KeyRefused),
        _ => serde_json::from_slice(&body).ok().map(Models::Listed),
    }
}

/// The server's JSON answer to a question, where it comes in time.
pub async fn ask(upstream: &Upstream, path: &str, deadline: Duration) -> Option<Value> {
    serde_json::from_slice(&ask_bytes(upstream, path, deadline, ANSWER_BYTES).await?).ok()
}

/// The server's answer to a question, of at most `limit` bytes, where it comes in time and is no refusal.
pub async fn ask_bytes(upstream: &Upstream, path: &str, deadline: Duration, limit: usize) -> Option<Bytes> {
    answer(upstream, path, deadline, limit).await.filter(|(status, _)| status.is_success()).map(|(_, body)| body)
}

async fn answer(upstream: &Upstream, path: &str, deadline: Duration, limit: usize) -> Option<(StatusCode, Bytes)> {
    let request = upstream.request(Method::GET, path).body(Bytes::new()).ok()?;
    let answer = async {
        let response = upstream.way.send(request).await.ok()?;
        let status = response.status();
        Some((status, Limited::new(response.into_body(), limit).collect().await.ok()?.to_bytes()))
    };
    tokio::time::timeout(deadline, answer).await.ok().flatten()
}
