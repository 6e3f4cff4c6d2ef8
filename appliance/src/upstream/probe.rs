//! Health probes: the server's own word, asked for over the same connection every few seconds, so that `/health` and
//! routing never wait for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::lifecycle::Tasks;
use http::Method;
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::Upstream;
use crate::status::{Board, Event, Probe};

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

/// Probes until the program stops: at once when the connection comes up, then every [`EVERY`].
pub(super) async fn keep(upstream: Arc<Upstream>, board: Board, tasks: Tasks) {
    let mut status = board.follow();
    loop {
        let up = status.wait_for(|status| status.upstreams.get(upstream.index).is_some_and(|known| known.connected));
        if !matches!(tasks.until_stopping(up).await, Some(Ok(_))) {
            return;
        }
        let probe = probe(&upstream).await;
        board.tell(Event::Probed { upstream: upstream.index, probe });
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

/// The server's JSON answer to a question, where it comes in time.
pub async fn ask(upstream: &Upstream, path: &str, deadline: Duration) -> Option<Value> {
    let request = upstream.request(Method::GET, path).body(Bytes::new()).ok()?;
    let answer = async {
        let response = upstream.way.send(request).await.ok()?;
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await.ok()?;
        serde_json::from_slice(&body.to_bytes()).ok()
    };
    tokio::time::timeout(deadline, answer).await.ok().flatten()
}
