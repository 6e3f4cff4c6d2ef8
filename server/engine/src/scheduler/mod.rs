//! The scheduler: which tokens of which request are computed next.
//!
//! Pure but for the model it drives: no thread, no waiting, no I/O, and the clock is handed in. A request is *queued* until a slot is
//! free, then in *prefill* until its prompt is computed, then in *decode* until it is *done*; [`Scheduler::step`] moves all of them by
//! one step of the model.
//!
//! What holds after every step:
//! - `kept` of every slot is what the model's sequence holds, also after an interrupted or failed step.
//! - A step computes one token for each decoding slot and at most one chunk for all prompts together, so that a prompt of any length
//!   delays the others' next token by one chunk at most.
//! - A slot whose caller lags takes no part; a slot whose caller has gone is free before the next step.
//!
//! - A step is computed with one adapter. Those who want another have the next one.
//!
//! Prefixes are shared between sequences and with host memory in `reuse`, among equals in adapter.

mod admission;
mod counters;
mod draft;
mod likelihoods;
mod ngrams;
mod pace;
mod plan;
mod pool;
mod prefix;
mod reuse;
mod slot;
mod store;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

pub(crate) use counters::Counters;
use pace::Pace;
use pool::Pool;
use slot::{Outcome, Phase, Slot, Work};
use store::Store;

use crate::command::Job;
use crate::generation::Outlet;
use crate::model::IMPOSSIBLE;
use crate::{
    Adapter, Batch, DecodeError, Failure, Finish, Interrupt, Likelihood, Limits, Model, ModelError, ModelInfo,
    Priority, Sequence, Token, TokenLogprob, Vocabulary,
};

/// The state of all requests of one model.
pub(crate) struct Scheduler<M: Model> {
    // Before the model: fields are dropped in this order, and samplers may refer to the model's vocabulary.
    slots: Vec<Slot<M::Sampler>>,
    model: M,
    vocabulary: Arc<dyn Vocabulary>,
    info: ModelInfo,
    chunk: usize,
    queue: VecDeque<Job>,
    store: Store,
    pace: Pace,
    drafts: usize,
    pool: Pool,
    admissions: u64,
    counters: Arc<Counters>,
    interrupt: Interrupt,
    clock: fn() -> Instant,
    // The last step's.
    adapter: Adapter,
    // Kept between steps for its memory only.
    batch: Batch,
    piece: Vec<u8>,
}

/// What a call of [`Scheduler::step`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The model was asked to compute.
    Computed,
    /// Nothing can be done until something comes from outside: a request, a read event, a cancellation.
    Idle,
}

/// A slot's part of the batch.
struct Part {
    slot: usize,
    rows: Range<usize>,
}

impl<M: Model> Scheduler<M> {
    pub(crate) fn new(
        model: M,
        limits: Limits,
        counters: Arc<Counters>,
        interrupt: Interrupt,
        clock: fn() -> Instant,
    ) -> Self {
        let (info, vocabulary) = (model.info(), model.vocabulary());
        let slots: Vec<_> = (0..limits.slots.min(info.sequences)).map(|n| Slot::new(Sequence(n))).collect();
        // A batch holds the chunk and a token for each slot.
        let chunk = limits.chunk_tokens.min(info.batch_entries.saturating_sub(slots.len())).max(1);
        // Every row of a draft is sampled from; without going back a wrong one could not be taken out.
        let rows = info.output_rows.saturating_sub(slots.len()).min(chunk);
        let drafts = if info.rewinds { limits.draft_tokens.min(rows) } else { 0 };
        let queue = VecDeque::with_capacity(limits.queue);
        Self {
            model,
            vocabulary,
            info,
            chunk,
            queue,
            slots,
            store: Store::new(limits.prefix_bytes),
            pace: Pace::default(),
            drafts,
            pool: Pool::new(if drafts > 0 { POOL_TOKENS } else { 0 }),
            admissions: 0,
            counters,
            interrupt,
            clock,
            adapter: Adapter::default(),
            batch: Batch::default(),
            piece: Vec::new(),
        }
    }

    /// True when somebody waits for a slot, and perhaps not for ever.
    pub(crate) fn has_queue(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(crate) fn vocabulary(&self) -> Arc<dyn Vocabulary> {
        Arc::clone(&self.vocabulary)
    }

    pub(crate) fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// For what is computed apart from the sequences.
    pub(crate) fn model_mut(&mut self) -> &mut M {
        &mut self.model
    }

    /// Ends every request, waiting or not: what they computed stays.
    pub(crate) fn end(&mut self) {
        self.queue.clear();
        for index in 0..self.slots.len() {
            drop(self.release(index));
        }
    }

    /// Puts a request at the end of the queue. Its length is bounded by the permits that requests hold.
    pub(crate) fn submit(&mut self, job: Job) {
        self.queue.push_back(job);
    }

    /// One step: frees the slots of callers who have gone, fills free slots from the queue, computes one batch, hands out its tokens.
    pub(crate) fn step(&mut self) -> Step {
        self.reap();
        self.admit();
        self.catch_up();
        let parts = self.plan_step();
        if parts.is_empty() {
            return Step::Idle;
        }
        let begun = (self.clock)();
        match self.compute(&parts) {
            Ok(()) => {
                let took = (self.clock)().saturating_duration_since(begun);
                self.pace.note(self.batch.entries.len(), took);
                self.hand_out(&parts);
            }
            Err(DecodeError::Interrupted) => self.restore(&parts),
            Err(DecodeError::CacheFull) => self.make_room(&parts),
            Err(DecodeError::Failed(error)) => self.fail(&parts, &error),
        }
        Step::Computed
    }

    // Ends early when nobody is left for whom it is computed. What a neighbour waits for is never thrown away.
    fn compute(&mut self, parts: &[Part]) -> Result<(), DecodeError> {
        self.model.adapt(self.adapter).map_err(DecodeError::Failed)?;
        let slots = &self.slots;
        let outlets = || parts.iter().filter_map(|part| slots[part.slot].work.as_ref()).map(|work| &work.outlet);
        self.interrupt.begin_step(parts.len());
        outlets().for_each(|outlet| outlet.join_step(&self.interrupt));
        let result = self.model.decode(&self.batch);
        outlets().for_each(Outlet::leave_step);
        self.interrupt.clear_step();
        result
    }

    fn reap(&mut self) {
        self.queue.retain(|job| !job.outlet.is_closed());
        for index in 0..self.slots.len() {
            if self.slots[index].work.as_ref().is_some_and(|work| work.outlet.is_closed()) {
                drop(self.release(index));
            } else if self.slots[index].work.as_ref().is_some_and(|work| work.prompt_is_late((self.clock)())) {
                self.complete(index, Finish::Length);
            }
        }
    }

    // Decoding slots first, a token each and what is worth guessing; then a chunk for the prompts, in order of admission.
    fn plan_step(&mut self) -> Vec<Part> {
        self.adapter = self.turn();
        let mut decoding = self.in_phase(Phase::Decode);
        decoding.retain(|&index| self.slots[index].adapter == self.adapter);
        let drafted = self.draft(&decoding);
        let prefilling = self.shares(self.chunk - drafted, decoding.is_empty());
        let decoding = decoding.into_iter().map(|index| (index, 1));
        let parts = decoding.chain(prefilling).filter(|(_, count)| *count > 0);
        self.batch.entries.clear();
        let mut part = |(slot, count): (usize, usize)| {
            let from = self.batch.entries.len();
            self.batch.entries.extend(self.slots[slot].entries(count));
            Part { slot, rows: from..self.batch.entries.len() }
        };
        parts.map(&mut part).collect()
    }

    // Of the adapters that are wanted now, the one after that of the last step: each waits for a step of every other. What is wanted
    // for warm-ups only waits until nothing else is.
    fn turn(&self) -> Adapter {
        let ready = || self.slots.iter().filter(|slot| slot.ready().is_some());
        let urgent = ready().any(|slot| slot.priority() > Some(Priority::WarmUp));
        let wanted =
            ready().filter(|slot| !urgent || slot.priority() > Some(Priority::WarmUp)).map(|slot| slot.adapter);
        let mut wanted: Vec<_> = wanted.collect();
        wanted.sort_unstable();
        let next = wanted.iter().find(|adapter| **adapter > self.adapter).or(wanted.first());
        next.copied().unwrap_or(self.adapter)
    }

    // Slots in prefill and how many tokens of a chunk each gets: the most urgent what they need, the others what is left. A warm-up takes
    // part only where nobody else does.
    fn shares(&self, chunk: usize, alone: bool) -> Vec<(usize, usize)> {
        let now = (self.clock)();
        let priority = |index: usize| self.slots[index].urgency(now);
        let mut prefilling = self.in_phase(Phase::Prefill);
        prefilling.retain(|&index| self.slots[index].adapter == self.adapter && self.leader(index).is_none());
        let alone = alone && prefilling.iter().all(|&index| priority(index) == Some(Priority::WarmUp));
        prefilling.retain(|&index| alone || priority(index) > Some(Priority::WarmUp));
        prefilling.sort_by_key(|&index| (Reverse(priority(index)), self.slots[index].used));
        let mut budget = chunk;
        let mut shares = Vec::new();
        for equals in prefilling.chunk_by(|&one, &other| priority(one) == priority(other)) {
            let left: Vec<_> = equals.iter().map(|&index| self.slots[index].left()).collect();
            let divided = plan::divide(budget, &left);
            budget -= divided.iter().sum::<usize>();
            shares.extend(equals.iter().copied().zip(divided));
        }
        shares
    }

    // Drafts for the decoding slots, and how many tokens they have together.
    fn draft(&mut self, decoding: &[usize]) -> usize {
        let mut drafted = 0;
        for &index in decoding {
            let Some(work) = &mut self.slots[index].work else { continue };
            let most = work.room_for_drafts(self.info.context).min(self.drafts - drafted);
            let worth = self.pace.drafts(work.confidence(), decoding.len() + drafted, most);
            drafted += work.draft(&self.pool, worth);
        }
        drafted
    }

    fn in_phase(&self, phase: Phase) -> Vec<usize> {
        (0..self.slots.len()).filter(|&index| self.slots[index].ready() == Some(phase)).collect()
    }

    fn hand_out(&mut self, parts: &[Part]) {
        self.counters.used((self.clock)());
        for part in parts {
            let slot = &mut self.slots[part.slot];
            let draft = slot.computed(part.rows.len());
            let last = part.rows.end - 1;
            if self.batch.entries[last].output {
                self.take_tokens(part, &draft);
            }
        }
    }

    // Samples after each row for as long as the draft goes on as the samples do. So the text is what it would be without a draft, and
    // what was computed after a wrong guess is taken out again.
    fn take_tokens(&mut self, part: &Part, draft: &[Token]) {
        let first = part.rows.end - 1 - draft.len();
        let mut right = 0;
        while let Some(token) = self.take_token(part.slot, first + right) {
            if draft.get(right) != Some(&token) {
                break;
            }
            right += 1;
        }
        self.counters.drafted(draft.len(), right);
        let slot = &mut self.slots[part.slot];
        if right < draft.len() {
            let valid = slot.kept.len() - (draft.len() - right);
            match self.model.rewind(slot.sequence, valid) {
                true => slot.kept.truncate(valid),
                false => slot.forget(),
            }
        }
        if let Some(work) = &mut slot.work {
            work.flush();
        }
    }

    // The token sampled after a row; `None` when its generation is over.
    fn take_token(&mut self, index: usize, row: usize) -> Option<Token> {
        let work = self.slots[index].work.as_mut()?;
        if work.wants_no_tokens() {
            self.complete(index, Finish::Length);
            return None;
        }
        let token = match self.model.sample(&mut work.sampler, row) {
            Ok(token) => token,
            Err(error) => {
                self.abandon(index, error.into());
                return None;
            }
        };
        let ends = self.model.ends_generation(token);
        self.piece.clear();
        self.vocabulary.piece(token, false, &mut self.piece);
        if let (Some(top), false) = (work.wants_likelihoods(), ends) {
            let likelihood = self.model.likelihood(row, token, top);
            work.likelihood(logprob(&*self.vocabulary, &self.piece, likelihood));
        }
        if !ends {
            self.counters.token_generated();
        }
        match work.accept(token, ends, &self.piece, self.info.context, (self.clock)()) {
            Outcome::Ends(finish) => self.complete(index, finish),
            Outcome::Continues if self.drafts > 0 => work.look_up(&self.pool),
            Outcome::Continues => {}
        }
        Some(token)
    }

    // An interrupted step may have computed a part of the batch: back to what is known, then it can be repeated.
    fn restore(&mut self, parts: &[Part]) {
        for part in parts {
            let slot = &mut self.slots[part.slot];
            if !self.model.rewind(slot.sequence, slot.kept.len()) {
                slot.forget();
            }
        }
    }

    // Free slots give up their prefixes; if there was nothing to give up, the largest request of the batch has to go.
    fn make_room(&mut self, parts: &[Part]) {
        let mut found = false;
        for slot in self.slots.iter_mut().filter(|slot| slot.work.is_none() && !slot.kept.is_empty()) {
            slot.kept.clear();
            self.model.rewind(slot.sequence, 0);
            found = true;
        }
        let largest = parts.iter().max_by_key(|part| self.slots[part.slot].kept.len());
        if let (false, Some(part)) = (found, largest) {
            self.clear(part.slot);
            self.abandon(part.slot, ModelError::new("the KV cache is full").into());
        }
    }

    fn fail(&mut self, parts: &[Part], error: &ModelError) {
        tracing::error!(%error, requests = parts.len(), "a step of the model failed");
        for part in parts {
            self.clear(part.slot);
            self.abandon(part.slot, error.clone().into());
        }
    }

    fn clear(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.kept.clear();
        self.model.rewind(slot.sequence, 0);
    }

    fn complete(&mut self, index: usize, finish: Finish) {
        let now = (self.clock)();
        // Warm-ups and those who left early say nothing about how long an answer takes.
        let counts = self.slots[index].priority() > Some(Priority::WarmUp);
        if let Some(work) = self.release(index) {
            if counts {
                self.counters.occupied(work.occupied(now));
            }
            work.complete(finish, now);
        }
    }

    fn abandon(&mut self, index: usize, failure: Failure) {
        if let Some(work) = self.release(index) {
            work.fail(failure);
        }
    }

    // Done: the slot is free, what it holds stays for the next prompt.
    fn release(&mut self, index: usize) -> Option<Work<M::Sampler>> {
        let work = self.slots[index].work.take()?;
        if self.drafts > 0 {
            work.leave_to(&mut self.pool);
        }
        self.counters.slot_freed();
        Some(work)
    }
}

/// Tokens of ended generations that guesses may come from: some files and answers, in about a MiB and a half.
const POOL_TOKENS: usize = 1 << 15;

fn logprob(vocabulary: &dyn Vocabulary, bytes: &[u8], likelihood: Option<Likelihood>) -> TokenLogprob {
    let Likelihood { logprob, top } = likelihood.unwrap_or(Likelihood { logprob: IMPOSSIBLE, top: Vec::new() });
    let written = |token| {
        let mut bytes = Vec::new();
        vocabulary.piece(token, true, &mut bytes);
        bytes
    };
    let top = top.into_iter().map(|(token, logprob)| (written(token), logprob)).collect();
    TokenLogprob { bytes: bytes.to_vec(), logprob, top }
}
