//! What need not be computed because some sequence, or the store, has it already.
//!
//! Three moments: a prompt enters a slot ([`Scheduler::settle`]), a prompt in prefill finds that another slot has overtaken it
//! ([`Scheduler::catch_up`]), and two prompts with one beginning would compute it side by side ([`Scheduler::leader`]).

use super::Scheduler;
use super::prefix::{self, Held, common};
use super::slot::Phase;
use crate::prefixes::Prefix;
use crate::{Adapter, Model, Token};

impl<M: Model> Scheduler<M> {
    /// Makes a free slot ready for these tokens and says which, and how many of them it holds already.
    pub(super) fn settle(&mut self, tokens: &[Token], adapter: Adapter) -> Option<(usize, usize)> {
        let index = prefix::choose(tokens, self.held(adapter))?;
        // The last token is always computed: the first sample comes after it.
        let wanted = &tokens[..tokens.len() - 1];
        let equal = self.slots[index].adapter == adapter;
        let own = if equal { common(wanted, &self.slots[index].kept) } else { 0 };
        if own * 2 < self.slots[index].kept.len() {
            self.put_away(index);
        }
        if !equal {
            self.keep(index, 0);
            self.slots[index].adapter = adapter;
        }
        if !(self.bring_back(index, wanted, own) || self.copy_longest(index, wanted, own)) {
            self.keep(index, own);
        }
        Some((index, self.slots[index].kept.len()))
    }

    /// Copies to prompts in prefill what other slots have computed since they were admitted.
    pub(super) fn catch_up(&mut self) {
        for index in self.in_phase(Phase::Prefill) {
            let slot = &self.slots[index];
            let Some(tokens) = slot.wanted() else { continue };
            let wanted = tokens[..tokens.len().saturating_sub(1)].to_vec();
            let own = slot.kept.len();
            if self.leader(index).is_none() && self.copy_longest(index, &wanted, own) {
                let gained = self.slots[index].kept.len() - own;
                self.slots[index].found(gained);
            }
        }
    }

    /// An earlier prompt, in prefill too and no less urgent, that is about to compute what this one needs: it is waited for.
    pub(super) fn leader(&self, index: usize) -> Option<usize> {
        let slot = &self.slots[index];
        let tokens = slot.wanted().filter(|_| self.info.rewinds)?;
        (0..self.slots.len()).find(|&other| {
            let leader = &self.slots[other];
            let urgent = leader.priority() >= slot.priority() && leader.adapter == slot.adapter;
            let ahead = urgent && leader.used < slot.used && leader.ready() == Some(Phase::Prefill);
            let shared = leader.wanted().filter(|_| ahead).map_or(0, |theirs| common(tokens, theirs));
            shared > leader.kept.len() && shared >= slot.kept.len() + COPY_TOKENS
        })
    }

    // What the slots hold that is of use with this adapter: to it, what another computed is as good as nothing.
    fn held(&self, adapter: Adapter) -> impl Iterator<Item = Held<'_>> {
        self.slots.iter().enumerate().map(move |(slot, state)| {
            let kept = if state.adapter == adapter { state.kept.as_slice() } else { &[] };
            Held { slot, kept, used: state.used, free: state.work.is_none() }
        })
    }

    // Keeps this many of its own tokens.
    fn keep(&mut self, index: usize, length: usize) {
        let slot = &mut self.slots[index];
        match self.model.rewind(slot.sequence, length) {
            true => slot.kept.truncate(length),
            false => slot.kept.clear(),
        }
    }

    // From another slot, if it has so much more that the copy is worth its while.
    fn copy_longest(&mut self, index: usize, wanted: &[Token], own: usize) -> bool {
        let others = self.held(self.slots[index].adapter).filter(|held| held.slot != index);
        let longest = prefix::longest(wanted, others).filter(|_| self.info.rewinds);
        let Some((source, shared)) = longest.filter(|(_, shared)| *shared >= own + COPY_TOKENS) else { return false };
        let (from, to) = (self.slots[source].sequence, self.slots[index].sequence);
        let copied = self.model.copy(from, to, shared);
        self.slots[index].kept = if copied { wanted[..shared].to_vec() } else { Vec::new() };
        copied
    }

    // From host memory, if it has so much more than any slot.
    fn bring_back(&mut self, index: usize, wanted: &[Token], own: usize) -> bool {
        let adapter = self.slots[index].adapter;
        let elsewhere = prefix::longest(wanted, self.held(adapter)).map_or(0, |(_, shared)| shared);
        let Some((saved, shared)) = self.store.find(adapter, wanted, own.max(elsewhere) + COPY_TOKENS) else {
            return false;
        };
        let restored = self.model.restore(self.slots[index].sequence, &saved.state, shared);
        self.slots[index].kept = if restored { wanted[..shared].to_vec() } else { Vec::new() };
        restored
    }

    /// Takes in what was kept when the model was last loaded.
    pub(crate) fn take_in(&mut self, prefixes: Vec<Prefix>) {
        for Prefix { adapter, tokens, state } in prefixes {
            self.store.put(adapter, tokens, state);
        }
        self.counters.stored(self.store.bytes());
    }

    /// Everything that the next load of this model can use: the model is about to go.
    pub(crate) fn give_out(&mut self) -> Vec<Prefix> {
        let mut slots: Vec<_> = (0..self.slots.len()).collect();
        slots.sort_by_key(|&index| self.slots[index].used);
        slots.into_iter().for_each(|index| self.put_away(index));
        self.store.take().collect()
    }

    // What the slot holds is about to be lost: to host memory, unless it is small or to be had elsewhere.
    fn put_away(&mut self, index: usize) {
        let slot = &self.slots[index];
        let adapter = slot.adapter;
        let elsewhere = self.held(adapter).any(|held| held.slot != index && held.kept.starts_with(&slot.kept));
        let off = self.store.limit() == 0;
        if off || slot.kept.len() < STORED_TOKENS || elsewhere || self.store.covers(adapter, &slot.kept) {
            return;
        }
        if let Some(state) = self.model.save(slot.sequence, self.store.limit()) {
            self.store.put(adapter, slot.kept.clone(), state);
            self.counters.stored(self.store.bytes());
        }
    }
}

/// A copy moves a whole sequence's cache, which takes about as long as computing a few tokens.
const COPY_TOKENS: usize = 16;
/// Shorter sequences are computed again in a chunk or two.
const STORED_TOKENS: usize = 64;
