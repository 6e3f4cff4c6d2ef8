//! Prefixes that no slot holds any more, in host memory and under a limit of bytes.
//!
//! The models of a program share the limit, since they share the memory: what one holds is not there for another.
//!
//! A state is of use only with the adapter that it was computed with. Pure: tokens and the model's opaque bytes for them. The least
//! recently used goes first.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::prefix::common;
use crate::prefixes::Prefix;
use crate::{Adapter, Token};

/// Bytes in all stores of the program.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// States of sequences by their tokens.
#[derive(Debug)]
pub(super) struct Store {
    limit: usize,
    bytes: usize,
    // The least recently used first.
    entries: Vec<Saved>,
}

/// One sequence's state.
#[derive(Debug)]
pub(super) struct Saved {
    adapter: Adapter,
    pub(super) tokens: Vec<Token>,
    pub(super) state: Vec<u8>,
}

impl Saved {
    fn bytes(&self) -> usize {
        self.state.len() + size_of_val(self.tokens.as_slice())
    }
}

impl Store {
    /// An empty store; with a limit of 0 it stays so.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, entries: Vec::new() }
    }

    /// The most that one state may take.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// True when these tokens could be had from the store already.
    pub(super) fn covers(&self, adapter: Adapter, tokens: &[Token]) -> bool {
        self.entries.iter().any(|saved| saved.adapter == adapter && saved.tokens.starts_with(tokens))
    }

    /// The longest beginning of the prompt in the store, if it is longer than `than`. Finding it is using it.
    pub(super) fn find(&mut self, adapter: Adapter, prompt: &[Token], than: usize) -> Option<(&Saved, usize)> {
        let shared = |saved: &Saved| if saved.adapter == adapter { common(prompt, &saved.tokens) } else { 0 };
        let shared = self.entries.iter().map(shared).enumerate();
        let (index, shared) = shared.filter(|(_, shared)| *shared > than).max_by_key(|(_, shared)| *shared)?;
        let saved = self.entries.remove(index);
        self.entries.push(saved);
        self.entries.last().map(|saved| (saved, shared))
    }

    /// All states, the most recently used last. The store is empty then.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Prefix> {
        self.hold(0);
        let prefix = |Saved { adapter, tokens, state }| Prefix { adapter, tokens, state };
        std::mem::take(&mut self.entries).into_iter().map(prefix)
    }

    /// Takes a state in, instead of those it covers, and lets the oldest go.
    pub(super) fn put(&mut self, adapter: Adapter, tokens: Vec<Token>, state: Vec<u8>) {
        let saved = Saved { adapter, tokens, state };
        if saved.bytes() > self.limit {
            return;
        }
        self.entries.retain(|older| older.adapter != saved.adapter || !saved.tokens.starts_with(&older.tokens));
        self.entries.push(saved);
        self.hold(self.entries.iter().map(Saved::bytes).sum());
        while HELD.load(Ordering::Relaxed) > self.limit && !self.entries.is_empty() {
            let oldest = self.entries.remove(0).bytes();
            self.hold(self.bytes - oldest);
        }
    }

    fn hold(&mut self, bytes: usize) {
        HELD.fetch_add(bytes, Ordering::Relaxed);
        HELD.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.hold(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Addition;

    const BARE: Adapter = Adapter(None);

    fn tokens(text: &str) -> Vec<Token> {
        text.bytes().map(|byte| Token(byte.into())).collect()
    }

    fn found(store: &mut Store, prompt: &str) -> Option<(usize, usize)> {
        store.find(BARE, &tokens(prompt), 0).map(|(saved, shared)| (saved.state.len(), shared))
    }

    #[test]
    fn two_stores_hold_no_more_than_one_may() {
        let (mut one, mut other) = (Store::new(100), Store::new(100));
        one.put(BARE, tokens("a"), vec![0; 56]);
        other.put(BARE, tokens("a"), vec![0; 56]);
        assert_eq!(one.bytes() + other.bytes(), 60);
        drop(one);
        other.put(BARE, tokens("a"), vec![0; 56]);
        assert_eq!(other.bytes(), 60);
    }

    #[test]
    fn the_longest_beginning_is_found_and_the_oldest_goes_first() {
        let mut store = Store::new(100);
        store.put(BARE, tokens("abc"), vec![0; 10]);
        store.put(BARE, tokens("abxy"), vec![0; 20]);
        assert_eq!((found(&mut store, "abxz"), found(&mut store, "q")), (Some((20, 3)), None));
        assert!(store.find(BARE, &tokens("abc"), 3).is_none());
        assert_eq!(found(&mut store, "abcd"), Some((10, 3)));
        // 22 + 36 bytes are there; with 50 more the one not used for longest goes.
        store.put(BARE, tokens("z"), vec![0; 46]);
        assert_eq!((found(&mut store, "abxy"), store.bytes()), (Some((10, 2)), 72));
    }

    #[test]
    fn a_longer_sequence_takes_the_place_of_its_beginning() {
        let mut store = Store::new(100);
        store.put(BARE, tokens("ab"), vec![0; 10]);
        store.put(BARE, tokens("abc"), vec![0; 10]);
        assert_eq!((store.entries.len(), store.bytes()), (1, 22));
        assert!(store.covers(BARE, &tokens("ab")) && !store.covers(BARE, &tokens("abcd")));
        store.put(BARE, tokens("large"), vec![0; 100]);
        assert_eq!(store.entries.len(), 1, "what does not fit costs nothing else");
        let mut none = Store::new(0);
        none.put(BARE, tokens("a"), vec![]);
        assert_eq!(none.bytes(), 0);
    }

    #[test]
    fn what_one_adapter_computed_is_nothing_to_another() {
        let (mut store, other) = (Store::new(100), Adapter(Some(Addition::new(0, None))));
        store.put(BARE, tokens("abc"), vec![0; 10]);
        assert!(store.find(other, &tokens("abc"), 0).is_none() && !store.covers(other, &tokens("a")));
        store.put(other, tokens("abcd"), vec![0; 20]);
        assert_eq!(found(&mut store, "abcd"), Some((10, 3)));
        assert_eq!(
            store.find(other, &tokens("abc"), 0).map(|(saved, shared)| (saved.state.len(), shared)),
            Some((20, 3))
        );
    }

    proptest! {
        #[test]
        fn the_limit_is_never_exceeded(puts in prop::collection::vec(("[ab]{0,6}", 0_usize..60), 0..30)) {
            let mut store = Store::new(128);
            for (text, bytes) in puts {
                store.put(BARE, tokens(&text), vec![0; bytes]);
                prop_assert!(store.bytes() <= 128);
                prop_assert_eq!(store.bytes(), store.entries.iter().map(Saved::bytes).sum::<usize>());
            }
        }
    }
}
