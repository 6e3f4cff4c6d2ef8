//! The identifiers of a text as numbers: every distinct one is kept once, every occurrence is 32 bits. What is asked of an
//! identifier afterwards (is it in the query? does something define it?) is asked once, not once for each occurrence.

use std::ops::Range;

use super::lines::Lines;
use super::table::{Entry, Table};
use super::terms;

/// Longer runs of letters are data.
const LETTERS: usize = 128;

/// An identifier of the text, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Word(u32);

impl Word {
    /// Its number: below [`Words::distinct`], for tables.
    #[inline]
    pub(super) fn number(self) -> usize {
        self.0 as usize
    }

    /// The identifier of that number.
    pub(super) fn numbered(number: usize) -> Self {
        Self(number as u32)
    }
}

/// Every identifier of a text, line by line.
pub(super) struct Words<'a> {
    occurrences: Vec<Word>,
    /// Where each line's occurrences begin.
    starts: Vec<u32>,
    distinct: Vec<&'a str>,
    table: Table,
}

impl<'a> Words<'a> {
    pub(super) fn new(lines: &Lines<'a>) -> Self {
        let mut words = Self {
            occurrences: Vec::with_capacity(lines.text.len() / 10),
            starts: Vec::with_capacity(lines.len() + 1),
            distinct: Vec::new(),
            // About so many differ in code; the table grows where more do.
            table: Table::with_capacity(lines.text.len() / 64),
        };
        for at in 0..lines.len() {
            words.starts.push(words.occurrences.len() as u32);
            terms::identifiers(lines.trimmed(at), |identifier| {
                if let Some(word) = words.intern(identifier) {
                    words.occurrences.push(word);
                }
            });
        }
        words.starts.push(words.occurrences.len() as u32);
        // Grown beyond the estimate they hold up to twice as much.
        words.occurrences.shrink_to_fit();
        words
    }

    /// How many different ones there are.
    pub(super) fn distinct(&self) -> usize {
        self.distinct.len()
    }

    /// All of them, in order of their numbers.
    pub(super) fn texts(&self) -> &[&'a str] {
        &self.distinct
    }

    /// The occurrences in some lines.
    #[inline]
    pub(super) fn of(&self, lines: &Range<usize>) -> &[Word] {
        &self.occurrences[self.starts[lines.start] as usize..self.starts[lines.end] as usize]
    }

    /// The number of an identifier, if the text has it.
    pub(super) fn find(&self, identifier: &str) -> Option<Word> {
        self.table.find(hash(identifier), |word| self.distinct[word as usize] == identifier).map(Word)
    }

    fn intern(&mut self, identifier: &'a str) -> Option<Word> {
        if identifier.len() > LETTERS {
            return None;
        }
        let next = self.distinct.len() as u32;
        let same = |word| same(self.distinct[word as usize].as_bytes(), identifier.as_bytes());
        match self.table.entry(hash(identifier), next, same) {
            Entry::Found(word) => Some(Word(word)),
            Entry::New => {
                self.distinct.push(identifier);
                Some(Word(next))
            }
            Entry::Refused => None,
        }
    }
}

/// Whether two identifiers are equal. Most are short: two overlapping loads on each side tell, without a call.
#[inline]
fn same(one: &[u8], two: &[u8]) -> bool {
    fn ends<const N: usize>(one: &[u8], two: &[u8]) -> bool {
        one.first_chunk::<N>() == two.first_chunk::<N>() && one.last_chunk::<N>() == two.last_chunk::<N>()
    }
    one.len() == two.len()
        && match one.len() {
            ..4 => one == two,
            4..8 => ends::<4>(one, two),
            8..=16 => ends::<8>(one, two),
            _ => ends::<8>(one, two) && one == two,
        }
}

/// Mixes the first and the last bytes, and those between in steps of eight. Good enough for identifiers; the table bears bad
/// luck.
fn hash(identifier: &str) -> u32 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let bytes = identifier.as_bytes();
    let word =
        |at: usize| bytes.get(at..at + 8).map_or(0, |eight| u64::from_le_bytes(eight.try_into().unwrap_or_default()));
    let half =
        |at: usize| bytes.get(at..at + 4).map_or(0, |four| u32::from_le_bytes(four.try_into().unwrap_or_default()));
    let last = bytes.len();
    let (first, second) = match last {
        0 => (0, 0),
        1..=3 => (u64::from(bytes[0]) << 8 | u64::from(bytes[last / 2]), u64::from(bytes[last - 1])),
        4..=7 => (u64::from(half(0)), u64::from(half(last - 4))),
        _ => (
            (8..last.saturating_sub(8))
                .step_by(8)
                .fold(word(0), |sum, at| (sum.rotate_left(23) ^ word(at)).wrapping_mul(ODD)),
            word(last - 8),
        ),
    };
    let mixed =
        (first ^ ODD).wrapping_mul(0xd6e8_feb8_6659_fd93) ^ (second.rotate_left(32) ^ last as u64).wrapping_mul(ODD);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(ODD);
    (mixed >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Estimate;

    #[test]
    fn equal_identifiers_have_equal_numbers() {
        let text = "foo(bar)\n\nbar = foo + größe\n";
        let lines = Lines::new(text, &Estimate);
        let words = Words::new(&lines);
        let [foo, bar] = ["foo", "bar"].map(|text| words.find(text).expect("is in the text"));
        assert_eq!(words.of(&(0..1)), [foo, bar]);
        assert_eq!(words.of(&(1..3))[..2], [bar, foo]);
        assert_eq!(words.texts(), ["foo", "bar", "größe"]);
        assert_eq!(words.find("baz"), None);
    }

    #[test]
    fn sameness_is_equality() {
        let long = "abcdefghijklmnopqrstuvwxyz";
        for length in 0..long.len() {
            let one = &long.as_bytes()[..length];
            assert!(same(one, one));
            for at in 0..length {
                let mut other = one.to_vec();
                other[at] = b'_';
                assert!(!same(one, &other), "{length} {at}");
            }
            assert!(!same(one, &long.as_bytes()[..length + 1]));
        }
    }

    #[test]
    fn many_identifiers_are_all_found_again() {
        let text: String = (0..5000).map(|number| format!("name_{number} ")).collect();
        let lines = Lines::new(&text, &Estimate);
        let words = Words::new(&lines);
        assert_eq!(words.distinct(), 5000);
        assert!((0..5000).all(|number| words.find(&format!("name_{number}")).is_some()));
    }
}
