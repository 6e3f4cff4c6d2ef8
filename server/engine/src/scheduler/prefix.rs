//! Which slot to give to a prompt, so that as much of it as possible is still in the cache.
//!
//! Pure. For now each sequence is looked at by itself; an index over all sequences, with prefixes copied from one to another, belongs
//! here too.

use std::cmp::Reverse;

use crate::Token;

/// How many tokens two sequences share at their beginnings.
pub(super) fn common(one: &[Token], other: &[Token]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// Of the free slots, given as (index, kept tokens, when last used), the one with the longest common beginning; of equals, the one unused
/// for longest, so that a prompt that shares nothing costs the least valuable cache.
pub(super) fn choose<'a>(prompt: &[Token], free: impl Iterator<Item = (usize, &'a [Token], u64)>) -> Option<usize> {
    let worth = |kept| match common(prompt, kept) {
        shared if shared < TRIVIAL_TOKENS => 0,
        shared => shared,
    };
    free.max_by_key(|&(index, kept, used)| (worth(kept), Reverse((used, index)))).map(|(index, ..)| index)
}

/// The token that begins every prompt and a chat template's first words are not worth another prompt's cache.
const TRIVIAL_TOKENS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        text.bytes().map(|byte| Token(byte.into())).collect()
    }

    #[test]
    fn the_longest_common_beginning_wins_then_the_oldest() {
        type Slots = &'static [(&'static str, u64)];
        let cases: [(&str, Slots, Option<usize>); 6] = [
            ("12345abc", &[], None),
            ("12345abc", &[("x", 1), ("12345d", 2)], Some(1)),
            ("12345abc", &[("12345ab", 9), ("12345a", 1)], Some(0)),
            ("12345abc", &[("", 5), ("xyz", 3)], Some(1)),
            ("12345abc", &[("12345x", 3), ("12345y", 5)], Some(0)),
            ("12345abc", &[("123", 3), ("", 2)], Some(1)),
        ];
        for (prompt, slots, expected) in cases {
            let kept: Vec<_> = slots.iter().map(|(text, used)| (tokens(text), *used)).collect();
            let free = kept.iter().enumerate().map(|(index, (kept, used))| (index, kept.as_slice(), *used));
            assert_eq!(choose(&tokens(prompt), free), expected, "{prompt} {slots:?}");
        }
    }
}
