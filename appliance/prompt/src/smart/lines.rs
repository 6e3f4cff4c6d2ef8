//! A text as a table of lines: where each begins and ends, how far it is indented, its fingerprint and its tokens.

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
    indent: u32,
    /// Of the trimmed line; 0 for a blank one.
    hash: u64,
}

/// The lines of a text.
pub(super) struct Lines<'a> {
    pub(super) text: &'a str,
    lines: Vec<Line>,
    /// Tokens before each line, and of all.
    tokens_before: Vec<u32>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str, tokens: &dyn TokenCount) -> Self {
        let mut lines = Vec::with_capacity(text.len() / 32 + 1);
        let mut tokens_before = Vec::with_capacity(text.len() / 32 + 2);
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

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The line without white space around it.
    pub(super) fn trimmed(&self, at: usize) -> &'a str {
        let line = &self.lines[at];
        &self.text[line.body as usize..line.end as usize]
    }

    pub(super) fn is_blank(&self, at: usize) -> bool {
        self.lines[at].hash == 0
    }

    pub(super) fn indent(&self, at: usize) -> u32 {
        self.lines[at].indent
    }

    pub(super) fn hash(&self, at: usize) -> u64 {
        self.lines[at].hash
    }

    pub(super) fn start(&self, at: usize) -> usize {
        self.lines.get(at).map_or(self.text.len(), |line| line.start as usize)
    }

    /// Where the first character of a line stands.
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
    pub(super) fn tokens(&self, lines: &Range<usize>) -> usize {
        (self.tokens_before[lines.end] - self.tokens_before[lines.start]) as usize
    }
}

fn line(raw: &str, start: usize) -> Line {
    let trimmed = raw.trim_ascii();
    let body = if trimmed.is_empty() { raw.len() } else { trimmed.as_ptr() as usize - raw.as_ptr() as usize };
    let indent = raw.bytes().take(body).map(|byte| if byte == b'\t' { TAB_COLUMNS } else { 1 }).sum();
    let hash = if trimmed.is_empty() { 0 } else { xxh3_64(trimmed.as_bytes()) | 1 };
    let at = |offset: usize| u32::try_from(start + offset).unwrap_or(u32::MAX);
    let end = if trimmed.is_empty() { body } else { body + trimmed.len() };
    Line { start: at(0), body: at(body), end: at(end), indent, hash }
}
