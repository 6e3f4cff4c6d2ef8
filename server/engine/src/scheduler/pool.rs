//! What the generations of a model have read and written lately, for the guesses of those that come after them.
//!
//! A question asked again, the next version of an answer, a completion in a file that another conversation has just written: their own
//! past does not know it. Pure, and only for guesses, which the model verifies: nothing of one caller can get into another's text.

use std::ops::Range;

use super::ngrams::{ALIKE, Ngrams};
use crate::Token;

/// Texts one after the other, the oldest forgotten. Places count from the first text that ever was.
#[derive(Debug)]
pub(super) struct Pool {
    text: Vec<Token>,
    ngrams: Ngrams,
    forgotten: usize,
    limit: usize,
}

impl Pool {
    /// Stands between two texts; no vocabulary has it.
    pub(super) const BORDER: Token = Token(i32::MIN);

    /// Of at most so many tokens.
    pub(super) fn new(limit: usize) -> Self {
        Self { text: Vec::new(), ngrams: Ngrams::default(), forgotten: 0, limit }
    }

    /// Takes in a generation that has ended: what it had to compute, and as much before that as finding it may need.
    pub(super) fn put_from(&mut self, tokens: &[Token], computed: usize) {
        self.put(&tokens[computed.saturating_sub(ALIKE).min(tokens.len())..]);
    }

    pub(super) fn put(&mut self, tokens: &[Token]) {
        // Forgetting half at a time, so that the index is made anew only now and then.
        let half = self.limit / 2;
        self.text.extend(&tokens[tokens.len().saturating_sub(half)..]);
        self.text.push(Self::BORDER);
        if self.text.len() > self.limit {
            let gone = self.text.len() - half.min(self.text.len());
            self.text.drain(..gone);
            self.forgotten += gone;
            self.ngrams = Ngrams::default();
        }
        self.ngrams.take_in(&self.text);
    }

    /// The place after which these tokens may go on as a text here does; none unless so many are alike that it is no chance.
    pub(super) fn find(&self, tokens: &[Token]) -> Option<usize> {
        let (end, alike) = self.ngrams.longest(&self.text, tokens)?;
        (alike >= NO_CHANCE).then_some(self.forgotten + end)
    }

    /// What stands at these places, as far as it is still there; nothing where their first is not.
    pub(super) fn text(&self, places: Range<usize>) -> &[Token] {
        let Some(from) = places.start.checked_sub(self.forgotten) else { return &[] };
        let end = places.end.saturating_sub(self.forgotten).min(self.text.len());
        &self.text[from.min(end)..end]
    }
}

/// More than a template's words at the beginning of every answer.
const NO_CHANCE: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        text.bytes().map(|byte| Token(byte.into())).collect()
    }

    #[test]
    fn the_oldest_is_forgotten_and_places_stay_what_they_were() {
        let mut pool = Pool::new(32);
        pool.put(&tokens("abcdefghijkl"));
        assert_eq!(pool.find(&tokens("abcdefgh")), Some(8));
        assert_eq!(pool.find(&tokens("bcdefgh")), None, "too few are alike");
        pool.put(&tokens("mnopqrstuv"));
        let place = pool.find(&tokens("mnopqrst")).unwrap();
        assert_eq!(pool.text(place..place + 2), tokens("uv"));
        pool.put(&tokens("wxyz012345"));
        assert_eq!((pool.find(&tokens("abcdefgh")), pool.text(8..10)), (None, &[][..]));
        assert_eq!(pool.text(place..place + 2), tokens("uv"));
    }

    #[test]
    fn only_what_was_not_known_is_taken_in_with_some_of_what_leads_to_it() {
        let mut pool = Pool::new(1000);
        let text: Vec<_> = (0..100).map(Token).collect();
        pool.put_from(&text, 60);
        assert_eq!(pool.text.len(), 100 - 60 + ALIKE + 1);
        pool.put_from(&text, 100);
        assert_eq!(pool.text.len(), 100 - 60 + 2 * (ALIKE + 1));
    }

    proptest! {
        #[test]
        fn the_limit_holds_whatever_comes(texts in prop::collection::vec(0_i32..3, 0..9), limit in 0_usize..50) {
            let mut pool = Pool::new(limit);
            for length in texts {
                pool.put(&vec![Token(7); length as usize * 20]);
                prop_assert!(pool.text.len() <= limit.max(1));
            }
        }
    }
}
