//! Where a prompt goes and what of it need not be computed: one index over the sequences of all slots.
//!
//! Pure. There are few slots, and two sequences that differ do so early, so the index is a comparison with each of them: microseconds
//! where a step takes milliseconds. What was evicted from all slots is in [`store`](super::store).

use std::cmp::Reverse;

use crate::Token;

/// How many tokens two sequences share at their beginnings.
pub(super) fn common(one: &[Token], other: &[Token]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// What one slot holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'a> {
    pub(super) slot: usize,
    pub(super) kept: &'a [Token],
    /// When it was last used.
    pub(super) used: u64,
    pub(super) free: bool,
}

/// The free slot for a prompt: one that holds mostly the beginning of this prompt and little else goes on where it was; otherwise the one
/// unused for longest, so that the prompt costs the least valuable cache. What another slot holds can be copied there.
pub(super) fn choose<'a>(prompt: &[Token], slots: impl Iterator<Item = Held<'a>>) -> Option<usize> {
    let worth = |held: &Held<'_>| match common(prompt, held.kept) {
        shared if shared < TRIVIAL_TOKENS || shared * 2 < held.kept.len() => 0,
        shared => shared,
    };
    let free = slots.filter(|held| held.free);
    free.max_by_key(|held| (worth(held), held.kept.is_empty(), Reverse((held.used, held.slot)))).map(|held| held.slot)
}

/// The slot that holds the longest beginning of a prompt, and how long that is; of equals the first.
pub(super) fn longest<'a>(prompt: &[Token], slots: impl Iterator<Item = Held<'a>>) -> Option<(usize, usize)> {
    let shared = slots.map(|held| (held.slot, common(prompt, held.kept)));
    shared.reduce(|best, next| if next.1 > best.1 { next } else { best })
}

/// The token that begins every prompt and a chat template's first words are not worth another prompt's cache.
const TRIVIAL_TOKENS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        text.bytes().map(|byte| Token(byte.into())).collect()
    }

    fn held(slots: &[(Vec<Token>, u64, bool)]) -> impl Iterator<Item = Held<'_>> {
        slots.iter().enumerate().map(|(slot, (kept, used, free))| Held { slot, kept, used: *used, free: *free })
    }

    #[test]
    fn the_longest_common_beginning_wins_then_the_oldest() {
        type Slots = &'static [(&'static str, u64, bool)];
        let cases: [(&str, Slots, Option<usize>); 9] = [
            ("12345abc", &[], None),
            ("12345abc", &[("x", 1, true), ("12345d", 2, true)], Some(1)),
            ("12345abc", &[("12345ab", 9, true), ("12345a", 1, true)], Some(0)),
            ("12345abc", &[("", 5, true), ("xyz", 3, true)], Some(0)),
            ("12345abc", &[("12345x", 3, true), ("12345y", 5, true)], Some(0)),
            ("12345abc", &[("123", 3, true), ("", 2, true)], Some(1)),
            // Mostly somebody else's conversation: it is left alone, and its beginning copied.
            ("12345abc", &[("12345 and much more", 3, true), ("xyz", 4, true)], Some(0)),
            ("12345abc", &[("12345 and much more", 4, true), ("xyz", 3, true)], Some(1)),
            ("12345abc", &[("12345abc", 1, false), ("xyz", 3, true)], Some(1)),
        ];
        for (prompt, slots, expected) in cases {
            let kept: Vec<_> = slots.iter().map(|(text, used, free)| (tokens(text), *used, *free)).collect();
            assert_eq!(choose(&tokens(prompt), held(&kept)), expected, "{prompt} {slots:?}");
        }
    }

    #[test]
    fn busy_slots_are_sources_too() {
        let slots = [(tokens("123x"), 1, true), (tokens("12345"), 2, false), (tokens("12345"), 3, true)];
        assert_eq!(longest(&tokens("12345abc"), held(&slots)), Some((1, 5)));
        assert_eq!(longest(&tokens("12345abc"), held(&[])), None);
    }
}
