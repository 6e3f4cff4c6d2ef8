//! Words of the query within words that are written as one: "header" in `putheader`, "message" in `msgid`.

use super::terms;
use super::vocabulary;

/// Letters of the shortest word that is looked for ...
const WORD_BYTES: usize = 4;
/// ... of the shortest one that may stand in the middle of another ...
const INNER_BYTES: usize = 5;
/// ... of the shortest abbreviation ...
const SHORT_BYTES: usize = 3;
/// ... and of the shortest word that one is looked for in.
const COMPOUND_BYTES: usize = 6;
/// Letters from which on a word is looked through, not only its beginning and its end.
const LONG_BYTES: usize = 9;
/// Letters of the longest such word that count.
const LONGEST_BYTES: usize = 32;

/// What is looked for.
#[derive(Default)]
pub(super) struct Compounds {
    /// Terms of the query, and how they begin or end a longer word.
    words: Vec<(u32, String)>,
    /// Bit sets over the first and the last three letters of those: most words are turned away here.
    first: Set,
    last: Set,
}

impl Compounds {
    /// Adds a word of the query by its fingerprint.
    pub(super) fn add(&mut self, term: u32, word: &str) {
        let word = word.to_ascii_lowercase();
        for short in vocabulary::abbreviations(&word).filter(|short| short.len() >= SHORT_BYTES) {
            self.look_for(term, short);
        }
        if word.len() >= WORD_BYTES {
            self.look_for(term, terms::stem(&word));
        }
    }

    fn look_for(&mut self, term: u32, word: &str) {
        self.first.insert(&word.as_bytes()[..SHORT_BYTES]);
        self.last.insert(&word.as_bytes()[word.len() - SHORT_BYTES..]);
        self.words.push((term, word.to_owned()));
    }

    /// Replaces fingerprints by the numbers that `number` gives them.
    pub(super) fn number(&mut self, number: impl Fn(u32) -> Option<usize>) {
        self.words.retain_mut(|(term, _)| number(*term).map(|found| *term = found as u32).is_some());
    }

    /// Adds to `found` the terms that begin or end a part of `identifier` and that are not among `found[from..]`.
    pub(super) fn find(&self, identifier: &str, from: usize, found: &mut Vec<u32>) {
        if identifier.len() < COMPOUND_BYTES {
            return;
        }
        terms::split(identifier, |part| {
            if !(COMPOUND_BYTES..=LONGEST_BYTES).contains(&part.len()) {
                return;
            }
            let mut lower = [0; LONGEST_BYTES];
            let lower = &mut lower[..part.len()];
            lower.copy_from_slice(part);
            lower.make_ascii_lowercase();
            let stem = terms::cut(lower);
            let begins = self.first.contains(&lower[..SHORT_BYTES]);
            let ends = stem.len() > SHORT_BYTES && self.last.contains(&stem[stem.len() - SHORT_BYTES..]);
            let inner = || {
                stem.len() >= LONG_BYTES
                    && (1..=stem.len() - INNER_BYTES).any(|at| self.first.contains(&stem[at..at + SHORT_BYTES]))
            };
            if begins || ends || inner() {
                self.among(stem, from, found);
            }
        });
    }

    fn among(&self, part: &[u8], from: usize, found: &mut Vec<u32>) {
        for (term, word) in &self.words {
            let word = word.as_bytes();
            let inner = || word.len() >= INNER_BYTES && part.windows(word.len()).any(|window| window == word);
            let within = part.len() > word.len() && (part.starts_with(word) || part.ends_with(word) || inner());
            if within && !found[from..].contains(term) {
                found.push(*term);
            }
        }
    }
}

/// Some groups of three letters, perhaps a few more.
#[derive(Default)]
struct Set([u64; 16]);

impl Set {
    fn insert(&mut self, letters: &[u8]) {
        let (word, bit) = Self::place(letters);
        self.0[word] |= bit;
    }

    fn contains(&self, letters: &[u8]) -> bool {
        let (word, bit) = Self::place(letters);
        self.0[word] & bit != 0
    }

    fn place(letters: &[u8]) -> (usize, u64) {
        let hash = letters.iter().fold(0u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(*byte)));
        ((hash >> 6) as usize & 15, 1 << (hash & 63))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_within_words() {
        let mut compounds = Compounds::default();
        for (number, word) in ["headers", "message", "delimited", "art"].into_iter().enumerate() {
            compounds.add(number as u32, word);
        }
        for (identifier, expected) in [
            ("putheader", &[0][..]),
            ("HEADERSIZE", &[0]),
            ("msgid", &[]),
            ("msgident", &[1]),
            ("get_undelimited", &[2]),
            ("header", &[]),
            ("starting", &[]),
        ] {
            let mut found = Vec::new();
            compounds.find(identifier, 0, &mut found);
            assert_eq!(found, expected, "{identifier}");
        }
    }
}
