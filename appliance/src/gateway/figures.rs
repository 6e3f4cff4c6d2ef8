//! The appliance's figures, once, for whoever shows them: `/v1/stats` gives all of them, `/v1/events` gives them to the page
//! as they change. Names, sizes, speeds and times; never a text.

use cerebrum_common::wire::Usage;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::problem::{self, Problem};
use crate::status::pace::SPAN;
use crate::status::requests::{Ended, Running};
use crate::status::savings::Saved;
use crate::status::{Probe, Status, UpstreamStatus};
use crate::upstream::breaker::State;

/// This moment, by the clock that measures and the one on the wall.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    instant: Instant,
    wall: Timestamp,
}

impl Now {
    pub(super) fn here() -> Self {
        Self { instant: Instant::now(), wall: Timestamp::now() }
    }

    /// What the wall clock would have shown then, had it been right: a clock that was set since does not matter.
    fn at(self, then: Instant) -> String {
        let ago = SignedDuration::try_from(self.instant.saturating_duration_since(then)).unwrap_or_default();
        format!("{:.3}", self.wall.checked_sub(ago).unwrap_or(self.wall))
    }
}

/// What changes while requests run.
#[derive(Serialize)]
pub(super) struct Live<'s> {
    vps_client: Value,
    preparation: Preparation,
    upstreams: Vec<Upstream<'s>>,
    problems: Vec<String>,
    running: Vec<Present<'s>>,
    pace: Pace,
}

/// Everything that the appliance itself has to tell.
#[derive(Serialize)]
pub(super) struct Everything<'s> {
    uptime_seconds: u64,
    #[serde(flatten)]
    live: Live<'s>,
    recent: Vec<Past<'s>>,
}

#[derive(Serialize)]
struct Preparation {
    original_chars: u64,
    final_chars: u64,
    since_start: Savings,
    /// By the hour, in UTC, without hours in which nobody asked.
    hours: Vec<Hour>,
}

#[derive(Serialize)]
struct Savings {
    /// Requests whose prompt was shortened.
    shortened: u64,
    original_tokens: u64,
    sent_tokens: u64,
    saved_tokens: u64,
    saved_seconds: f64,
}

#[derive(Serialize)]
struct Hour {
    start: String,
    #[serde(flatten)]
    savings: Savings,
}

#[derive(Serialize)]
struct Upstream<'s> {
    name: &'s str,
    connected: bool,
    available: bool,
    status: &'s str,
    round_trip_ms: Option<f64>,
    /// `closed`, `open` or `half_open`.
    breaker: &'static str,
    /// Until the next attempt, where the breaker is open.
    retry_seconds: Option<u64>,
    /// How it is, for a person.
    message: String,
}

/// A request in progress.
#[derive(Serialize)]
struct Present<'s> {
    #[serde(flatten)]
    what: What<'s>,
    /// `preparing`, `loading`, `reading` or `writing`.
    phase: &'static str,
    /// Share of the prompt that has been read.
    progress: f32,
    seconds: f64,
}

/// A request that ended.
#[derive(Serialize)]
struct Past<'s> {
    #[serde(flatten)]
    what: What<'s>,
    outcome: &'static str,
    reason: Option<&'static str>,
    cached_tokens: Option<u32>,
    seconds: f64,
}

/// What both have.
#[derive(Serialize)]
struct What<'s> {
    number: u64,
    id: String,
    started: String,
    call: &'s str,
    client: &'s str,
    model: Option<&'s str>,
    language: Option<&'s str>,
    upstream: Option<&'s str>,
    /// The answer was given before.
    remembered: bool,
    /// The prompt as it came; an estimate where the answer has not told.
    original_tokens: Option<u32>,
    /// As it was sent, likewise.
    prompt_tokens: Option<u32>,
    tokens: u32,
    tokens_per_second: Option<f64>,
    first_token_seconds: Option<f64>,
}

#[derive(Serialize)]
struct Pace {
    span_seconds: u64,
    /// Tokens in each span, the oldest first, up to the last one that is over.
    tokens: Vec<u32>,
}

/// What changes while requests run.
pub(super) fn live(status: &Status, now: Now) -> Live<'_> {
    let since = now.instant.saturating_duration_since(status.started);
    Live {
        vps_client: counts(status),
        preparation: preparation(status),
        upstreams: status.upstreams.iter().map(|known| upstream(known, now.instant)).collect(),
        problems: problem::standing(status, now.instant).iter().map(Problem::message).collect(),
        running: status.requests.running().map(|running| in_progress(running, now)).collect(),
        pace: Pace { span_seconds: SPAN.as_secs(), tokens: status.pace.spans(since).to_vec() },
    }
}

/// The last requests that ended, newest first.
pub(super) fn recent(status: &Status, now: Now) -> Vec<impl Serialize> {
    past(status, now)
}

/// All of it.
pub(super) fn everything(status: &Status, now: Now) -> Everything<'_> {
    let uptime_seconds = now.instant.saturating_duration_since(status.started).as_secs();
    Everything { uptime_seconds, live: live(status, now), recent: past(status, now) }
}

fn past(status: &Status, now: Now) -> Vec<Past<'_>> {
    status.requests.recent().map(|ended| ended_request(ended, now)).collect()
}

fn counts(status: &Status) -> Value {
    let totals = status.totals;
    let answered = totals.successful + totals.failed;
    let share = |part: f64, whole: u64| if whole == 0 { 0.0 } else { part / whole as f64 };
    json!({
        "requests_sent": totals.sent,
        "requests_successful": totals.successful,
        "requests_failed": totals.failed,
        "requests_cancelled": totals.gone,
        "requests_shed": totals.shed,
        "answers_cached": totals.remembered,
        "answers_cached_tokens": totals.remembered_tokens,
        "answers_resumed": totals.resumed,
        "success_rate_percent": share(100.0 * totals.successful as f64, answered),
        "avg_inference_time_seconds": share(totals.inference_seconds, totals.successful),
        "total_inference_time_seconds": totals.inference_seconds,
        "tokens_generated": totals.tokens,
        "prompt_tokens": totals.prompt_tokens,
        "cached_tokens": totals.cached_tokens,
    })
}

fn preparation(status: &Status) -> Preparation {
    let hour = |(hour, saved): &(u64, Saved)| {
        let start = i64::try_from(*hour * 3600).ok().and_then(|second| Timestamp::from_second(second).ok());
        Hour { start: start.unwrap_or_default().to_string(), savings: savings(saved) }
    };
    Preparation {
        original_chars: status.totals.prompt_chars,
        final_chars: status.totals.prepared_chars,
        since_start: savings(&status.savings.total),
        hours: status.savings.hours().map(hour).collect(),
    }
}

fn savings(saved: &Saved) -> Savings {
    Savings {
        shortened: saved.prompts,
        original_tokens: saved.original_tokens,
        sent_tokens: saved.sent_tokens,
        saved_tokens: saved.tokens(),
        saved_seconds: rounded(saved.seconds),
    }
}

fn upstream(known: &UpstreamStatus, now: Instant) -> Upstream<'_> {
    let (status, round_trip) = match &known.probe {
        Probe::Answered { status, round_trip, .. } => (&**status, Some(round_trip.as_secs_f64() * 1e3)),
        Probe::Failed => ("unreachable", None),
        Probe::Pending => ("unknown", None),
    };
    let (breaker, retry_seconds) = match known.breaker {
        State::Closed { .. } => ("closed", None),
        State::HalfOpen { .. } => ("half_open", None),
        State::Open { until, .. } => ("open", Some(until.saturating_duration_since(now).as_secs_f64().ceil() as u64)),
    };
    Upstream {
        name: &known.name,
        connected: known.connected,
        available: known.available(),
        status,
        round_trip_ms: round_trip.map(rounded),
        breaker,
        retry_seconds,
        message: message(known),
    }
}

/// How an upstream is, in a person's words.
fn message(known: &UpstreamStatus) -> String {
    if let Some(trouble) = known.trouble {
        return Problem::Trouble(known.name.clone(), trouble).message();
    }
    let said = match (known.connected, &known.probe, known.breaker) {
        (false, ..) => "Cannot be reached; trying again.",
        (true, Probe::Failed, _) => "Connected, but does not answer.",
        (true, Probe::Answered { available: false, status, .. }, _) => {
            return format!("Takes no requests: it says that it is {status}.");
        }
        (true, _, State::Open { .. }) => "Answers failed; left alone for a while.",
        (true, _, State::HalfOpen { .. }) => "Answers failed; the next request tries it again.",
        (true, Probe::Pending, State::Closed { .. }) => "Connected.",
        (true, Probe::Answered { .. }, State::Closed { .. }) => "Ready.",
    };
    said.to_owned()
}

fn in_progress(running: &Running, now: Now) -> Present<'_> {
    let sent = running.sent.as_ref();
    Present {
        what: What {
            original_tokens: sent.map(|sent| sent.tokens + sent.tokens_saved),
            prompt_tokens: sent.map(|sent| sent.tokens),
            tokens_per_second: running.rate(now.instant).map(rounded),
            ..what(running, now)
        },
        phase: running.phase().as_str(),
        progress: running.progress,
        seconds: rounded(now.instant.saturating_duration_since(running.since).as_secs_f64()),
    }
}

fn ended_request(ended: &Ended, now: Now) -> Past<'_> {
    let prompt = ended.prompt_tokens();
    let remembered = ended.running.is_remembered();
    Past {
        what: What {
            tokens: ended.ending.tokens,
            original_tokens: prompt.map(|(original, _)| original),
            prompt_tokens: prompt.map(|(_, read)| read),
            // From memory it is nobody's speed.
            tokens_per_second: ended.running.rate(ended.at).filter(|_| !remembered).map(rounded),
            ..what(&ended.running, now)
        },
        outcome: ended.ending.outcome.as_str(),
        reason: ended.ending.reason,
        cached_tokens: ended.ending.usage.map(|Usage { cached_tokens, .. }| cached_tokens).filter(|_| !remembered),
        seconds: rounded(ended.duration().as_secs_f64()),
    }
}

fn what(running: &Running, now: Now) -> What<'_> {
    let sent = running.sent.as_ref();
    let first = running.first_token.map(|first| first.saturating_duration_since(running.since).as_secs_f64());
    What {
        number: running.arrival.number,
        id: running.arrival.id.to_string(),
        started: now.at(running.since),
        call: running.arrival.call,
        client: &running.arrival.client,
        model: sent.map(|sent| &*sent.model),
        language: sent.map(|sent| &*sent.language),
        upstream: sent.and_then(|sent| sent.upstream.as_deref()),
        remembered: running.is_remembered(),
        original_tokens: None,
        prompt_tokens: None,
        tokens: running.tokens,
        tokens_per_second: None,
        first_token_seconds: first.map(rounded),
    }
}

/// To the thousandth, which is more than anybody reads.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::problem::Trouble;
    use crate::status::{Board, Event};

    fn said(board: &Board) -> String {
        board.look(|status| upstream(&status.upstreams[0], Instant::now()).message)
    }

    #[tokio::test]
    async fn an_upstream_is_described_in_words() {
        let board = Board::new(["vps".into()]);
        assert!(said(&board).starts_with("Cannot be reached"));
        board.tell(Event::Link { upstream: 0, connected: true });
        assert_eq!(said(&board), "Connected.");
        let answered = |available, status: &str| {
            let probe = Probe::Answered { status: status.into(), available, round_trip: Duration::ZERO };
            Event::Probed { upstream: 0, probe }
        };
        board.tell(answered(false, "overloaded"));
        assert!(said(&board).contains("overloaded"));
        board.tell(answered(true, "healthy"));
        assert_eq!(said(&board), "Ready.");
        let until = Instant::now() + Duration::from_secs(9);
        board.tell(Event::Breaker { upstream: 0, state: State::Open { until, trips: 1 } });
        assert!(said(&board).contains("left alone"));
        let retry =
            board.look(|status| upstream(&status.upstreams[0], until - Duration::from_millis(2500)).retry_seconds);
        assert_eq!(retry, Some(3));
        board.tell(Event::Trouble { upstream: 0, trouble: Some(Trouble::Key) });
        assert!(said(&board).contains("refuses our key"));
    }

    #[tokio::test]
    async fn who_watches_sees_what_the_statistics_say() {
        let board = Board::new(["vps".into()]);
        let value = |look: &dyn Fn(&Status) -> serde_json::Result<Value>| board.look(look).unwrap();
        let now = Now::here();
        let all = value(&|status| serde_json::to_value(everything(status, now)));
        let watched = value(&|status| serde_json::to_value(live(status, now)));
        for (name, figure) in watched.as_object().unwrap() {
            assert_eq!(&all[name], figure, "{name}");
        }
        assert_eq!(all["recent"], value(&|status| serde_json::to_value(recent(status, now))));
    }

    #[tokio::test(start_paused = true)]
    async fn times_are_told_by_the_wall_clock() {
        let now = Now { instant: Instant::now() + Duration::from_millis(1500), wall: Timestamp::UNIX_EPOCH };
        assert_eq!(now.at(Instant::now()), "1969-12-31T23:59:58.500Z");
    }
}
