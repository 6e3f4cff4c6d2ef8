//! From the status to what the board shows: the only place that knows both.

use std::time::Duration;

use cerebrum_board::{
    Counters, Fault, Frame, Page, Phase, Request, Savings, Snapshot, Stage, Upstream, UpstreamState, render,
};
use tokio::time::Instant;

use crate::problem;
use crate::status::requests::{self, Running};
use crate::status::{Probe, Status, UpstreamStatus};
use crate::upstream::breaker;

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
        request: status.requests.current().map(|running| request(running, now)),
        upstreams: status.upstreams.iter().map(|known| upstream(known, now)).collect(),
        savings: Savings {
            prompts: totals.sent,
            characters_before: totals.prompt_chars,
            characters_after: totals.prepared_chars,
            // To the second: finer, the page would be drawn anew for nothing.
            time_saved: Duration::from_secs(status.savings.total.seconds as u64),
        },
        counters: Counters {
            served: totals.successful + totals.remembered,
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

fn request(running: &Running, now: Instant) -> Request {
    let most = running.sent.as_ref().map_or(0, |sent| sent.max_tokens);
    let (phase, progress) = match running.phase() {
        requests::Phase::Preparing => (Phase::Preparing, 0.0),
        requests::Phase::Loading(share) => (Phase::Loading, share),
        requests::Phase::Reading(share) => (Phase::Reading, share),
        requests::Phase::Writing => (Phase::Generating, running.tokens as f32 / most.max(1) as f32),
    };
    Request {
        id: running.arrival.id.as_u128(),
        phase,
        progress,
        tokens: running.tokens,
        tokens_per_second: running.rate(now).unwrap_or_default() as f32,
        model: running.sent.as_ref().map(|sent| sent.model.to_string()).unwrap_or_default(),
    }
}

fn upstream(status: &UpstreamStatus, now: Instant) -> Upstream {
    let round_trip = match status.probe {
        Probe::Answered { round_trip, .. } => Some(round_trip),
        _ => None,
    };
    let state = match (status.connected, status.breaker) {
        (false, _) => UpstreamState::Down,
        (true, breaker::State::Open { until, .. }) if now < until => UpstreamState::Down,
        // The next request is the one that tries.
        (true, breaker::State::Open { .. } | breaker::State::HalfOpen { .. }) => UpstreamState::HalfOpen,
        (true, breaker::State::Closed { .. }) if status.available() => UpstreamState::Up,
        (true, breaker::State::Closed { .. }) => UpstreamState::HalfOpen,
    };
    Upstream { name: status.name.to_string(), state, round_trip }
}

#[cfg(test)]
mod tests {
    use cerebrum_common::request_id::RequestId;

    use super::*;
    use crate::status::requests::{Arrival, Sent};
    use crate::status::{Board, Event};

    fn shown(board: &Board) -> Snapshot {
        board.look(|status| snapshot(status, 7000, Instant::now()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_breaker_shows_as_the_servers_state() {
        let board = Board::new(["vps".into()]);
        let state = || shown(&board).upstreams[0].state;
        assert_eq!(state(), UpstreamState::Down);
        board.tell(Event::Link { upstream: 0, connected: true });
        assert_eq!(state(), UpstreamState::Up);
        let until = Instant::now() + Duration::from_secs(10);
        board.tell(Event::Breaker { upstream: 0, state: breaker::State::Open { until, trips: 1 } });
        assert_eq!(state(), UpstreamState::Down);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(state(), UpstreamState::HalfOpen);
        board.tell(Event::Breaker { upstream: 0, state: breaker::State::HalfOpen { probing: true, trips: 1 } });
        assert_eq!(state(), UpstreamState::HalfOpen);
        board.tell(Event::Breaker { upstream: 0, state: breaker::State::Closed { failures: 0 } });
        assert_eq!(state(), UpstreamState::Up);
    }

    #[tokio::test]
    async fn each_phase_of_a_request_shows_with_its_share() {
        let board = Board::new(["vps".into()]);
        let is = || shown(&board).request.map(|request| (request.phase, request.progress));
        assert_eq!(is(), None);
        let arrival = Arrival { number: 1, id: RequestId::random(), call: "stream", client: "laptop".into() };
        board.tell(Event::Admitted(arrival));
        assert_eq!(is(), Some((Phase::Preparing, 0.0)));
        let sent = Sent::sample(Some("vps"));
        board.tell(Event::Sent { number: 1, sent });
        assert_eq!(is(), Some((Phase::Reading, 0.0)));
        board.tell(Event::Loading { number: 1, share: 0.25 });
        assert_eq!(is(), Some((Phase::Loading, 0.25)));
        board.tell(Event::Progress { number: 1, share: 0.5 });
        assert_eq!(is(), Some((Phase::Reading, 0.5)));
        board.tell(Event::Tokens { number: 1, tokens: 5 });
        assert_eq!(is(), Some((Phase::Generating, 0.25)));
    }
}
