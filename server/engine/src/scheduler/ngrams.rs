//! Where in a text the last tokens of another, or of itself, have occurred before.

use std::collections::HashMap;

use crate::Token;

/// An index of one text, which only grows.
#[derive(Debug, Default)]
pub(super) struct Ngrams {
    // Where each n-gram ended last, and for each such end the one before it.
    last: HashMap<[Token; NGRAM], usize>,
    before: Vec<usize>,
}

impl Ngrams {
    /// Takes in all n-grams that end at or before the end of the text. Of a text that is to find itself, the newest token must not be
    /// among them.
    pub(super) fn take_in(&mut self, text: &[Token]) {
        for end in (self.before.len()..text.len() + 1).filter(|end| *end > 0) {
            let older = text[..end].last_chunk().and_then(|ngram| self.last.insert(*ngram, end));
            self.before.resize(end, 0);
            self.before.push(older.unwrap_or(0));
        }
        if self.before.is_empty() {
            self.before.push(0);
        }
    }

    /// Of the latest places in the text that the last n-gram of `tokens` stands before, the one before which most is alike, and how many
    /// tokens that are.
    pub(super) fn longest(&self, text: &[Token], tokens: &[Token]) -> Option<(usize, usize)> {
        let ngram = tokens.last_chunk::<NGRAM>()?;
        let older = |&end: &usize| self.before.get(end).copied().filter(|end| *end > 0);
        let ends = std::iter::successors(self.last.get(ngram).copied(), older).take(CANDIDATES);
        let alike = |end: usize| {
            let pairs = text[..end].iter().rev().zip(tokens.iter().rev());
            pairs.take(ALIKE).take_while(|(a, b)| a == b).count()
        };
        // The latest of equals.
        ends.map(|end| (end, alike(end))).reduce(|best, next| if next.1 > best.1 { next } else { best })
    }
}

/// Three tokens are seldom alike by chance in code.
const NGRAM: usize = 3;
/// Occurrences compared, of one n-gram: files repeat a phrase many times.
const CANDIDATES: usize = 16;
/// Tokens compared for each.
pub(super) const ALIKE: usize = 32;
