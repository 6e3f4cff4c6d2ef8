//! What is going on, as one small value: requests report [`Event`]s, the pure [`reduce`] folds them into [`Status`], and
//! whoever shows something (health, statistics, page, board) reads the newest one. Nothing flows the other way.

mod board;
pub mod pace;
pub mod requests;
pub mod savings;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cerebrum_board::Update;
use tokio::time::Instant;

use crate::problem::{self, Problem, Strain, Trouble};
use crate::upstream::breaker;
pub use board::Board;
use pace::Pace;
use requests::{Arrival, Ended, Ending, Outcome, Requests, Sent};
use savings::Savings;

/// The appliance at one moment. Never holds a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// When the daemon started.
    pub started: Instant,
    /// Requests in progress, streams counted until their body ends, and the last ones that ended.
    pub requests: Requests,
    /// Requests that wait for a place.
    pub queued: u32,
    /// Totals since the start.
    pub totals: Totals,
    /// Tokens written over the last minutes.
    pub pace: Pace,
    /// What preparation saved.
    pub savings: Savings,
    /// Upstreams in the order of the settings.
    pub upstreams: Vec<UpstreamStatus>,
    /// Processor use of the whole machine, in percent.
    pub cpu_percent: f32,
    /// Addresses of the machine that others can reach, the most useful one first.
    pub addresses: Vec<IpAddr>,
    /// Since when there has been no address.
    pub unplugged_since: Option<Instant>,
    /// Since when no upstream has let a request through.
    pub alone_since: Option<Instant>,
    /// Whether the machine suffers.
    pub strain: Strain,
    /// Whether keys can be read and kept.
    pub keys_sound: bool,
    /// A newer system, where one is known.
    pub update: Option<Update>,
    /// What is wrong and has been read by a person.
    pub dismissed: Vec<Problem>,
}

/// Sums over all ended requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Requests sent to an upstream.
    pub sent: u64,
    /// Those answered to the end.
    pub successful: u64,
    /// Those that broke or were refused by the upstream.
    pub failed: u64,
    /// Those whose client left.
    pub gone: u64,
    /// Requests refused here for lack of a place.
    pub shed: u64,
    /// Answers given from memory; nothing else here counts them.
    pub remembered: u64,
    /// Tokens of those.
    pub remembered_tokens: u64,
    /// Answers that went on over another connection after theirs broke, counted each time.
    pub resumed: u64,
    /// Tokens that upstreams wrote.
    pub tokens: u64,
    /// Seconds the upstreams spent on successful requests.
    pub inference_seconds: f64,
    /// Characters of prompts as they came.
    pub prompt_chars: u64,
    /// Characters of prompts as they were sent on.
    pub prepared_chars: u64,
    /// Tokens of prompts that complete answers were given to.
    pub prompt_tokens: u64,
    /// Those of them that the upstream had in its cache.
    pub cached_tokens: u64,
}

/// One upstream as last seen.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamStatus {
    /// Its name in the settings.
    pub name: Arc<str>,
    /// Whether the connection stands.
    pub connected: bool,
    /// The newest probe.
    pub probe: Probe,
    /// Since when it has answered that it takes no requests.
    pub refusing_since: Option<Instant>,
    /// Why it cannot be used, where more is known than that it does not answer.
    pub trouble: Option<Trouble>,
    /// Whether requests are let through to it.
    pub breaker: breaker::State,
}

/// What the newest health probe said.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Probe {
    /// None came back yet.
    #[default]
    Pending,
    /// The server answered.
    Answered {
        /// Its own word: `healthy` or `overloaded`.
        status: Arc<str>,
        /// Whether it takes requests.
        available: bool,
        /// How long the answer took.
        round_trip: Duration,
    },
    /// It did not answer.
    Failed,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A request took a place.
    Admitted(Arrival),
    /// A request began or ceased to wait for a place.
    Queued(i32),
    /// A request was turned away for lack of a place.
    Shed,
    /// An answer went on over another connection.
    Resumed,
    /// A request was sent to an upstream, or its answer found in memory.
    Sent {
        /// The request's number.
        number: u64,
        /// What was sent.
        sent: Sent,
    },
    /// Part of the model was loaded.
    Loading {
        /// The request's number.
        number: u64,
        /// How much of it, 0 to 1.
        share: f32,
    },
    /// Part of a prompt was read.
    Progress {
        /// The request's number.
        number: u64,
        /// How much of it, 0 to 1.
        share: f32,
    },
    /// Tokens were written.
    Tokens {
        /// The request's number.
        number: u64,
        /// Its total so far.
        tokens: u32,
    },
    /// A request that had been admitted ended.
    Ended(Ending),
    /// An upstream's breaker opened, closed, or lets one request through.
    Breaker {
        /// Index of the upstream.
        upstream: usize,
        /// What it does now.
        state: breaker::State,
    },
    /// A connection was made or lost.
    Link {
        /// Index of the upstream.
        upstream: usize,
        /// Whether it stands.
        connected: bool,
    },
    /// A probe came back, or did not.
    Probed {
        /// Index of the upstream.
        upstream: usize,
        /// Its result.
        probe: Probe,
    },
    /// The processor's use was measured.
    Cpu(f32),
    /// The machine's addresses were looked up.
    Addresses(Vec<IpAddr>),
    /// More is known of why an upstream cannot be used, or that no such thing stands any more.
    Trouble {
        /// Index of the upstream.
        upstream: usize,
        /// Why.
        trouble: Option<Trouble>,
    },
    /// Temperature and voltage were measured.
    Strain(Strain),
    /// The key file was looked at: whether it can be used.
    Keys(bool),
    /// There is an update, or how far it is; or there is none any more.
    Update(Option<Update>),
    /// A person has read what is wrong.
    Dismissed,
}

/// The status after `event`.
pub fn reduce(status: &mut Status, event: Event, now: Instant) {
    match event {
        Event::Admitted(arrival) => status.requests.admit(arrival, now),
        Event::Queued(change) => status.queued = status.queued.saturating_add_signed(change),
        Event::Shed => status.totals.shed += 1,
        Event::Resumed => status.totals.resumed += 1,
        Event::Sent { number, sent } => {
            let again = status.requests.was_sent(number);
            let totals = &mut status.totals;
            if sent.upstream.is_some() && !again {
                totals.sent += 1;
                totals.prompt_chars += sent.prompt_chars;
                totals.prepared_chars += sent.prepared_chars;
            } else if !again {
                totals.remembered += 1;
            }
            status.requests.send(number, sent);
        }
        Event::Loading { number, share } => status.requests.load(number, share),
        Event::Progress { number, share } => status.requests.progress(number, share),
        Event::Tokens { number, tokens } => write(status, number, tokens, now),
        Event::Ended(ending) => end(status, ending, now),
        Event::Breaker { upstream, state } => {
            if let Some(known) = status.upstreams.get_mut(upstream) {
                known.breaker = state;
            }
            look_around(status, now);
        }
        Event::Link { upstream, connected } => {
            if let Some(known) = status.upstreams.get_mut(upstream) {
                known.connected = connected;
            }
            look_around(status, now);
        }
        Event::Probed { upstream, probe } => {
            if let Some(known) = status.upstreams.get_mut(upstream) {
                let refuses = matches!(probe, Probe::Answered { available: false, .. });
                known.refusing_since = refuses.then(|| known.refusing_since.unwrap_or(now));
                known.probe = probe;
            }
        }
        Event::Trouble { upstream, trouble } => {
            if let Some(known) = status.upstreams.get_mut(upstream) {
                known.trouble = trouble;
            }
        }
        Event::Cpu(percent) => status.cpu_percent = percent,
        Event::Addresses(addresses) => {
            status.unplugged_since = addresses.is_empty().then(|| status.unplugged_since.unwrap_or(now));
            status.addresses = addresses;
        }
        Event::Strain(strain) => status.strain = strain,
        Event::Keys(sound) => status.keys_sound = sound,
        Event::Update(update) => status.update = update,
        Event::Dismissed => status.dismissed.extend(problem::shown(status, now)),
    }
    // What comes again is news again.
    if !status.dismissed.is_empty() {
        let standing = problem::standing(status, now);
        status.dismissed.retain(|problem| standing.contains(problem));
    }
}

/// A breaker that lets one request through to try has not closed yet: its failure would begin the same trouble anew.
fn look_around(status: &mut Status, now: Instant) {
    let closed = |upstream: &UpstreamStatus| matches!(upstream.breaker, breaker::State::Closed { .. });
    let alone = !status.upstreams.iter().any(|upstream| upstream.connected && closed(upstream));
    status.alone_since = alone.then(|| status.alone_since.unwrap_or(now));
}

fn write(status: &mut Status, number: u64, tokens: u32, now: Instant) {
    let more = status.requests.write(number, tokens, now);
    if more > 0 {
        status.pace.write(now - status.started, more);
    }
}

fn end(status: &mut Status, ending: Ending, now: Instant) {
    if ending.tokens > 0 {
        write(status, ending.number, ending.tokens, now);
    }
    let Some(ended) = status.requests.end(ending, now) else { return };
    let Ended { ending, .. } = &*ended;
    let totals = &mut status.totals;
    if ended.running.is_remembered() {
        totals.remembered_tokens += u64::from(ending.tokens);
        return;
    }
    totals.tokens += u64::from(ending.tokens);
    if let Some(usage) = ending.usage {
        totals.prompt_tokens += u64::from(usage.prompt_tokens);
        totals.cached_tokens += u64::from(usage.cached_tokens);
    }
    match ending.outcome {
        Outcome::Complete => {
            totals.successful += 1;
            totals.inference_seconds += ending.seconds;
        }
        Outcome::UpstreamFailed | Outcome::TimedOut => totals.failed += 1,
        Outcome::ClientGone | Outcome::Stopped => totals.gone += 1,
        Outcome::Refused => {}
    }
    status.savings.take(&ended);
}

impl UpstreamStatus {
    /// Whether a request sent now has a chance: connected, and not known to be unavailable.
    pub fn available(&self) -> bool {
        self.connected && !matches!(self.probe, Probe::Failed | Probe::Answered { available: false, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::savings::Saved;
    use super::*;
    use cerebrum_common::request_id::RequestId;
    use cerebrum_common::wire::Usage;
    use proptest::prelude::*;

    fn arrival(number: u64) -> Arrival {
        Arrival { number, id: RequestId::random(), call: "complete", client: "laptop".into() }
    }

    fn ending(number: u64, outcome: Outcome) -> Ending {
        let usage = Some(Usage { prompt_tokens: 12, cached_tokens: 4, completion_tokens: 2 });
        let usage = usage.filter(|_| outcome == Outcome::Complete);
        Ending { number, outcome, reason: None, tokens: 2, seconds: 1.5, usage, prefill_per_s: Some(5.0), hour: 0 }
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let outcomes = vec![Outcome::Complete, Outcome::UpstreamFailed, Outcome::ClientGone, Outcome::Refused];
        let outcome = prop::sample::select(outcomes);
        prop_oneof![
            (0_u64..3).prop_map(|number| Event::Admitted(arrival(number))),
            Just(Event::Queued(1)),
            Just(Event::Queued(-1)),
            (0_u64..3).prop_map(|number| Event::Sent { number, sent: Sent::sample(Some("vps")) }),
            (0_u64..3).prop_map(|number| Event::Tokens { number, tokens: 3 }),
            (0_u64..3, outcome).prop_map(|(number, outcome)| Event::Ended(ending(number, outcome))),
            (0_usize..3).prop_map(|upstream| Event::Link { upstream, connected: true }),
        ]
    }

    #[tokio::test]
    async fn a_request_is_counted_from_admission_to_its_end() {
        let board = Board::new(["vps".into()]);
        board.tell(Event::Admitted(arrival(1)));
        board.tell(Event::Sent { number: 1, sent: Sent::sample(Some("vps")) });
        board.tell(Event::Tokens { number: 1, tokens: 2 });
        board.look(|status| {
            assert_eq!(status.requests.active(), 1);
            assert_eq!(status.requests.current().unwrap().tokens, 2);
        });
        board.tell(Event::Ended(ending(1, Outcome::Complete)));
        board.tell(Event::Ended(ending(1, Outcome::Complete)));
        board.look(|status| {
            assert_eq!((status.requests.active(), status.requests.recent().len()), (0, 1));
            assert!(status.requests.current().is_none());
            assert_eq!((status.totals.successful, status.totals.tokens), (1, 2));
            assert_eq!((status.totals.prompt_tokens, status.totals.cached_tokens), (12, 4));
            assert_eq!((status.savings.total.tokens(), status.savings.total.seconds), (75, 15.0));
        });
    }

    #[tokio::test]
    async fn an_answer_from_memory_is_no_work_of_an_upstream() {
        let board = Board::new(["vps".into()]);
        for (number, outcome) in [(1, Outcome::Complete), (2, Outcome::ClientGone)] {
            board.tell(Event::Admitted(arrival(number)));
            board.tell(Event::Sent { number, sent: Sent::sample(None) });
            board.tell(Event::Ended(ending(number, outcome)));
        }
        board.look(|status| {
            let expected = Totals { remembered: 2, remembered_tokens: 4, ..Totals::default() };
            assert_eq!((status.totals, status.savings.total), (expected, Saved::default()));
            assert_eq!(status.requests.recent().len(), 2);
        });
    }

    #[tokio::test]
    async fn the_board_shows_the_newest_request_that_is_still_there() {
        let board = Board::new(["vps".into()]);
        for number in [1, 2] {
            board.tell(Event::Admitted(arrival(number)));
            board.tell(Event::Sent { number, sent: Sent::sample(Some("vps")) });
        }
        let current = || board.look(|status| status.requests.current().map(|running| running.arrival.number));
        assert_eq!(current(), Some(2));
        board.tell(Event::Ended(ending(2, Outcome::ClientGone)));
        assert_eq!(current(), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_written_shows_in_the_pace_once() {
        let board = Board::new(["vps".into()]);
        board.tell(Event::Admitted(arrival(1)));
        board.tell(Event::Sent { number: 1, sent: Sent::sample(Some("vps")) });
        board.tell(Event::Tokens { number: 1, tokens: 2 });
        // The answer's end tells of tokens that no event told of.
        board.tell(Event::Ended(Ending { tokens: 7, ..ending(1, Outcome::Complete) }));
        let later = pace::SPAN * 2;
        board.look(|status| assert_eq!(status.pace.spans(later).iter().sum::<u32>(), 7));
    }

    proptest! {
        #[test]
        fn no_order_of_events_makes_a_count_negative_or_panics(events in prop::collection::vec(any_event(), 0..60)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let board = Board::new(["vps".into()]);
                let admitted = events.iter().filter(|event| matches!(event, Event::Admitted(_))).count();
                for event in events {
                    board.tell(event);
                }
                board.look(|status| assert!(status.requests.active() as usize <= admitted));
            });
        }
    }
}
