//! A text as a table of lines: where each begins and ends, how far it is indented, which marks it has, its fingerprint
//! and its tokens. Everything that asks "does this line have a ..?" asks the marks first, so that the bytes of most lines
//! are looked at once.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use crate::tokens::TokenCount;

/// Columns that a tab counts for. Any number does that is the same for all lines.
const TAB_COLUMNS: u32 = 4;

/// One line. Offsets are 32 bits: `LIMIT_BYTES` in the parent module keeps texts below that.
struct Line {
    start: u32,
    /// First byte that is not white space.
    body: u32,
    /// After the last byte that is not white space.
    end: u32,
    /// Of the trimmed line; 0 for a blank one. Whoever acts on equal fingerprints compares the bytes.
    hash: u32,
    indent: u16,
    marks: Marks,
}

/// Which of some bytes a line has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(u8);

impl Marks {
    /// `"`, `'` or `` ` ``.
    pub(super) const QUOTE: Self = Self(1);
    /// `(`, `)`, `[` or `]`.
    pub(super) const PAREN: Self = Self(2);
    /// `{` or `}`.
    pub(super) const BRACE: Self = Self(4);
    /// `*`.
    pub(super) const STAR: Self = Self(8);
    /// `.`.
    pub(super) const DOT: Self = Self(16);
    /// `:`.
    pub(super) const COLON: Self = Self(32);
    /// `;` or `,`.
    pub(super) const SEPARATOR: Self = Self(64);
    /// `=`.
    pub(super) const EQUALS: Self = Self(128);

    /// Whether any of `other` is among these.
    #[inline]
    pub(super) fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn of(text: &str) -> Self {
        Self(text.bytes().fold(0, |marks, byte| marks | MARKS[usize::from(byte)]))
    }
}

const MARKS: [u8; 256] = {
    let mut table = [0; 256];
    let bytes = b"\"'`()[]{}*.:;,=";
    let marks = [1, 1, 1, 2, 2, 2, 2, 4, 4, 8, 16, 32, 64, 64, 128];
    let mut at = 0;
    while at < bytes.len() {
        table[bytes[at] as usize] = marks[at];
        at += 1;
    }
    table
};

/// The lines of a text.
pub(super) struct Lines<'a> {
    pub(super) text: &'a str,
    lines: Vec<Line>,
    /// Tokens before each line, and of all.
    tokens_before: Vec<u32>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str, tokens: &dyn TokenCount) -> Self {
        // Counted first: growing step by step would hold up to three times as much for a moment.
        let count = Self::count(text);
        let mut lines = Vec::with_capacity(count);
        let mut tokens_before = Vec::with_capacity(count + 1);
        let (mut start, mut sum) = (0, 0u32);
        for raw in text.split_inclusive('\n') {
            lines.push(line(raw, start));
            tokens_before.push(sum);
            sum += u32::try_from(tokens.count(raw)).unwrap_or(u32::MAX / 2);
            start += raw.len();
        }
        tokens_before.push(sum);
        Self { text, lines, tokens_before }
    }

    /// How many lines a text has, or one more.
    pub(super) fn count(text: &str) -> usize {
        text.bytes().filter(|byte| *byte == b'\n').count() + 1
    }

    /// The fingerprint of a trimmed line that is not blank.
    pub(super) fn hash_of(trimmed: &str) -> u32 {
        xxh3_64(trimmed.as_bytes()) as u32 | 1
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The line without white space around it.
    #[inline]
    pub(super) fn trimmed(&self, at: usize) -> &'a str {
        let line = &self.lines[at];
        &self.text[line.body as usize..line.end as usize]
    }

    #[inline]
    pub(super) fn is_blank(&self, at: usize) -> bool {
        self.lines[at].hash == 0
    }

    #[inline]
    pub(super) fn indent(&self, at: usize) -> u32 {
        u32::from(self.lines[at].indent)
    }

    #[inline]
    pub(super) fn marks(&self, at: usize) -> Marks {
        self.lines[at].marks
    }

    #[inline]
    pub(super) fn hash(&self, at: usize) -> u32 {
        self.lines[at].hash
    }

    #[inline]
    pub(super) fn start(&self, at: usize) -> usize {
        self.lines.get(at).map_or(self.text.len(), |line| line.start as usize)
    }

    /// Where the first character of a line stands.
    #[inline]
    pub(super) fn body(&self, at: usize) -> usize {
        self.lines[at].body as usize
    }

    /// The bytes of some lines, line ends and all.
    pub(super) fn span(&self, lines: &Range<usize>) -> Range<usize> {
        self.start(lines.start)..self.start(lines.end)
    }

    /// The text of some lines, line ends and all.
    pub(super) fn slice(&self, lines: &Range<usize>) -> &'a str {
        &self.text[self.span(lines)]
    }

    /// The tokens of some lines.
    #[inline]
    pub(super) fn tokens(&self, lines: &Range<usize>) -> usize {
        (self.tokens_before[lines.end] - self.tokens_before[lines.start]) as usize
    }
}

fn line(raw: &str, start: usize) -> Line {
    let trimmed = raw.trim_ascii();
    let body = if trimmed.is_empty() { raw.len() } else { trimmed.as_ptr() as usize - raw.as_ptr() as usize };
    let indent: u32 = raw.bytes().take(body).map(|byte| if byte == b'\t' { TAB_COLUMNS } else { 1 }).sum();
    let hash = if trimmed.is_empty() { 0 } else { Lines::hash_of(trimmed) };
    let at = |offset: usize| u32::try_from(start + offset).unwrap_or(u32::MAX);
    let end = if trimmed.is_empty() { body } else { body + trimmed.len() };
    let indent = u16::try_from(indent).unwrap_or(u16::MAX);
    Line { start: at(0), body: at(body), end: at(end), indent, hash, marks: Marks::of(trimmed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_lines() {
        let all = Marks::QUOTE.and(Marks::PAREN).and(Marks::BRACE).and(Marks::STAR).and(Marks::DOT);
        let all = all.and(Marks::COLON).and(Marks::SEPARATOR).and(Marks::EQUALS);
        for (text, expected) in [
            ("plain text", Marks::default()),
            ("f(x);", Marks::PAREN.and(Marks::SEPARATOR)),
            ("a.b = {'x': 1}", all.without(Marks::PAREN).without(Marks::STAR).without(Marks::SEPARATOR)),
        ] {
            assert_eq!(Marks::of(text), expected, "{text}");
        }
    }

    impl Marks {
        fn without(self, other: Self) -> Self {
            Self(self.0 & !other.0)
        }
    }
}
