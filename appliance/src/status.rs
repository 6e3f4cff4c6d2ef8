//! What is going on, as one small value: requests report [`Event`]s, the pure [`reduce`] folds them into [`Status`], and
//! whoever shows something (health, statistics, page, board) reads the newest one. Nothing flows the other way.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cerebrum_board::Update;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::problem::{self, Problem, Strain, Trouble};

/// The appliance at one moment. Never holds a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// When the daemon started.
    pub started: Instant,
    /// Requests in progress, streams counted until their body ends.
    pub active: u32,
    /// Requests that wait for a place.
    pub queued: u32,
    /// The newest request in progress, for the board.
    pub current: Option<Current>,
    /// Totals since the start.
    pub totals: Totals,
    /// Upstreams in the order of the settings.
    pub upstreams: Vec<UpstreamStatus>,
    /// Processor use of the whole machine, in percent.
    pub cpu_percent: f32,
    /// Addresses of the machine that others can reach, the most useful one first.
    pub addresses: Vec<IpAddr>,
    /// Since when there has been no address.
    pub unplugged_since: Option<Instant>,
    /// Since when no upstream has been connected.
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

/// What the newest request is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct Current {
    /// Its id as a number.
    pub id: u128,
    /// The model that answers it.
    pub model: Arc<str>,
    /// Share of the prompt that has been read, 0 to 1.
    pub progress: f32,
    /// Tokens so far.
    pub tokens: u32,
    /// When the first token came.
    pub first_token: Option<Instant>,
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
    /// Answers given from memory.
    pub remembered: u64,
    /// Answers that went on over another connection after theirs broke, counted each time.
    pub resumed: u64,
    /// Tokens written.
    pub tokens: u64,
    /// Seconds the upstreams spent on successful requests.
    pub inference_seconds: f64,
    /// Characters of prompts as they came.
    pub prompt_chars: u64,
    /// Characters of prompts as they were sent on.
    pub prepared_chars: u64,
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
    Admitted,
    /// A request began or ceased to wait for a place.
    Queued(i32),
    /// A request was turned away for lack of a place.
    Shed,
    /// An answer was given from memory.
    Remembered,
    /// An answer went on over another connection.
    Resumed,
    /// A request was sent to an upstream.
    Sent {
        /// The request's id as a number.
        id: u128,
        /// The model asked for.
        model: Arc<str>,
        /// Prompt as it came, in characters.
        prompt_chars: u64,
        /// Prompt as sent, in characters.
        prepared_chars: u64,
    },
    /// Part of the prompt was read, 0 to 1.
    Progress(f32),
    /// Tokens were written: the request's total so far.
    Tokens(u32),
    /// A request that had been admitted ended.
    Ended {
        /// How.
        outcome: Ending,
        /// Tokens it wrote.
        tokens: u32,
        /// Seconds the upstream spent.
        seconds: f64,
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

/// How an admitted request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Answered to the end.
    Complete,
    /// Broken, or refused by the upstream.
    Failed,
    /// Its client left.
    Gone,
    /// Refused here, before it was sent.
    Refused,
}

/// The status after `event`.
pub fn reduce(status: &mut Status, event: Event, now: Instant) {
    match event {
        Event::Admitted => status.active += 1,
        Event::Queued(change) => status.queued = status.queued.saturating_add_signed(change),
        Event::Shed => status.totals.shed += 1,
        Event::Remembered => status.totals.remembered += 1,
        Event::Resumed => status.totals.resumed += 1,
        Event::Sent { id, model, prompt_chars, prepared_chars } => {
            status.totals.sent += 1;
            status.totals.prompt_chars += prompt_chars;
            status.totals.prepared_chars += prepared_chars;
            status.current = Some(Current { id, model, progress: 0.0, tokens: 0, first_token: None });
        }
        Event::Progress(progress) => {
            if let Some(current) = &mut status.current {
                current.progress = progress;
            }
        }
        Event::Tokens(tokens) => {
            if let Some(current) = &mut status.current {
                current.progress = 1.0;
                current.tokens = tokens;
                current.first_token.get_or_insert(now);
            }
        }
        Event::Ended { outcome, tokens, seconds } => end(status, outcome, tokens, seconds),
        Event::Link { upstream, connected } => {
            if let Some(known) = status.upstreams.get_mut(upstream) {
                known.connected = connected;
            }
            let alone = !status.upstreams.iter().any(|upstream| upstream.connected);
            status.alone_since = alone.then(|| status.alone_since.unwrap_or(now));
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

fn end(status: &mut Status, outcome: Ending, tokens: u32, seconds: f64) {
    status.active = status.active.saturating_sub(1);
    if status.active == 0 {
        status.current = None;
    }
    let totals = &mut status.totals;
    totals.tokens += u64::from(tokens);
    match outcome {
        Ending::Complete => {
            totals.successful += 1;
            totals.inference_seconds += seconds;
        }
        Ending::Failed => totals.failed += 1,
        Ending::Gone => totals.gone += 1,
        Ending::Refused => {}
    }
}

impl UpstreamStatus {
    /// Whether a request sent now has a chance: connected, and not known to be unavailable.
    pub fn available(&self) -> bool {
        self.connected && !matches!(self.probe, Probe::Failed | Probe::Answered { available: false, .. })
    }
}

/// Where events go and the newest status is read. Clones share one status.
#[derive(Clone, Debug)]
pub struct Board(watch::Sender<Status>);

impl Board {
    /// A fresh status over the named upstreams.
    pub fn new(upstreams: impl IntoIterator<Item = Arc<str>>) -> Self {
        let upstream = |name| UpstreamStatus {
            name,
            connected: false,
            probe: Probe::Pending,
            refusing_since: None,
            trouble: None,
        };
        let (sender, _) = watch::channel(Status {
            started: Instant::now(),
            active: 0,
            queued: 0,
            current: None,
            totals: Totals::default(),
            upstreams: upstreams.into_iter().map(upstream).collect(),
            cpu_percent: 0.0,
            addresses: Vec::new(),
            unplugged_since: None,
            alone_since: Some(Instant::now()),
            strain: Strain::default(),
            keys_sound: true,
            update: None,
            dismissed: Vec::new(),
        });
        Self(sender)
    }

    /// Folds in what happened. Never waits.
    pub fn tell(&self, event: Event) {
        self.0.send_modify(|status| reduce(status, event, Instant::now()));
    }

    /// Looks at the newest status.
    pub fn look<T>(&self, look: impl FnOnce(&Status) -> T) -> T {
        look(&self.0.borrow())
    }

    /// Follows the status.
    pub fn follow(&self) -> watch::Receiver<Status> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_event() -> impl Strategy<Value = Event> {
        let outcome = prop::sample::select(vec![Ending::Complete, Ending::Failed, Ending::Gone, Ending::Refused]);
        prop_oneof![
            Just(Event::Admitted),
            Just(Event::Queued(1)),
            Just(Event::Queued(-1)),
            Just(Event::Sent { id: 1, model: "m".into(), prompt_chars: 10, prepared_chars: 5 }),
            Just(Event::Tokens(3)),
            outcome.prop_map(|outcome| Event::Ended { outcome, tokens: 1, seconds: 1.0 }),
            (0_usize..3).prop_map(|upstream| Event::Link { upstream, connected: true }),
        ]
    }

    #[tokio::test]
    async fn a_request_is_counted_from_admission_to_its_end() {
        let board = Board::new(["vps".into()]);
        board.tell(Event::Admitted);
        board.tell(Event::Sent { id: 1, model: "qwen_7b".into(), prompt_chars: 100, prepared_chars: 40 });
        board.tell(Event::Tokens(2));
        board.look(|status| {
            assert_eq!(status.active, 1);
            assert_eq!(status.current.as_ref().unwrap().tokens, 2);
        });
        board.tell(Event::Ended { outcome: Ending::Complete, tokens: 2, seconds: 1.5 });
        board.look(|status| {
            assert_eq!((status.active, &status.current), (0, &None));
            assert_eq!((status.totals.successful, status.totals.tokens), (1, 2));
        });
    }

    proptest! {
        #[test]
        fn no_order_of_events_makes_a_count_negative_or_panics(events in prop::collection::vec(any_event(), 0..60)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let board = Board::new(["vps".into()]);
                let admitted = events.iter().filter(|event| matches!(event, Event::Admitted)).count();
                for event in events {
                    board.tell(event);
                }
                board.look(|status| assert!(status.active as usize <= admitted));
            });
        }
    }
}
