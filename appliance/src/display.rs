//! From the status to what the board shows: the only place that knows both.

use cerebrum_board::{
    Counters, Fault, Frame, Page, Phase, Request, Savings, Snapshot, Stage, Upstream, UpstreamState, render,
};
use tokio::time::Instant;

use crate::problem;
use crate::status::{Current, Status, UpstreamStatus};

/// What the board may know of the appliance.
pub fn snapshot(status: &Status, port: u16, now: Instant) -> Snapshot {
    let totals = status.totals;
    Snapshot {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        port,
        uptime: now - status.started,
        stage: Stage::Ready,
        active: status.active,
        queued: status.queued,
        request: status.current.as_ref().map(|current| request(current, now)),
        upstreams: status.upstreams.iter().map(upstream).collect(),
        savings: Savings {
            prompts: totals.sent,
            characters_before: totals.prompt_chars,
            characters_after: totals.prepared_chars,
            ..Savings::default()
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

fn request(current: &Current, now: Instant) -> Request {
    let seconds = current.first_token.map_or(0.0, |first| (now - first).as_secs_f32());
    Request {
        id: current.id,
        phase: if current.tokens > 0 { Phase::Generating } else { Phase::Reading },
        progress: current.progress,
        tokens: current.tokens,
        tokens_per_second: if seconds > 0.0 { current.tokens as f32 / seconds } else { 0.0 },
        model: current.model.to_string(),
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
