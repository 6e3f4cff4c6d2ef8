//! From the status to what the board shows: the only place that knows both.

use std::time::Duration;

use cerebrum_board::{
    Counters, Fault, Frame, Page, Phase, Request, Savings, Snapshot, Stage, Upstream, UpstreamState, render,
};
use tokio::time::Instant;

use crate::problem;
use crate::status::requests::{Running, Sent};
use crate::status::{Status, UpstreamStatus};

/// What the board may know of the appliance.
pub fn snapshot(status: &Status, port: u16, now: Instant) -> Snapshot {
    let totals = status.totals;
    Snapshot {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        port,
        uptime: now - status.started,
        stage: Stage::Ready,
        active: status.requests.active(),
        queued: status.queued,
        request: status.requests.current().map(|(running, sent)| request(running, sent, now)),
        upstreams: status.upstreams.iter().map(upstream).collect(),
        savings: Savings {
            prompts: totals.sent,
            characters_before: totals.prompt_chars,
            characters_after: totals.prepared_chars,
            // To the second: finer, the page would be drawn anew for nothing.
            time_saved: Duration::from_secs(status.savings.total.seconds as u64),
        },
        counters: Counters {
            served: totals.successful,
            failed: totals.failed,
            refused: totals.shed,
            tokens: totals.tokens,
        },
        addresses: status.addresses.clone(),
        error: fault(status, now),
        update: status.update.clone(),
        ..Snapshot::default()
    }
}

fn fault(status: &Status, now: Instant) -> Option<Fault> {
    problem::shown(status, now).map(|problem| Fault { cause: problem.cause(), message: problem.message() })
}

/// The page a person wants to see now: the request in progress, else the overview.
pub fn frame(snapshot: &Snapshot) -> Frame {
    render(snapshot, if snapshot.request.is_some() { Page::Request } else { Page::Status })
}

fn request(running: &Running, sent: &Sent, now: Instant) -> Request {
    Request {
        id: running.arrival.id.as_u128(),
        phase: if running.tokens > 0 { Phase::Generating } else { Phase::Reading },
        progress: running.progress,
        tokens: running.tokens,
        tokens_per_second: running.rate(now).unwrap_or_default() as f32,
        model: sent.model.to_string(),
    }
}

fn upstream(status: &UpstreamStatus) -> Upstream {
    use crate::status::Probe;
    let round_trip = match status.probe {
        Probe::Answered { round_trip, .. } => Some(round_trip),
        _ => None,
    };
    let state = match (status.connected, status.available()) {
        (_, true) => UpstreamState::Up,
        (true, false) => UpstreamState::HalfOpen,
        (false, false) => UpstreamState::Down,
    };
    Upstream { name: status.name.to_string(), state, round_trip }
}
