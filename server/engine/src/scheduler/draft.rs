//! Guesses at the next tokens of one generation, from what it has read and written so far and from what others have (prompt lookup, no
//! draft model).
//!
//! Pure. An answer that copies its prompt, as an edit of a file does, follows a *source*: a place in its own past, or in the pool of all.
//! Every token tells whether the guess before it was right, also when nobody acted on it; so what the guesses are worth is always known
//! and costs nothing. Whether and how far to act on them is [`pace`](super::pace)'s business.

use std::ops::Range;

use super::ngrams::Ngrams;
use super::pool::Pool;
use crate::Token;

/// One generation's guesses.
#[derive(Debug)]
pub(super) struct Lookup {
    ngrams: Ngrams,
    source: Option<Source>,
    /// Tokens since the source was last right.
    astray: usize,
    confidence: f32,
}

/// The place of the token expected next.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// In the generation's own tokens.
    Own(usize),
    /// In the pool.
    Pool(usize),
}

impl Source {
    fn place(self) -> usize {
        match self {
            Self::Own(place) | Self::Pool(place) => place,
        }
    }

    fn at(self, place: usize) -> Self {
        match self {
            Self::Own(_) => Self::Own(place),
            Self::Pool(_) => Self::Pool(place),
        }
    }

    /// What stands at these places, as far as there are any.
    fn text<'a>(self, own: &'a [Token], pool: &'a Pool, places: Range<usize>) -> &'a [Token] {
        match self {
            Self::Own(_) => &own[places.start.min(own.len())..places.end.min(own.len())],
            Self::Pool(_) => pool.text(places),
        }
    }
}

impl Default for Lookup {
    fn default() -> Self {
        Self { ngrams: Ngrams::default(), source: None, astray: 0, confidence: AT_FIRST }
    }
}

impl Lookup {
    /// The share of the last guesses that were right.
    pub(super) fn confidence(&self) -> f32 {
        self.confidence
    }

    /// What is expected to follow these tokens; at most `most`, often nothing.
    pub(super) fn guess<'a>(&self, tokens: &'a [Token], pool: &'a Pool, most: usize) -> &'a [Token] {
        let Some(source) = self.source else { return &[] };
        let text = source.text(tokens, pool, source.place()..source.place() + most);
        &text[..text.iter().position(|token| *token == Pool::BORDER).unwrap_or(text.len())]
    }

    /// Takes the newest of these tokens into account. To be called once for each, prompt and answer alike.
    pub(super) fn follow(&mut self, tokens: &[Token], pool: &Pool) {
        let Some((&newest, past)) = tokens.split_last() else { return };
        self.ngrams.take_in(past);
        let expected = self.source.and_then(|source| {
            let place = source.place();
            source
                .text(past, pool, place..place + 1)
                .first()
                .map(|expected| (source.at(place + 1), *expected == newest))
        });
        if let Some((_, right)) = expected {
            self.confidence += (f32::from(u8::from(right)) - self.confidence) / MEMORY;
        }
        match expected {
            Some((next, true)) => (self.source, self.astray) = (Some(next), 0),
            _ => self.find(tokens, newest, pool),
        }
    }

    /// Takes in a whole prompt. Its last tokens may already be repeating something.
    pub(super) fn read(&mut self, tokens: &[Token], pool: &Pool) {
        self.ngrams.take_in(&tokens[..tokens.len().saturating_sub(1)]);
        self.source = self.own(tokens).or_else(|| pool.find(tokens).map(Source::Pool));
    }

    fn own(&self, tokens: &[Token]) -> Option<Source> {
        self.ngrams.longest(tokens, tokens).map(|(place, _)| Source::Own(place))
    }

    // A new source: where the last tokens occurred before; else near the old source, past something left out or put in its place; else
    // where somebody else had them.
    fn find(&mut self, tokens: &[Token], newest: Token, pool: &Pool) {
        if let Some(source) = self.own(tokens) {
            (self.source, self.astray) = (Some(source), 0);
            return;
        }
        self.source = self.source.and_then(|lost| self.near(lost, tokens, newest, pool));
        if self.source.is_none() {
            (self.source, self.astray) = (pool.find(tokens).map(Source::Pool), 0);
        }
    }

    fn near(&mut self, lost: Source, tokens: &[Token], newest: Token, pool: &Pool) -> Option<Source> {
        self.astray += 1;
        let place = lost.place();
        let from = place.saturating_sub(self.astray - 1);
        // The newest token itself is none of the past.
        let near = lost.text(&tokens[..tokens.len() - 1], pool, from..place + NEAR);
        match near.iter().position(|token| *token == newest) {
            Some(offset) => Some(lost.at(from + offset + 1)),
            None if self.astray < PATIENCE => Some(lost.at(place + 1)),
            None => None,
        }
    }
}

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
        guesses_beside(&Pool::new(0), prompt, answer, most)
    }

    fn guesses_beside(pool: &Pool, prompt: &str, answer: &str, most: usize) -> (Vec<String>, f32) {
        let mut lookup = Lookup::default();
        let mut all = tokens(prompt);
        lookup.read(&all, pool);
        let after = |token| {
            all.push(token);
            lookup.follow(&all, pool);
            text(lookup.guess(&all, pool, most))
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

    #[test]
    fn what_others_wrote_is_followed_where_the_own_past_knows_nothing() {
        let mut pool = Pool::new(100);
        pool.put(&tokens("def fibonacci(n):"));
        let (guessed, confidence) = guesses_beside(&pool, "write ", "def fibonacci(n):", 4);
        let after = |letters: usize| guessed[letters - 1].as_str();
        assert_eq!((after(7), after(8), after(13), after(17)), ("", "nacc", "(n):", ""));
        assert!(confidence > 0.6, "{confidence}");
        // The own past first, and no guess beyond the end of what somebody wrote.
        pool.put(&tokens("def fibonacci(k);"));
        let (guessed, _) = guesses_beside(&pool, "def fibonacci(m)! ", "def fibonacci(", 4);
        assert_eq!(guessed.last().unwrap(), "m)! ");
    }

    #[test]
    fn a_source_in_the_pool_may_go_while_it_is_followed() {
        let mut pool = Pool::new(40);
        pool.put(&tokens("def fibonacci(n):"));
        let mut all = tokens("x def fib");
        let mut lookup = Lookup::default();
        lookup.read(&all, &pool);
        assert_eq!(text(lookup.guess(&all, &pool, 3)), "");
        for token in tokens("ona") {
            all.push(token);
            lookup.follow(&all, &pool);
        }
        assert_eq!(text(lookup.guess(&all, &pool, 3)), "cci");
        pool.put(&tokens("something else that is long"));
        pool.put(&tokens("and that makes it forget"));
        assert_eq!(text(lookup.guess(&all, &pool, 3)), "");
        all.extend(tokens("c"));
        lookup.follow(&all, &pool);
    }

    proptest! {
        #[test]
        fn a_guess_is_always_a_piece_of_the_past(
            others in prop::collection::vec("[ab]{1,20}", 0..4),
            prompt in "[ab]{1,40}",
            answer in "[ab]{0,40}",
            most in 0_usize..9,
        ) {
            let mut pool = Pool::new(64);
            others.iter().for_each(|other| pool.put(&tokens(other)));
            let mut lookup = Lookup::default();
            let mut all = tokens(&prompt);
            lookup.read(&all, &pool);
            for token in tokens(&answer) {
                all.push(token);
                lookup.follow(&all, &pool);
                let guess = lookup.guess(&all, &pool, most);
                prop_assert!(guess.len() <= most && !guess.contains(&Pool::BORDER));
                prop_assert!((0.0..=1.0).contains(&lookup.confidence()));
            }
        }
    }
}
