//! From the queue into a slot: who is next, who has waited for long enough, who makes way, and what is refused for what only its tokens
//! show.

use std::cmp::Reverse;
use std::hash::{BuildHasher, RandomState};

use super::Scheduler;
use super::slot::{self, Phase, Slot, Work};
use crate::command::Job;
use crate::{Adapter, AdapterChoice, Addition, Control, Failure, Model, Priority, Prompt, Segment, Token};

impl<M: Model> Scheduler<M> {
    pub(super) fn admit(&mut self) {
        self.expire();
        loop {
            let Some(next) = self.next_in_queue() else { return };
            if self.slots.iter().all(|slot| slot.work.is_some()) && !self.make_way(self.queue[next].request.priority) {
                return;
            }
            if let Some(job) = self.queue.remove(next) {
                self.occupy(job);
            }
        }
    }

    // Of the highest priority the one that came first.
    fn next_in_queue(&self) -> Option<usize> {
        let now = (self.clock)();
        let urgency = |job: &Job| slot::urgency(job.request.priority, job.submitted, now);
        let first = |index: &usize| (urgency(&self.queue[*index]), Reverse(*index));
        (0..self.queue.len()).max_by_key(first)
    }

    // Ends the wait of those who have waited for as long as they would.
    fn expire(&mut self) {
        let now = (self.clock)();
        let waited = |job: &Job| now.saturating_duration_since(job.submitted);
        let expired = |job: &Job| job.request.patience.is_some_and(|patience| waited(job) >= patience);
        while let Some(ahead) = self.queue.iter().position(expired) {
            let Some(job) = self.queue.remove(ahead) else { return };
            let free_in = self.counters.free_in(self.slots.len(), ahead);
            let waited = waited(&job);
            job.refuse(Failure::NoSlotInTime { waited, free_in });
        }
    }

    // A warm-up gives its slot to anybody else. What it has computed stays, and it goes on from there when its turn comes again.
    fn make_way(&mut self, priority: Priority) -> bool {
        let gives_way =
            |slot: &Slot<M::Sampler>| slot.priority() == Some(Priority::WarmUp) && slot.phase() == Some(Phase::Prefill);
        let index = self.slots.iter().position(gives_way).filter(|_| priority > Priority::WarmUp);
        let Some(work) = index.and_then(|index| self.slots[index].work.take()) else { return false };
        self.counters.slot_left();
        self.queue.push_back(work.give_way());
        true
    }

    // Queued -> Prefill, or refused for what only its tokens show.
    fn occupy(&mut self, mut job: Job) {
        if !self.knows(&job.request.prompt) {
            return job.refuse(Failure::NoInfill);
        }
        let adapter = match self.adapter(job.request.adapter.as_ref()) {
            Ok(adapter) => adapter,
            Err(failure) => return job.refuse(failure),
        };
        let tokens = std::mem::take(&mut job.tokens);
        if let Err(failure) = self.fits(&tokens) {
            return job.refuse(failure);
        }
        let seed = job.request.seed.unwrap_or_else(random_seed);
        let sampler = match self.model.sampler(&job.request.sampling, seed, &tokens) {
            Ok(sampler) => sampler,
            Err(error) => return job.refuse(Failure::Sampling(error)),
        };
        let Some((index, cached)) = self.settle(&tokens, adapter) else { return };
        let slot = &mut self.slots[index];
        self.admissions += 1;
        slot.used = self.admissions;
        let now = (self.clock)();
        slot.work = Some(Work::new(job, sampler, tokens, cached, now));
        self.counters.slot_taken();
        self.counters.used(now);
    }

    fn adapter(&self, choice: Option<&AdapterChoice>) -> Result<Adapter, Failure> {
        let Some(AdapterChoice { name, scale }) = choice else { return Ok(Adapter(None)) };
        let index = self.info.adapters.iter().position(|known| known == name);
        let unknown = || Failure::NoAdapter { name: name.clone(), known: self.info.adapters.clone() };
        Ok(Adapter(Some(Addition::new(index.ok_or_else(unknown)?, *scale))))
    }

    fn knows(&self, prompt: &Prompt) -> bool {
        prompt.segments().iter().all(|segment| match segment {
            Segment::Text(_) | Segment::Markup(_) => true,
            Segment::Control(Control::Repository | Control::File) => self.info.infill_files,
            Segment::Control(_) => self.info.infill,
        })
    }

    fn fits(&self, tokens: &[Token]) -> Result<(), Failure> {
        let (prompt_tokens, context) = (tokens.len(), self.info.context);
        match prompt_tokens {
            0 => Err(Failure::EmptyPrompt),
            _ if prompt_tokens >= context => Err(Failure::ContextOverflow { prompt_tokens, context }),
            _ => Ok(()),
        }
    }
}

// Of the standard library, to need no crate for it: each `RandomState` is keyed from the system's randomness.
fn random_seed() -> u32 {
    (RandomState::new().hash_one(0_u8) >> 32) as u32
}
