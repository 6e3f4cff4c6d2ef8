//! Requests in progress and the last ones that ended: sizes, speeds and names, never a text.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cerebrum_common::request_id::RequestId;
use cerebrum_common::wire::Usage;
use tokio::time::Instant;

/// Requests that ended and are still shown: an evening's at the speed of a small server, some 10 KiB.
pub const RECENT: usize = 50;

/// A request that took a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Tells it from all others of this daemon; several answers to one request have the same id, but a number each.
    pub number: u64,
    /// The request's id.
    pub id: RequestId,
    /// What was called: `complete`, `stream`, `batch`, `chat`, `completions`, `messages` or `infill`.
    pub call: &'static str,
    /// The name of the client's key, or `open` where no key is needed.
    pub client: Arc<str>,
}

/// What was sent to an upstream, or found in memory, for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The upstream's name; none for an answer from memory.
    pub upstream: Option<Arc<str>>,
    /// The model asked for.
    pub model: Arc<str>,
    /// The code's language, `unknown` where nobody knows.
    pub language: Arc<str>,
    /// Prompt as it came, in characters.
    pub prompt_chars: u64,
    /// Prompt as sent, in characters.
    pub prepared_chars: u64,
    /// Prompt as sent, in tokens: an estimate, until the answer tells how many were read.
    pub tokens: u32,
    /// Tokens that preparation left out.
    pub tokens_saved: u32,
    /// Tokens that the answer may have.
    pub max_tokens: u32,
}

/// A request in progress.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// What it is.
    pub arrival: Arrival,
    /// When it took its place.
    pub since: Instant,
    /// What was sent for it; none while it is read and prepared.
    pub sent: Option<Sent>,
    /// Share of the model that has been loaded, 0 to 1, while the server loads it.
    pub loading: Option<f32>,
    /// Share of the prompt that has been read, 0 to 1.
    pub progress: f32,
    /// Tokens so far.
    pub tokens: u32,
    /// When the first token came.
    pub first_token: Option<Instant>,
}

/// What a request in progress is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// It is read and prepared.
    Preparing,
    /// The server loads its model: the share that it has, 0 to 1.
    Loading(f32),
    /// The server reads its prompt: the share that has been read, 0 to 1.
    Reading(f32),
    /// Tokens come.
    Writing,
}

impl Phase {
    /// Its name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Loading(_) => "loading",
            Self::Reading(_) => "reading",
            Self::Writing => "writing",
        }
    }
}

/// How an admitted request ended; the log calls it so, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered to the end.
    Complete,
    /// Refused, before it was sent or for what it asks.
    Refused,
    /// Broken, or refused by the upstream.
    UpstreamFailed,
    /// It took longer than allowed.
    TimedOut,
    /// Its client left.
    ClientGone,
    /// Stopped by a person, or because the daemon stops.
    Stopped,
}

impl Outcome {
    /// Its name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Refused => "refused",
            Self::UpstreamFailed => "failed",
            Self::TimedOut => "timed_out",
            Self::ClientGone => "cancelled",
            Self::Stopped => "stopped",
        }
    }
}

/// The end of a request that had taken a place.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// Which request.
    pub number: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// A word for why, where it did not end well: one of the program's own, never of the request's.
    pub reason: Option<&'static str>,
    /// Tokens it wrote.
    pub tokens: u32,
    /// Seconds the upstream spent on a complete answer.
    pub seconds: f64,
    /// Tokens read and written, as a complete answer tells.
    pub usage: Option<Usage>,
    /// Prompt tokens per second that this model reads, where that is known.
    pub prefill_per_s: Option<f32>,
    /// The hour of the wall clock, counted from 1970.
    pub hour: u64,
}

/// A request that ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// What it was.
    pub running: Running,
    /// How it ended.
    pub ending: Ending,
    /// When.
    pub at: Instant,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requests {
    running: BTreeMap<u64, Running>,
    recent: VecDeque<Arc<Ended>>,
    ended: u64,
}

impl Requests {
    /// How many are in progress.
    pub fn active(&self) -> u32 {
        u32::try_from(self.running.len()).unwrap_or(u32::MAX)
    }

    /// Those in progress, oldest first.
    pub fn running(&self) -> impl ExactSizeIterator<Item = &Running> + DoubleEndedIterator {
        self.running.values()
    }

    /// The one for the board: the newest that was sent, else the newest.
    pub fn current(&self) -> Option<&Running> {
        let sent = self.running.values().rev().find(|running| running.sent.is_some());
        sent.or_else(|| self.running.values().next_back())
    }

    /// The last [`RECENT`] that ended, newest first.
    pub fn recent(&self) -> impl ExactSizeIterator<Item = &Arc<Ended>> {
        self.recent.iter()
    }

    /// How many have ended since the start: another number is another list of recent ones.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    pub(super) fn admit(&mut self, arrival: Arrival, now: Instant) {
        let number = arrival.number;
        let running =
            Running { arrival, since: now, sent: None, loading: None, progress: 0.0, tokens: 0, first_token: None };
        self.running.insert(number, running);
    }

    /// Whether it has gone to an upstream before, which did not take it.
    pub(super) fn was_sent(&self, number: u64) -> bool {
        self.running.get(&number).is_some_and(|running| running.sent.is_some())
    }

    pub(super) fn send(&mut self, number: u64, sent: Sent) {
        if let Some(running) = self.running.get_mut(&number) {
            running.sent = Some(sent);
        }
    }

    pub(super) fn load(&mut self, number: u64, share: f32) {
        if let Some(running) = self.running.get_mut(&number) {
            running.loading = Some(share);
        }
    }

    pub(super) fn progress(&mut self, number: u64, share: f32) {
        if let Some(running) = self.running.get_mut(&number) {
            running.loading = None;
            running.progress = share;
        }
    }

    /// Takes a request's new total; tokens that an upstream wrote since the last one.
    pub(super) fn write(&mut self, number: u64, tokens: u32, now: Instant) -> u32 {
        let Some(running) = self.running.get_mut(&number) else { return 0 };
        let more = tokens.saturating_sub(running.tokens);
        (running.loading, running.progress) = (None, 1.0);
        running.tokens = tokens;
        running.first_token.get_or_insert(now);
        if running.is_remembered() { 0 } else { more }
    }

    /// Moves a request to those that ended.
    pub(super) fn end(&mut self, ending: Ending, now: Instant) -> Option<Arc<Ended>> {
        let running = self.running.remove(&ending.number)?;
        let ended = Arc::new(Ended { running, ending, at: now });
        self.recent.truncate(RECENT - 1);
        self.recent.push_front(ended.clone());
        self.ended += 1;
        Some(ended)
    }
}

impl Running {
    /// Whether its answer comes from memory.
    pub fn is_remembered(&self) -> bool {
        self.sent.as_ref().is_some_and(|sent| sent.upstream.is_none())
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        match (&self.sent, self.loading, self.first_token) {
            (None, ..) => Phase::Preparing,
            (_, Some(share), _) => Phase::Loading(share),
            (_, _, None) => Phase::Reading(self.progress),
            (_, _, Some(_)) => Phase::Writing,
        }
    }

    /// Tokens per second since the first one; none before the second one.
    pub fn rate(&self, now: Instant) -> Option<f64> {
        let seconds = now.saturating_duration_since(self.first_token?).as_secs_f64();
        // The clock starts when the first one is there.
        (self.tokens > 1 && seconds > 0.0).then(|| f64::from(self.tokens - 1) / seconds)
    }
}

impl Ended {
    /// Tokens of the prompt as it came, and as it was read.
    pub fn prompt_tokens(&self) -> Option<(u32, u32)> {
        let sent = self.running.sent.as_ref()?;
        let read = self.ending.usage.map_or(sent.tokens, |usage| usage.prompt_tokens);
        Some((read + sent.tokens_saved, read))
    }

    /// How long it held its place.
    pub fn duration(&self) -> Duration {
        self.at - self.running.since
    }

    /// How long until its first token.
    pub fn to_first_token(&self) -> Option<Duration> {
        Some(self.running.first_token? - self.running.since)
    }
}

#[cfg(test)]
impl Sent {
    /// A quarter of a prompt, sent to `upstream` or found in memory.
    pub(crate) fn sample(upstream: Option<&str>) -> Self {
        Self {
            upstream: upstream.map(Into::into),
            model: "m".into(),
            language: "rust".into(),
            prompt_chars: 400,
            prepared_chars: 100,
            tokens: 25,
            tokens_saved: 75,
            max_tokens: 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(number: u64) -> Arrival {
        Arrival { number, id: RequestId::random(), call: "stream", client: "laptop".into() }
    }

    fn ending(number: u64) -> Ending {
        let (outcome, usage) = (Outcome::Complete, None);
        Ending { number, outcome, reason: None, tokens: 3, seconds: 1.0, usage, prefill_per_s: None, hour: 0 }
    }

    #[tokio::test]
    async fn only_so_many_are_remembered_the_newest_first() {
        let (mut requests, now) = (Requests::default(), Instant::now());
        for number in 0..3 * RECENT as u64 {
            requests.admit(arrival(number), now);
            requests.end(ending(number), now);
            assert!(requests.recent().len() <= RECENT);
        }
        let numbers: Vec<u64> = requests.recent().map(|ended| ended.ending.number).collect();
        assert_eq!(numbers, (2 * RECENT as u64..3 * RECENT as u64).rev().collect::<Vec<_>>());
        assert_eq!((requests.active(), requests.ended()), (0, 3 * RECENT as u64));
    }

    #[tokio::test(start_paused = true)]
    async fn speeds_and_sizes_are_those_of_the_request() {
        let (mut requests, start) = (Requests::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        requests.admit(arrival(1), start);
        requests.admit(arrival(2), start);
        assert_eq!(
            requests.current().map(|running| (running.arrival.number, running.phase())),
            Some((2, Phase::Preparing))
        );
        requests.send(1, Sent::sample(Some("vps")));
        assert_eq!(requests.current().unwrap().arrival.number, 1, "one that was sent goes first");
        assert_eq!(requests.running().next().unwrap().phase(), Phase::Reading(0.0));
        requests.load(1, 0.5);
        assert_eq!(requests.running().next().unwrap().phase(), Phase::Loading(0.5));
        requests.progress(1, 0.5);
        assert_eq!(requests.running().next().unwrap().phase(), Phase::Reading(0.5));
        assert_eq!([requests.write(1, 1, at(4)), requests.write(1, 5, at(6))], [1, 4]);
        let running = requests.running().next().unwrap();
        assert_eq!((running.phase(), running.rate(at(6))), (Phase::Writing, Some(2.0)));
        let usage = Usage { prompt_tokens: 30, cached_tokens: 10, completion_tokens: 5 };
        let ended = requests.end(Ending { usage: Some(usage), ..ending(1) }, at(7)).unwrap();
        assert_eq!(ended.prompt_tokens(), Some((105, 30)));
        assert_eq!(ended.duration(), Duration::from_secs(7));
        assert_eq!(ended.to_first_token(), Some(Duration::from_secs(4)));
        assert!(requests.end(ending(1), at(8)).is_none(), "it ended already");
    }

    #[tokio::test]
    async fn an_answer_from_memory_is_nobodys_speed() {
        let (mut requests, now) = (Requests::default(), Instant::now());
        requests.admit(arrival(1), now);
        requests.send(1, Sent::sample(None));
        assert_eq!(requests.write(1, 500, now), 0);
        assert_eq!(requests.running().next().unwrap().tokens, 500);
    }
}
