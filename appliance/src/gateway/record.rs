//! One record per request, closed exactly once: by its outcome, or by being dropped, which means that the client left.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cerebrum_common::keys::Client;
use cerebrum_common::lifecycle::Tasks;
use cerebrum_common::request_id::RequestId;
use cerebrum_common::serve::Refusal;
use cerebrum_common::wire::details::Input;
use cerebrum_common::wire::dialect::Dialect;
use cerebrum_common::wire::native::inference_seconds;
use cerebrum_common::wire::{Completion, Failure, FailureCode, Usage};
use cerebrum_prompt::Language;
use tokio::time::Instant;

use super::Gateway;
use super::pipeline::Delivery;
use super::prepare::Ready;
use crate::status::requests::{Arrival, Ending, Outcome, Sent};
use crate::status::{Board, Event};

/// The open record of one request.
#[derive(Debug)]
pub(super) struct Record(Option<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    id: RequestId,
    call: &'static str,
    opened: Instant,
    /// Its place, once it has one.
    place: Option<Place>,
    /// What was sent for it, once something was.
    sent: Option<Sent>,
    tokens: u32,
    /// Those that the status knows of.
    told: u32,
    board: Board,
    tasks: Tasks,
}

#[derive(Clone, Debug)]
struct Place {
    number: u64,
    client: Arc<str>,
}

/// How the log and the status say an answer came to its end.
#[derive(Clone, Copy, Debug)]
struct End<'r> {
    outcome: Outcome,
    /// A sentence for the log.
    reason: &'r str,
    /// A word for the status.
    word: Option<&'static str>,
    seconds: f64,
    usage: Option<Usage>,
    prefill_per_s: Option<f32>,
}

impl Default for End<'_> {
    fn default() -> Self {
        Self { outcome: Outcome::Complete, reason: "", word: None, seconds: 0.0, usage: None, prefill_per_s: None }
    }
}

/// Opens the record of a request.
pub(super) fn open(id: RequestId, gateway: &Gateway, delivery: Delivery) -> Record {
    Record(Some(Entry {
        id,
        call: call(delivery),
        opened: Instant::now(),
        place: None,
        sent: None,
        tokens: 0,
        told: 0,
        board: gateway.board.clone(),
        tasks: gateway.tasks.clone(),
    }))
}

impl Record {
    /// The request's id.
    pub(super) fn id(&self) -> RequestId {
        self.0.as_ref().map_or_else(RequestId::random, |entry| entry.id)
    }

    /// Hands the record over to the answer's body.
    pub(super) fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    /// The record of one of several answers to the same request, in the same place; the last one's is this record itself, so
    /// that nothing is left of it that nobody closes.
    pub(super) fn share(&mut self, last: bool) -> Self {
        if last {
            return self.take();
        }
        let mut entry = self.0.clone();
        if let Some(entry) = &mut entry
            && let Some(Place { client, .. }) = entry.place.take()
        {
            entry.admit(client);
        }
        Self(entry)
    }

    /// The request has a place.
    pub(super) fn admitted(&mut self, client: &Client) {
        if let Some(entry) = &mut self.0 {
            entry.admit(client.name.clone());
        }
    }

    /// The request goes to an upstream.
    pub(super) fn sent(&mut self, upstream: &Arc<str>, ready: &Ready) {
        self.tell_sent(Some(upstream.clone()), &ready.call.request.model, ready);
    }

    /// The answer is one that was given before.
    pub(super) fn remembered(&mut self, model: &str, ready: &Ready) {
        self.tell_sent(None, model, ready);
    }

    fn tell_sent(&mut self, upstream: Option<Arc<str>>, model: &str, ready: &Ready) {
        let Some(entry) = &mut self.0 else { return };
        let sent = sent(upstream, model, ready);
        entry.sent = Some(sent.clone());
        entry.tell(|number| Event::Sent { number, sent });
    }

    /// Part of the model has been loaded.
    pub(super) fn loading(&mut self, share: f32) {
        if let Some(entry) = &mut self.0 {
            entry.tell(|number| Event::Loading { number, share });
        }
    }

    /// Part of the prompt has been read.
    pub(super) fn progress(&mut self, share: f32) {
        if let Some(entry) = &mut self.0 {
            entry.tell(|number| Event::Progress { number, share });
        }
    }

    /// Tokens have been written, so many in all. The status hears at once of the first, of the others when they pause.
    pub(super) fn tokens(&mut self, total: u32) {
        if let Some(entry) = &mut self.0 {
            entry.tokens = total;
            if entry.told == 0 || total.saturating_sub(entry.told) >= UNTOLD {
                entry.tell_tokens();
            }
        }
    }

    /// There is nothing more at the moment.
    pub(super) fn pause(&mut self) {
        if let Some(entry) = self.0.as_mut().filter(|entry| entry.told != entry.tokens) {
            entry.tell_tokens();
        }
    }

    /// The answer went on over another connection.
    pub(super) fn resumed(&mut self) {
        if let Some(entry) = &mut self.0 {
            entry.board.tell(Event::Resumed);
        }
    }

    /// The answer is complete; `prefill_per_s` is how fast its model reads, where that is known.
    pub(super) fn complete(&mut self, completion: &Completion, prefill_per_s: Option<f32>) {
        if let Some(entry) = &mut self.0 {
            entry.tokens = completion.usage.completion_tokens;
        }
        let (seconds, usage) = (inference_seconds(completion), Some(completion.usage));
        self.close(End { seconds, usage, prefill_per_s, ..End::default() });
    }

    /// The answer broke.
    pub(super) fn failed(&mut self, failure: &Failure) {
        let outcome = match failure.code {
            FailureCode::Timeout => Outcome::TimedOut,
            FailureCode::Stopping => Outcome::Stopped,
            _ => Outcome::UpstreamFailed,
        };
        self.close(End { outcome, reason: &failure.for_log(), word: Some(failure.code.as_str()), ..End::default() });
    }

    /// The request was refused.
    pub(super) fn refused(&mut self, refusal: &Refusal) {
        let was_sent = |entry: &Entry| entry.sent.as_ref().is_some_and(|sent| sent.upstream.is_some());
        match refusal {
            // What the request itself is refused for is no failure of who refuses it.
            Refusal::Failed(failure) if !is_the_requests(failure.code) && self.0.as_ref().is_some_and(was_sent) => {
                self.failed(failure);
            }
            _ => {
                let (outcome, word) = (Outcome::Refused, Some(refusal.name()));
                self.close(End { outcome, reason: &refusal.for_log(), word, ..End::default() });
            }
        }
    }

    fn close(&mut self, end: End<'_>) {
        let Some(entry) = self.0.take() else { return };
        entry.count(end);
        let took = entry.opened.elapsed();
        if entry.tasks.is_stopping() {
            return entry.log(end.outcome, took, end.reason);
        }
        // The line is written when the answer's last bytes are on their way: it takes longer than all else here.
        let (outcome, reason) = (end.outcome, end.reason.to_owned());
        entry.tasks.clone().spawn(async move { entry.log(outcome, took, &reason) });
    }
}

fn is_the_requests(code: FailureCode) -> bool {
    matches!(code, FailureCode::BadRequest | FailureCode::ContextOverflow | FailureCode::UnknownModel)
}

impl Drop for Record {
    fn drop(&mut self) {
        let stopping = self.0.as_ref().is_some_and(|entry| entry.tasks.is_stopping());
        let outcome = if stopping { Outcome::Stopped } else { Outcome::ClientGone };
        self.close(End { outcome, ..End::default() });
    }
}

impl Entry {
    fn admit(&mut self, client: Arc<str>) {
        let place = Place { number: self.board.number(), client };
        let Place { number, client } = place.clone();
        self.place = Some(place);
        self.board.tell(Event::Admitted(Arrival { number, id: self.id, call: self.call, client }));
    }

    /// Tells the status of what happened to a request that has a place.
    fn tell(&self, event: impl FnOnce(u64) -> Event) {
        if let Some(place) = &self.place {
            self.board.tell(event(place.number));
        }
    }

    fn tell_tokens(&mut self) {
        self.told = self.tokens;
        self.tell(|number| Event::Tokens { number, tokens: self.tokens });
    }

    fn log(&self, outcome: Outcome, took: Duration, reason: &str) {
        let sent = self.sent.as_ref();
        tracing::info!(
            id = %self.id,
            outcome = ?outcome,
            client = self.place.as_ref().map_or("-", |place| &*place.client),
            model = sent.map_or("", |sent| &*sent.model),
            upstream = sent.and_then(|sent| sent.upstream.as_deref()).unwrap_or("-"),
            prompt_chars = sent.map_or(0, |sent| sent.prompt_chars),
            prepared_chars = sent.map_or(0, |sent| sent.prepared_chars),
            tokens = self.tokens,
            ms = took.as_millis() as u64,
            reason,
            "request"
        );
    }

    fn count(&self, end: End<'_>) {
        let End { outcome, word, seconds, usage, prefill_per_s, .. } = end;
        let (tokens, reason) = (self.tokens, word);
        self.tell(|number| {
            let hour = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() / 3600);
            Event::Ended(Ending { number, outcome, reason, tokens, seconds, usage, prefill_per_s, hour })
        });
    }
}

/// Tokens that come without a pause and are told together.
const UNTOLD: u32 = 64;

/// A short name for what was called.
fn call(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::Whole | Delivery::Asked(Dialect::Native) => "complete",
        Delivery::Stream => "stream",
        Delivery::Batch => "batch",
        Delivery::Asked(Dialect::Chat) => "chat",
        Delivery::Asked(Dialect::Completions) => "completions",
        Delivery::Asked(Dialect::Messages) => "messages",
        Delivery::Asked(Dialect::Infill) => "infill",
    }
}

/// Characters of a token, about, where nobody counted them.
const CHARS_PER_TOKEN: usize = 4;

/// Characters of a name that are kept: a model may be anything that a client says.
const NAME_CHARS: usize = 64;

fn name(said: &str) -> Arc<str> {
    said.chars().take(NAME_CHARS).collect::<String>().into()
}

/// A language's own name: the field may be anything that a client says, and the status is for everybody's eyes.
fn language(said: &str) -> Arc<str> {
    Language::from_name(said).map_or(if said == UNKNOWN { UNKNOWN } else { "other" }, Language::name).into()
}

const UNKNOWN: &str = "unknown";

/// What is sent, in figures.
fn sent(upstream: Option<Arc<str>>, model: &str, ready: &Ready) -> Sent {
    let report = &ready.report;
    let estimate = |chars: usize| chars.div_ceil(CHARS_PER_TOKEN);
    let counted = report.original_tokens > 0;
    let saved = match counted {
        true => report.original_tokens.saturating_sub(report.final_tokens),
        false => estimate(report.original_chars.saturating_sub(report.final_chars)),
    };
    // Of a chat only the long messages were counted.
    let whole = counted && matches!(ready.call.details.input, Input::Prompt);
    let tokens = if whole { report.final_tokens } else { estimate(report.final_chars) };
    let bounded = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
    Sent {
        upstream,
        model: name(model),
        language: language(&ready.language),
        prompt_chars: report.original_chars as u64,
        prepared_chars: report.final_chars as u64,
        tokens: bounded(tokens),
        tokens_saved: bounded(saved),
        max_tokens: ready.call.request.max_tokens,
    }
}
