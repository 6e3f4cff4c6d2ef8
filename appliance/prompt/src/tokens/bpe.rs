//! Exact counts for models with a byte-level byte-pair vocabulary (`tokenizer.ggml.model` = "gpt2"), as llama.cpp makes tokens of
//! text in which nothing is a control token. Built from what a GGUF file says; anything it does not know, it refuses.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

use super::TokenCount;
use super::split::Splitter;

/// A vocabulary as a GGUF file has it.
#[derive(Clone, Copy)]
pub struct Vocabulary<'v, S> {
    /// `tokenizer.ggml.model`.
    pub model: &'v str,
    /// `tokenizer.ggml.pre`: how text is split into words before anything is merged.
    pub pre: &'v str,
    /// `tokenizer.ggml.tokens`, by number.
    pub tokens: &'v [S],
    /// `tokenizer.ggml.token_type`, by number; tokens beyond its end are normal.
    pub types: &'v [i32],
    /// `tokenizer.ggml.merges`, first to last: two texts with a space between them.
    pub merges: &'v [S],
}

/// Why a vocabulary cannot be counted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It is of another kind than byte pairs.
    Model(String),
    /// Its words are split by rules that are not known here.
    Splitter(String),
    /// A byte has no token of its own, or a merge leads to no token.
    Incomplete(String),
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model(found) => write!(f, "the vocabulary is of kind {found:?}, and only \"gpt2\" is known"),
            Self::Splitter(found) => write!(f, "words are split by rules called {found:?}, which are not known"),
            Self::Incomplete(found) => write!(f, "the vocabulary has no token for {found:?}"),
        }
    }
}

impl std::error::Error for Unknown {}

/// `LLAMA_TOKEN_TYPE_USER_DEFINED`: found in any text, before words are split.
const USER_DEFINED: i32 = 4;
/// No token, or the end of a chain.
const NONE: u32 = u32::MAX;

/// A byte-pair vocabulary ready to count with.
pub struct Bpe {
    splitter: Splitter,
    /// Whether a word that is a token needs no merging.
    whole_words: bool,
    bytes: [u32; 256],
    pairs: Pairs,
    /// Tokens by their bytes; empty unless they are needed ([`Self::whole_words`]).
    words: Words,
    /// Tokens that stand for their own text wherever it occurs, longest first.
    literals: Vec<(Box<str>, u32)>,
}

type Words = std::collections::HashMap<Box<[u8]>, u32>;

/// Prints its size only.
impl fmt::Debug for Bpe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bpe").field("splitter", &self.splitter).field("literals", &self.literals.len()).finish()
    }
}

impl Bpe {
    /// Reads a vocabulary.
    ///
    /// # Errors
    /// What about it is not known. Whoever asks estimates instead: a count that is nearly right would be worse than one that says
    /// so.
    pub fn new<S: AsRef<str>>(vocabulary: &Vocabulary<'_, S>) -> Result<Self, Unknown> {
        if vocabulary.model != "gpt2" {
            return Err(Unknown::Model(vocabulary.model.to_owned()));
        }
        let splitter = Splitter::named(vocabulary.pre).ok_or_else(|| Unknown::Splitter(vocabulary.pre.to_owned()))?;
        let numbered = || vocabulary.tokens.iter().map(AsRef::as_ref).zip(0u32..);
        let is_literal = |id: u32| vocabulary.types.get(id as usize) == Some(&USER_DEFINED);
        let words: Words =
            numbered().filter(|(_, id)| !is_literal(*id)).filter_map(|(token, id)| Some((spelt(token)?, id))).collect();
        let mut literals: Vec<(Box<str>, u32)> = numbered()
            .filter(|(token, id)| is_literal(*id) && !token.is_empty())
            .map(|(token, id)| (token.into(), id))
            .collect();
        literals.sort_by_key(|(token, _)| std::cmp::Reverse(token.len()));
        let mut bytes = [NONE; 256];
        for (byte, id) in (0u8..=255).zip(&mut bytes) {
            *id = *words.get(&[byte][..]).ok_or_else(|| Unknown::Incomplete(format!("byte {byte}")))?;
        }
        let mut pairs = Pairs::with_capacity(vocabulary.merges.len());
        for (rank, merge) in (0u32..).zip(vocabulary.merges) {
            let missing = || Unknown::Incomplete(merge.as_ref().to_owned());
            let (left, right) = merge.as_ref().split_once(' ').ok_or_else(missing)?;
            let (left, right) = spelt(left).zip(spelt(right)).ok_or_else(missing)?;
            let id = |text: &[u8]| words.get(text).copied().ok_or_else(missing);
            pairs.insert(id(&left)?, id(&right)?, rank, id(&[&left[..], &right[..]].concat())?);
        }
        let whole_words = splitter == Splitter::Llama3;
        let words = if whole_words { words } else { Words::new() };
        Ok(Self { splitter, whole_words, bytes, pairs, words, literals })
    }

    /// The tokens of a text, without one that begins a prompt.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut word = Word::default();
        let mut ids = Vec::new();
        self.pieces(text, &self.literals, &mut |piece| match piece {
            Piece::Literal(id) => ids.push(id),
            Piece::Text(text) => self.splitter.words(text, |text| {
                self.merge(text.as_bytes(), &mut word);
                ids.extend(word.tokens());
            }),
        });
        ids
    }

    /// A text cut at its literals, as llama.cpp does it: first at every place of the longest, then what is left between them
    /// at those of the next.
    fn pieces<'t>(&self, text: &'t str, literals: &[(Box<str>, u32)], each: &mut impl FnMut(Piece<'t>)) {
        let Some(((literal, id), shorter)) = literals.split_first() else {
            if !text.is_empty() {
                each(Piece::Text(text));
            }
            return;
        };
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(&**literal) {
            self.pieces(before, shorter, each);
            each(Piece::Literal(*id));
            rest = after;
        }
        self.pieces(rest, shorter, each);
    }

    fn merge(&self, text: &[u8], word: &mut Word) {
        word.clear();
        if self.whole_words
            && let Some(id) = self.words.get(text)
        {
            word.push(*id);
            return;
        }
        text.iter().for_each(|byte| word.push(self.bytes[usize::from(*byte)]));
        for at in 0..text.len().saturating_sub(1) {
            word.consider(&self.pairs, at as u32);
        }
        while let Some(Reverse((_, at, left, right))) = word.queue.pop() {
            word.join(&self.pairs, at, (left, right));
        }
    }
}

impl TokenCount for Bpe {
    fn count(&self, text: &str) -> usize {
        let mut word = Word::default();
        let mut count = 0;
        self.pieces(text, &self.literals, &mut |piece| match piece {
            Piece::Literal(_) => count += 1,
            Piece::Text(text) => self.splitter.words(text, |text| {
                self.merge(text.as_bytes(), &mut word);
                count += word.tokens().count();
            }),
        });
        count
    }

    fn is_exact(&self) -> bool {
        true
    }
}

/// A part of a text.
enum Piece<'t> {
    Text(&'t str),
    Literal(u32),
}

/// A word while its symbols are merged: a chain of symbols, and the pairs that may be merged, lowest rank first, so that
/// a word of a million letters takes its length times its logarithm.
#[derive(Default)]
struct Word {
    symbols: Vec<Symbol>,
    /// Rank, place and the two symbols that stood there.
    queue: BinaryHeap<Reverse<(u32, u32, u32, u32)>>,
}

#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    before: u32,
    after: u32,
}

impl Word {
    fn clear(&mut self) {
        self.symbols.clear();
        self.queue.clear();
    }

    fn push(&mut self, id: u32) {
        let at = self.symbols.len() as u32;
        if let Some(last) = self.symbols.last_mut() {
            last.after = at;
        }
        self.symbols.push(Symbol { id, before: at.wrapping_sub(1), after: NONE });
    }

    fn consider(&mut self, pairs: &Pairs, at: u32) {
        let left = self.symbols[at as usize];
        let Some(right) = self.symbols.get(left.after as usize) else { return };
        if let Some((rank, _)) = pairs.find(left.id, right.id) {
            self.queue.push(Reverse((rank, at, left.id, right.id)));
        }
    }

    /// Merges the symbol at `at` with the one behind it, if they still are what they were.
    fn join(&mut self, pairs: &Pairs, at: u32, (left, right): (u32, u32)) {
        let symbol = self.symbols[at as usize];
        let Some(next) = self.symbols.get(symbol.after as usize).copied() else { return };
        let Some((_, id)) = pairs.find(left, right).filter(|_| symbol.id == left && next.id == right) else { return };
        self.symbols[symbol.after as usize].id = NONE;
        self.symbols[at as usize] = Symbol { id, after: next.after, ..symbol };
        if let Some(after) = self.symbols.get_mut(next.after as usize) {
            after.before = at;
        }
        if symbol.before != NONE {
            self.consider(pairs, symbol.before);
        }
        self.consider(pairs, at);
    }

    fn tokens(&self) -> impl Iterator<Item = u32> {
        self.symbols.iter().map(|symbol| symbol.id).filter(|id| *id != NONE)
    }
}

/// Merges by the pair of tokens: a table with open addresses, since a prompt asks it several times a byte.
struct Pairs {
    slots: Vec<(u32, u32, u32, u32)>,
}

impl Pairs {
    fn with_capacity(merges: usize) -> Self {
        Self { slots: vec![(NONE, NONE, 0, 0); (merges * 2).next_power_of_two().max(16)] }
    }

    /// The first of equal pairs counts.
    fn insert(&mut self, left: u32, right: u32, rank: u32, id: u32) {
        let place = self.place(left, right);
        if self.slots[place].0 == NONE {
            self.slots[place] = (left, right, rank, id);
        }
    }

    /// Rank and token of a merge.
    #[inline]
    fn find(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let (found, _, rank, id) = self.slots[self.place(left, right)];
        (found != NONE).then_some((rank, id))
    }

    /// Where a pair is, or would be: half of the places are always free.
    #[inline]
    fn place(&self, left: u32, right: u32) -> usize {
        let mask = self.slots.len() - 1;
        let key = (u64::from(left) << 32 | u64::from(right)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut place = (key >> 32) as usize & mask;
        while self.slots[place].0 != NONE && (self.slots[place].0, self.slots[place].1) != (left, right) {
            place = (place + 1) & mask;
        }
        place
    }
}

/// The bytes of a token: such vocabularies write every byte as one printable character.
fn spelt(token: &str) -> Option<Box<[u8]>> {
    token.chars().map(byte).collect()
}

/// The byte that a character stands for: itself where it is printable, else the next free character from U+0100 on.
fn byte(c: char) -> Option<u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match u32::from(c) {
        code @ 0..=0xff => Some(code as u8).filter(|byte| printable(*byte)),
        code => (0u8..=255).filter(|byte| !printable(*byte)).nth(code as usize - 0x100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> (Vec<String>, Vec<String>) {
        let mut spellings: Vec<(u8, char)> =
            (0u32..0x180).filter_map(char::from_u32).filter_map(|c| Some((byte(c)?, c))).collect();
        spellings.sort_unstable();
        let mut tokens: Vec<String> = spellings.iter().map(|(_, c)| c.to_string()).collect();
        tokens.extend(["ab", "abc", "Ġabc", "aa", "aaaa", "<|end|>"].map(str::to_owned));
        (tokens, ["a b", "ab c", "Ġ abc", "a a", "aa aa"].map(str::to_owned).to_vec())
    }

    fn bpe() -> Bpe {
        let (tokens, merges) = vocabulary();
        let vocabulary = Vocabulary { model: "gpt2", pre: "gpt-2", tokens: &tokens, types: &[1; 261], merges: &merges };
        Bpe::new(&vocabulary).expect("is complete")
    }

    #[test]
    fn merges_in_order_of_rank() {
        for (text, expected) in [
            ("abc", &[257][..]),
            ("abc abc", &[257, 258]),
            ("aab", &[97, 256]),
            ("aaaaa", &[260, 97]),
            ("é", &[0xc3, 0xa9]),
            ("", &[]),
        ] {
            assert_eq!(bpe().encode(text), expected, "{text}");
            assert_eq!(bpe().count(text), expected.len(), "{text}");
        }
    }

    #[test]
    fn literals_stand_for_themselves_the_longest_first() {
        let (mut tokens, merges) = vocabulary();
        tokens.extend(["<t>", "<t><t>", "b c"].map(str::to_owned));
        let mut types = vec![1; 262];
        types.extend([4, 4, 4]);
        let vocabulary = Vocabulary { model: "gpt2", pre: "gpt-2", tokens: &tokens, types: &types, merges: &merges };
        let bpe = Bpe::new(&vocabulary).expect("is complete");
        for (text, expected) in [
            ("abc<t>abc", &[257, 262, 257][..]),
            ("<t><t><t>", &[263, 262]),
            ("ab cc", &[97, 264, 99]),
            ("<t", &[60, 116]),
            ("<t>", &[262]),
        ] {
            assert_eq!(bpe.encode(text), expected, "{text}");
            assert_eq!(bpe.count(text), expected.len(), "{text}");
        }
    }

    #[test]
    fn a_word_of_a_million_letters_ends() {
        assert_eq!(bpe().count(&"a".repeat(1 << 20)), 1 << 18);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let (tokens, merges) = vocabulary();
        let good = Vocabulary { model: "gpt2", pre: "qwen2", tokens: &tokens, types: &[], merges: &merges };
        assert!(Bpe::new(&good).is_ok());
        assert!(matches!(Bpe::new(&Vocabulary { model: "llama", ..good }), Err(Unknown::Model(_))));
        assert!(matches!(Bpe::new(&Vocabulary { pre: "new", ..good }), Err(Unknown::Splitter(_))));
        assert!(matches!(Bpe::new(&Vocabulary { tokens: &tokens[1..], ..good }), Err(Unknown::Incomplete(_))));
        let wrong = ["a zz".to_owned()];
        assert!(matches!(Bpe::new(&Vocabulary { merges: &wrong, ..good }), Err(Unknown::Incomplete(_))));
    }
}
