//! Guesses at the next tokens of one generation, from what it has read and written so far (prompt lookup, no draft model).
//!
//! Pure. An answer that copies its prompt, as an edit of a file does, follows a *source*: a place in its own past. Every token tells
//! whether the guess before it was right, also when nobody acted on it; so what the guesses are worth is always known and costs
//! nothing. Whether and how far to act on them is [`pace`](super::pace)'s business.

use std::collections::HashMap;

use crate::Token;

/// One generation's guesses.
#[derive(Debug)]
pub(super) struct Lookup {
    // Where each n-gram ended last, and for each such end the one before it.
    last: HashMap<[Token; NGRAM], usize>,
    before: Vec<usize>,
    /// The place of the token expected next.
    source: Option<usize>,
    /// Tokens since the source was last right.
    astray: usize,
    confidence: f32,
}

impl Default for Lookup {
    fn default() -> Self {
        Self { last: HashMap::new(), before: Vec::new(), source: None, astray: 0, confidence: AT_FIRST }
    }
}

impl Lookup {
    /// The share of the last guesses that were right.
    pub(super) fn confidence(&self) -> f32 {
        self.confidence
    }

    /// What is expected to follow these tokens; at most `most`, often nothing.
    pub(super) fn guess<'a>(&self, tokens: &'a [Token], most: usize) -> &'a [Token] {
        let from = self.source.unwrap_or(tokens.len()).min(tokens.len());
        &tokens[from..(from + most).min(tokens.len())]
    }

    /// Takes the newest of these tokens into account. To be called once for each, prompt and answer alike.
    pub(super) fn follow(&mut self, tokens: &[Token]) {
        let Some((&newest, past)) = tokens.split_last() else { return };
        self.index(past);
        let expected = self.source.and_then(|source| past.get(source));
        if let Some(&expected) = expected {
            let right = f32::from(u8::from(expected == newest));
            self.confidence += (right - self.confidence) / MEMORY;
        }
        match expected {
            Some(&expected) if expected == newest => {
                self.source = self.source.map(|source| source + 1);
                self.astray = 0;
            }
            _ => self.find(tokens, newest),
        }
    }

    /// Takes in a whole prompt. Its last tokens may already be repeating something.
    pub(super) fn read(&mut self, tokens: &[Token]) {
        self.index(&tokens[..tokens.len().saturating_sub(1)]);
        self.source = self.longest(tokens);
    }

    // All n-grams that end at or before the end of these tokens. The newest token is never among them: it would find itself.
    fn index(&mut self, past: &[Token]) {
        for end in (self.before.len()..past.len() + 1).filter(|end| *end > 0) {
            let older = past[..end].last_chunk().and_then(|ngram| self.last.insert(*ngram, end));
            self.before.resize(end, 0);
            self.before.push(older.unwrap_or(0));
        }
        if self.before.is_empty() {
            self.before.push(0);
        }
    }

    // A new source: where the last tokens occurred before; else near the old source, past something left out or put in its place.
    fn find(&mut self, tokens: &[Token], newest: Token) {
        if let Some(source) = self.longest(tokens) {
            (self.source, self.astray) = (Some(source), 0);
            return;
        }
        let Some(lost) = self.source else { return };
        self.astray += 1;
        let near = lost.saturating_sub(self.astray - 1)..(lost + NEAR).min(tokens.len() - 1);
        let again = tokens[near.clone()].iter().position(|token| *token == newest);
        self.source = match again {
            Some(offset) => Some(near.start + offset + 1),
            None if self.astray < PATIENCE => Some(lost + 1),
            None => None,
        };
    }

    // Of the latest places where the last n-gram occurred, the one before which most is alike.
    fn longest(&self, tokens: &[Token]) -> Option<usize> {
        let ngram = tokens.last_chunk::<NGRAM>()?;
        let older = |&end: &usize| self.before.get(end).copied().filter(|end| *end > 0);
        let ends = std::iter::successors(self.last.get(ngram).copied(), older).take(CANDIDATES);
        let alike = |end: usize| {
            let pairs = tokens[..end].iter().rev().zip(tokens.iter().rev());
            pairs.take(ALIKE).take_while(|(a, b)| a == b).count()
        };
        // The latest of equals.
        ends.map(|end| (alike(end), end))
            .reduce(|best, next| if next.0 > best.0 { next } else { best })
            .map(|best| best.1)
    }
}

/// Three tokens are seldom alike by chance in code.
const NGRAM: usize = 3;
/// Occurrences compared, of one n-gram: files repeat a phrase many times.
const CANDIDATES: usize = 16;
/// Tokens compared for each.
const ALIKE: usize = 32;
/// After a difference, how far ahead of it a single equal token is taken for the place to go on.
const NEAR: usize = 12;
/// Tokens that differ before a source is given up.
const PATIENCE: usize = 8;
/// About how many guesses the confidence remembers.
const MEMORY: f32 = 12.0;
/// Confidence before anything is known: enough to try.
const AT_FIRST: f32 = 0.6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        text.bytes().map(|byte| Token(byte.into())).collect()
    }

    fn text(tokens: &[Token]) -> String {
        tokens.iter().map(|token| char::from(u8::try_from(token.0).unwrap())).collect()
    }

    // The prompt read and the answer followed; what is guessed after each token of it.
    fn guesses(prompt: &str, answer: &str, most: usize) -> (Vec<String>, f32) {
        let mut lookup = Lookup::default();
        let mut all = tokens(prompt);
        lookup.read(&all);
        let after = |token| {
            all.push(token);
            lookup.follow(&all);
            text(lookup.guess(&all, most))
        };
        let guessed = tokens(answer).into_iter().map(after).collect();
        (guessed, lookup.confidence())
    }

    #[test]
    fn a_copy_is_followed_from_its_third_token() {
        let (guessed, _) = guesses("the quick brown fox. ", "the q", 4);
        assert_eq!(guessed, ["", "", " qui", "quic", "uick"]);
    }

    #[test]
    fn the_longest_likeness_decides_between_places() {
        let (guessed, _) = guesses("a = one(x); b = two(x), ", "a = one(x)", 3);
        assert_eq!(guessed.last().unwrap(), "; b");
        let (guessed, _) = guesses("a = one(x); b = two(x), ", "b = two(x)", 3);
        assert_eq!(guessed.last().unwrap(), ", b");
    }

    #[test]
    fn a_replaced_word_does_not_lose_the_place() {
        let prompt = "let count = 1; print(count); return count + 1; ";
        let (guessed, confidence) = guesses(prompt, "let N = 1; print(N); return N + 1; ", 3);
        let after = |position: usize| guessed[position - 1].as_str();
        assert_eq!((after(4), after(6)), ("cou", "= 1"));
        assert!(confidence > 0.5, "{confidence}");
    }

    #[test]
    fn what_has_no_past_is_not_guessed_and_wrong_guesses_are_remembered() {
        assert!(guesses("abcdefgh", "ijklmnop", 4).0.iter().all(String::is_empty));
        let (_, confidence) = guesses("abcX abcY abcZ ", "abc0123456789", 4);
        assert!(confidence < 0.5, "{confidence}");
    }

    proptest! {
        #[test]
        fn a_guess_is_always_a_piece_of_the_past(prompt in "[ab]{1,40}", answer in "[ab]{0,40}", most in 0_usize..9) {
            let mut lookup = Lookup::default();
            let mut all = tokens(&prompt);
            lookup.read(&all);
            for token in tokens(&answer) {
                all.push(token);
                lookup.follow(&all);
                prop_assert!(lookup.guess(&all, most).len() <= most);
                prop_assert!((0.0..=1.0).contains(&lookup.confidence()));
            }
        }
    }
}
