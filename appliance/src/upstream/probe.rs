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

/// A question that only those who have a key may ask.
const KEYED: &str = "/v1/models";

/// For one answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Largest answer to a probe or a question, in bytes.
const ANSWER_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
struct Health {
    status: String,
    available: bool,
}

/// Probes until the program stops: at once when the connection comes up, then every [`EVERY`]. Whether the server takes our
/// key, which the health does not tell, is asked once for every connection, and again while it does not.
pub(super) async fn keep(upstream: Arc<Upstream>, board: Board, tasks: Tasks) {
    let mut status = board.follow();
    let mut key_taken = false;
    loop {
        let connected = |status: &Status| status.upstreams.get(upstream.index).is_some_and(|known| known.connected);
        let still = connected(&status.borrow_and_update());
        key_taken &= still;
        if !still {
            // Whoever answers next may have loaded other files.
            upstream.loaded(None);
        }
        let up = status.wait_for(connected);
        if !matches!(tasks.until_stopping(up).await, Some(Ok(_))) {
            return;
        }
        let probe = probe(&upstream).await;
        let answered = matches!(probe, Probe::Answered { .. });
        board.tell(Event::Probed { upstream: upstream.index, probe });
        if answered {
            upstream.loaded(versions(&upstream).await);
            let refused = if key_taken { Some(false) } else { is_key_refused(&upstream).await };
            key_taken = refused == Some(false);
            let trouble = (refused == Some(true)).then_some(Trouble::Key);
            board.tell(Event::Trouble { upstream: upstream.index, trouble });
        }
        let next = async {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => false,
                () = upstream.probe.notified() => true,
            }
        };
        match tasks.until_stopping(next).await {
            // Asked for by a person, or by a request whose key was refused.
            Some(asked_for) => key_taken &= !asked_for,
            None => return,
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

/// Which files its models were loaded from.
async fn versions(upstream: &Upstream) -> Option<BTreeMap<String, String>> {
    serde_json::from_value(ask(upstream, KEYED, ANSWER).await?.get_mut("versions")?.take()).ok()
}

/// Whether the server refuses our key; `None` when it does not say in time.
async fn is_key_refused(upstream: &Upstream) -> Option<bool> {
    let request = upstream.request(Method::GET, KEYED).body(Bytes::new()).ok()?;
    let answer = tokio::time::timeout(ANSWER, upstream.way.send(request)).await.ok()?.ok()?;
    Some(matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN))
}

/// The server's JSON answer to a question, where it comes in time.
pub async fn ask(upstream: &Upstream, path: &str, deadline: Duration) -> Option<Value> {
    serde_json::from_slice(&ask_bytes(upstream, path, deadline, ANSWER_BYTES).await?).ok()
}

/// The server's answer to a question, of at most `limit` bytes, where it comes in time and is no refusal.
pub async fn ask_bytes(upstream: &Upstream, path: &str, deadline: Duration, limit: usize) -> Option<Bytes> {
    let request = upstream.request(Method::GET, path).body(Bytes::new()).ok()?;
    let answer = async {
        let response = upstream.way.send(request).await.ok().filter(|answer| answer.status().is_success())?;
        Some(Limited::new(response.into_body(), limit).collect().await.ok()?.to_bytes())
    };
    tokio::time::timeout(deadline, answer).await.ok().flatten()
}
