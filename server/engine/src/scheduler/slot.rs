//! One slot: a sequence of the model, what the model still remembers of it, and the generation that occupies it.
//!
//! Owns the states of a generation in a slot ([`Phase`]) and its account. Never touches the model; the scheduler does, and tells the
//! slot what came of it.

use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::draft::Lookup;
use super::likelihoods::Likelihoods;
use super::pool::Pool;
use crate::command::Job;
use crate::generation::Outlet;
use crate::text::Transcript;
use crate::{Adapter, Completion, Entry, Event, Failure, Finish, Priority, Request, Sequence, Token, TokenLogprob};

/// A sequence of the model and who uses it.
pub(super) struct Slot<S> {
    pub(super) sequence: Sequence,
    /// The tokens whose state the model holds for this sequence: always what was computed last, and what the next prompt may reuse.
    pub(super) kept: Vec<Token>,
    /// With which adapter that was computed, and its generation is.
    pub(super) adapter: Adapter,
    /// Counts up over all slots, so that the least recently used can be told.
    pub(super) used: u64,
    pub(super) work: Option<Work<S>>,
}

/// Where a generation in a slot stands. Before it is queued, after it there is no work in the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Tokens are known and not yet computed.
    Prefill,
    /// Only the last token is not yet computed.
    Decode,
}

/// A generation that occupies a slot.
pub(super) struct Work<S> {
    pub(super) sampler: S,
    /// Prompt and answer so far.
    tokens: Vec<Token>,
    prompt_tokens: usize,
    cached_tokens: usize,
    max_tokens: usize,
    // As it came, for a warm-up that has to wait again.
    request: Request,
    phase: Phase,
    lookup: Lookup,
    /// Guesses at what follows the tokens, computed with the last of them.
    draft: Vec<Token>,
    transcript: Transcript,
    /// Text not yet sent: that of one step goes out together, whatever the number of its tokens.
    text: String,
    likelihoods: Likelihoods,
    times: Times,
    pub(super) outlet: Outlet,
    permit: OwnedSemaphorePermit,
}

struct Times {
    submitted: Instant,
    admitted: Instant,
    first_token: Option<Instant>,
}

/// What a sampled token means for its generation.
pub(super) enum Outcome {
    Continues,
    Ends(Finish),
}

impl<S> Slot<S> {
    pub(super) fn new(sequence: Sequence) -> Self {
        Self { sequence, kept: Vec::new(), adapter: Adapter::default(), used: 0, work: None }
    }

    /// The phase of the generation in it, if it can take part in a step now.
    pub(super) fn ready(&self) -> Option<Phase> {
        let work = self.work.as_ref()?;
        work.outlet.is_ready().then_some(work.phase)
    }

    /// How urgent the generation in it has become.
    pub(super) fn urgency(&self, now: Instant) -> Option<Priority> {
        self.work.as_ref().map(|work| urgency(work.request.priority, work.times.submitted, now))
    }

    /// The priority of the generation in it.
    pub(super) fn priority(&self) -> Option<Priority> {
        self.work.as_ref().map(|work| work.request.priority)
    }

    /// The phase of the generation in it, whether or not it can take part in a step.
    pub(super) fn phase(&self) -> Option<Phase> {
        self.work.as_ref().map(|work| work.phase)
    }

    /// All tokens of the generation in it.
    pub(super) fn wanted(&self) -> Option<&[Token]> {
        self.work.as_ref().map(|work| work.tokens.as_slice())
    }

    /// So many more of the prompt's tokens were found in a cache.
    pub(super) fn found(&mut self, tokens: usize) {
        if let Some(work) = &mut self.work {
            work.cached_tokens = (work.cached_tokens + tokens).min(work.prompt_tokens);
            work.outlet.progress(self.kept.len().min(work.prompt_tokens), work.prompt_tokens);
        }
    }

    /// Tokens known and not yet computed.
    pub(super) fn left(&self) -> usize {
        self.work.as_ref().map_or(0, |work| work.tokens.len() - self.kept.len())
    }

    /// The next `count` tokens to compute and after the last of all the draft; from there on samples are wanted.
    pub(super) fn entries(&self, count: usize) -> impl Iterator<Item = Entry> {
        let (tokens, draft) = self.work.as_ref().map_or((&[][..], &[][..]), |work| (&work.tokens, &work.draft));
        let last = tokens.len().saturating_sub(1);
        let from = self.kept.len();
        let draft = if from + count > last { draft } else { &[] };
        let entry = move |(position, &token): (usize, &Token)| Entry {
            token,
            sequence: self.sequence,
            position,
            output: position >= last,
        };
        tokens.iter().chain(draft).enumerate().skip(from).take(count + draft.len()).map(entry)
    }

    /// The next `count` tokens have been computed, those of the draft included, which is given back.
    pub(super) fn computed(&mut self, count: usize) -> Vec<Token> {
        let Some(work) = &mut self.work else { return Vec::new() };
        let draft = std::mem::take(&mut work.draft);
        let from = self.kept.len();
        self.kept.extend(work.tokens.iter().chain(&draft).skip(from).take(count));
        if work.phase == Phase::Prefill {
            work.outlet.progress(self.kept.len().min(work.prompt_tokens), work.prompt_tokens);
        }
        draft
    }

    /// The model has lost this sequence: everything known is to be computed again.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
        if let Some(work) = &mut self.work {
            work.draft.clear();
            work.enter(Phase::Prefill);
        }
    }
}

/// What a priority becomes with time: an answer that somebody has long waited for is as urgent as a completion, so that completions
/// without end do not keep it waiting for ever. A warm-up is for when nothing else is to be done, however long that takes.
pub(super) fn urgency(priority: Priority, submitted: Instant, now: Instant) -> Priority {
    match priority {
        Priority::Chat if now.saturating_duration_since(submitted) >= AGES => Priority::Infill,
        priority => priority,
    }
}

/// Somebody who waits for so long thinks of going away.
const AGES: Duration = Duration::from_secs(20);

impl<S> Work<S> {
    /// Occupies a slot that holds the first `cached_tokens` of these tokens.
    pub(super) fn new(job: Job, sampler: S, tokens: Vec<Token>, cached_tokens: usize, now: Instant) -> Self {
        let prompt_tokens = tokens.len();
        let mut work = Self {
            sampler,
            tokens,
            prompt_tokens,
            cached_tokens,
            max_tokens: job.request.max_tokens as usize,
            phase: Phase::Prefill,
            lookup: Lookup::default(),
            draft: Vec::new(),
            transcript: Transcript::new(job.request.stop.clone()),
            text: String::new(),
            likelihoods: Likelihoods::default(),
            times: Times { submitted: job.submitted, admitted: now, first_token: None },
            request: job.request,
            outlet: job.outlet,
            permit: job.permit,
        };
        work.enter(Phase::Prefill);
        work.outlet.progress(cached_tokens, prompt_tokens);
        work
    }

    /// How long it has been in its slot.
    pub(super) fn occupied(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.times.admitted)
    }

    /// Whether its prompt has taken longer than it may.
    pub(super) fn prompt_is_late(&self, now: Instant) -> bool {
        let begun = self.times.first_token.is_none();
        begun && self.request.prompt_within.is_some_and(|within| self.occupied(now) >= within)
    }

    // Whether the answer has taken longer than it may, at the end of a line of it.
    fn answer_is_late(&self, piece: &[u8], now: Instant) -> bool {
        let took = self.times.first_token.map(|first| now.saturating_duration_since(first));
        piece.contains(&b'\n') && took.zip(self.request.answer_within).is_some_and(|(took, within)| took >= within)
    }

    /// Back to the queue, as if it had never had a slot. Only before its first token.
    pub(super) fn give_way(self) -> Job {
        Job {
            request: self.request,
            outlet: self.outlet,
            tokens: self.tokens,
            submitted: self.times.submitted,
            permit: self.permit,
        }
    }

    /// True for a request that only wants its prompt in the cache.
    pub(super) fn wants_no_tokens(&self) -> bool {
        self.max_tokens == 0
    }

    /// How many guesses can be computed with the last token and still all be of use.
    pub(super) fn room_for_drafts(&self, context: usize) -> usize {
        let wanted = self.max_tokens.saturating_sub(self.generated() + 1);
        wanted.min(context.saturating_sub(self.tokens.len() + 1))
    }

    /// How likely a guess is right.
    pub(super) fn confidence(&self) -> f32 {
        self.lookup.confidence()
    }

    /// Guesses at the next tokens, at most `most`, for the next step. Says how many.
    pub(super) fn draft(&mut self, pool: &Pool, most: usize) -> usize {
        self.draft = self.lookup.guess(&self.tokens, pool, most).to_vec();
        self.draft.len()
    }

    /// Makes guesses by the token that was accepted last, and by all before the first.
    pub(super) fn look_up(&mut self, pool: &Pool) {
        match self.generated() {
            0 => {}
            1 => {
                self.lookup.read(&self.tokens[..self.prompt_tokens], pool);
                self.lookup.follow(&self.tokens, pool);
            }
            _ => self.lookup.follow(&self.tokens, pool),
        }
    }

    /// Leaves what it has read and written to the guesses of others.
    pub(super) fn leave_to(&self, pool: &mut Pool) {
        pool.put_from(&self.tokens, self.cached_tokens);
    }

    /// Beside how many alternatives its caller wants to know how likely a token was.
    pub(super) fn wants_likelihoods(&self) -> Option<usize> {
        self.request.logprobs.map(usize::from)
    }

    /// Takes what belongs to the token accepted next, until its text goes out.
    pub(super) fn likelihood(&mut self, token: TokenLogprob) {
        self.likelihoods.push(token);
    }

    /// Takes a sampled token: keeps its text for [`flush`](Self::flush) and says whether the generation goes on.
    pub(super) fn accept(&mut self, token: Token, ends: bool, piece: &[u8], context: usize, now: Instant) -> Outcome {
        self.times.first_token.get_or_insert(now);
        self.enter(Phase::Decode);
        if ends {
            return Outcome::Ends(Finish::Stop);
        }
        self.tokens.push(token);
        match self.transcript.push(piece) {
            Ok(text) => self.text += &text,
            Err(stopped) => {
                self.text += &stopped.text;
                return Outcome::Ends(Finish::StopString(stopped.index));
            }
        }
        let full = self.generated() >= self.max_tokens || self.tokens.len() >= context;
        match full || self.answer_is_late(piece, now) {
            true => Outcome::Ends(Finish::Length),
            false => Outcome::Continues,
        }
    }

    /// Sends the text of a step.
    pub(super) fn flush(&mut self) {
        let text = std::mem::take(&mut self.text);
        if !text.is_empty() {
            let tokens = self.likelihoods.of(text.len());
            if !tokens.is_empty() {
                self.outlet.logprobs(tokens);
            }
            self.outlet.text(text, self.generated());
        }
    }

    /// Sends what was held back and the account. The slot is free.
    pub(super) fn complete(mut self, finish: Finish, now: Instant) {
        let generated = self.tokens.len() - self.prompt_tokens;
        let completion = Completion {
            finish,
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            completion_tokens: generated,
            queued: self.times.admitted.saturating_duration_since(self.times.submitted),
            prefill: self.times.first_token.unwrap_or(now).saturating_duration_since(self.times.admitted),
            decode: self.times.first_token.map_or_else(Default::default, |first| now.saturating_duration_since(first)),
        };
        // A stop string ended the text; otherwise what was held back turned out not to be one.
        if !matches!(finish, Finish::StopString(_)) {
            self.text += &std::mem::take(&mut self.transcript).finish();
        }
        self.flush();
        if !matches!(finish, Finish::StopString(_)) {
            let without_text = self.likelihoods.rest();
            if !without_text.is_empty() {
                self.outlet.logprobs(without_text);
            }
        }
        // The place is free before its caller learns of the end, so that the caller's next request is not refused.
        drop(self.permit);
        self.outlet.end(Event::Done(completion));
    }

    /// Ends the generation with an error. The slot is free.
    pub(super) fn fail(mut self, failure: Failure) {
        self.flush();
        drop(self.permit);
        self.outlet.end(Event::Failed(failure));
    }

    fn generated(&self) -> usize {
        self.tokens.len() - self.prompt_tokens
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
    }
}
