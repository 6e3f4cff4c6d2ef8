//! Divides a prompt into zones: prose, fence lines, file headers and code, each code zone with its language and file.

use std::ops::Range;

use super::lines::{Lines, Marks};
use super::prose;
use super::quoted::Quoted;
use super::vocabulary;
use crate::language::{self, Language};

/// What a zone holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Sentences for the model: the instruction, or a part of it.
    Prose,
    /// A line that opens or closes a fence.
    Fence,
    /// A line that names the file whose text follows.
    Header,
    /// Text to choose from.
    Code,
}

/// Some lines of one kind.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    pub(super) kind: Kind,
    pub(super) lines: Range<usize>,
    pub(super) language: Option<Language>,
    /// Number of the file, counted from 0 in order of the headers; absent before the first one and after a fence.
    pub(super) file: Option<usize>,
}

/// Zones of a prompt, and the paths of its files in bytes.
pub(super) struct Zones<'a> {
    pub(super) zones: Vec<Zone>,
    pub(super) files: Vec<&'a str>,
}

/// Divides a prompt; `default` is the language of code that says nothing about its own.
pub(super) fn divide<'a>(lines: &Lines<'a>, default: Option<Language>) -> Zones<'a> {
    let kinds = kinds(lines);
    let mut divider = Divider { lines, default, zones: Vec::new(), files: Vec::new(), file: None, language: default };
    for (at, kind) in kinds.into_iter().enumerate() {
        divider.add(at, kind);
    }
    Zones { zones: divider.zones, files: divider.files }
}

struct Divider<'a, 'l> {
    lines: &'l Lines<'a>,
    default: Option<Language>,
    zones: Vec<Zone>,
    files: Vec<&'a str>,
    file: Option<usize>,
    language: Option<Language>,
}

impl Divider<'_, '_> {
    fn add(&mut self, at: usize, kind: Kind) {
        let line = self.lines.trimmed(at);
        if kind == Kind::Fence {
            self.language = language::fence_tag(line).or(self.default);
            self.file = None;
        }
        if kind == Kind::Header
            && let Some((path, found)) = language::path_line(line)
        {
            self.files.push(path);
            self.file = Some(self.files.len() - 1);
            self.language = Some(found);
        }
        match self.zones.last_mut() {
            Some(last) if last.kind == kind && matches!(kind, Kind::Prose | Kind::Code) => last.lines.end = at + 1,
            _ => self.zones.push(Zone { kind, lines: at..at + 1, language: self.language, file: self.file }),
        }
    }
}

/// Lines of code before an opening fence from which on it is text of the program, such as an example in a comment.
const FENCED_BY_CHANCE: usize = 8;

/// The kind of every line.
fn kinds(lines: &Lines<'_>) -> Vec<Kind> {
    let tail = marked_tail(lines);
    let end = tail.unwrap_or(lines.len());
    let mut kinds = Vec::with_capacity(lines.len());
    let sorter = || Sorter::new(lines);
    let doubtful = sorter().sort(0..end, &mut kinds);
    if tail.is_some() && doubtful != Doubt::None {
        // The instruction is not in a fence, so none is open: these were no fences.
        kinds.clear();
        Sorter { fences: None, ..sorter() }.sort(0..end, &mut kinds);
    } else if doubtful != Doubt::None && !asked_behind(lines, &mut kinds) && doubtful == Doubt::Stray {
        one_fence(&mut kinds);
    }
    kinds.resize(lines.len(), Kind::Prose);
    let trusted = demote_middle(lines, &mut kinds, tail.is_some());
    if !trusted && !kinds.iter().enumerate().any(|(at, kind)| *kind == Kind::Prose && asks(lines, at)) {
        // Sentences of the program, most likely. What asks for something goes before them.
        let told = kinds.clone();
        kinds.iter_mut().filter(|kind| **kind == Kind::Prose).for_each(|kind| *kind = Kind::Code);
        misplaced(lines, &mut kinds);
        if !kinds.contains(&Kind::Prose) {
            kinds = told;
        }
    }
    if !kinds.contains(&Kind::Prose) {
        trailing_todo(lines, &mut kinds);
    }
    if !kinds.contains(&Kind::Prose) {
        misplaced(lines, &mut kinds);
    }
    kinds
}

/// What is wrong with the fences of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    None,
    /// One is never closed.
    Open,
    /// Code stands between them: some are examples in comments.
    Stray,
}

/// Where nothing but sentences stands behind the last fence, it is the end of the block that the first one began, whatever
/// those between them say. Returns whether that is so.
fn asked_behind(lines: &Lines<'_>, kinds: &mut Vec<Kind>) -> bool {
    let Some(first) = kinds.iter().position(|kind| *kind == Kind::Fence) else { return false };
    let Some(outer) = Fence::of(lines.trimmed(first)) else { return false };
    let closes = |at: &usize| {
        let fence = Fence::of(lines.trimmed(*at)).filter(|fence| fence.may_close(outer) && !fence.tagged);
        fence.is_some() && lines.indent(*at) == lines.indent(first)
    };
    let Some(last) = (first + 1..lines.len()).rev().find(closes) else { return false };
    let mut sorted = kinds[..=last].to_vec();
    Sorter { fences: None, ..Sorter::new(lines) }.sort(last + 1..lines.len(), &mut sorted);
    let mut behind = (last + 1..lines.len()).filter(|at| !lines.is_blank(*at)).peekable();
    if behind.peek().is_none() || !behind.all(|at| sorted[at] == Kind::Prose) {
        return false;
    }
    sorted[last] = Kind::Fence;
    *kinds = sorted;
    one_fence(kinds);
    true
}

/// Takes all between the first and the last fence as one block.
fn one_fence(kinds: &mut [Kind]) {
    let is_fence = |kind: &Kind| *kind == Kind::Fence;
    if let (Some(first), Some(last)) = (kinds.iter().position(is_fence), kinds.iter().rposition(is_fence)) {
        let inner = kinds[first..last].iter_mut().skip(1).filter(|kind| **kind != Kind::Header);
        inner.for_each(|kind| *kind = Kind::Code);
    }
}

/// An instruction that was put into the middle of a block, at the margin: taken for one when nothing else is.
fn misplaced(lines: &Lines<'_>, kinds: &mut [Kind]) {
    let indented = |at: Option<usize>| at.is_some_and(|at| lines.indent(at) > 0);
    let starts = |at: &usize| {
        lines.indent(*at) == 0
            && (*at == 0 || lines.is_blank(*at - 1))
            && asks(lines, *at)
            && prose::is_prose(lines.trimmed(*at))
    };
    let mut found = (0..lines.len()).filter(starts).filter(|at| {
        let end = paragraph(lines, *at..lines.len()).end;
        let filled = |at: &usize| !lines.is_blank(*at);
        indented((0..*at).rev().find(filled)) && indented((end..lines.len()).find(filled))
    });
    if let (Some(only), None) = (found.next(), found.next()) {
        kinds[paragraph(lines, only..lines.len())].fill(Kind::Prose);
    }
}

/// Whether a line begins as requests do.
fn asks(lines: &Lines<'_>, at: usize) -> bool {
    let word = lines.trimmed(at).split(' ').next().unwrap_or_default().to_ascii_lowercase();
    vocabulary::is_task(&word) || word == "please"
}

/// Where the last paragraph begins, if a marker says that it is the instruction.
fn marked_tail(lines: &Lines<'_>) -> Option<usize> {
    let last = (0..lines.len()).rev().find(|at| !lines.is_blank(*at))?;
    let first = (0..last).rev().find(|at| lines.is_blank(*at)).map_or(0, |at| at + 1);
    (first..=last).find(|at| marker(lines.trimmed(*at)).is_some() && lines.indent(*at) < 4)
}

/// Tells the kinds of lines, from the first on.
struct Sorter<'a, 'l> {
    lines: &'l Lines<'a>,
    quoted: Quoted,
    /// Fences open; absent when fences are not looked for.
    fences: Option<usize>,
    /// The fence that was opened first of them.
    outer: Fence,
    /// Lines of code since the last sentence, fence or heading.
    code: usize,
    /// Whether there was a fence.
    fenced: bool,
    /// Whether there was a lot of code between two fences.
    stray: bool,
}

impl<'a, 'l> Sorter<'a, 'l> {
    fn new(lines: &'l Lines<'a>) -> Self {
        Self {
            lines,
            quoted: Quoted::new(None),
            fences: Some(0),
            outer: Fence::default(),
            code: 0,
            fenced: false,
            stray: false,
        }
    }

    /// Says what is odd about the fences.
    fn sort(mut self, range: Range<usize>, kinds: &mut Vec<Kind>) -> Doubt {
        let mut most = 0;
        let Range { start: mut at, end } = range;
        while at < end {
            match (self.fence(at), self.fences) {
                (Some(fence), Some(open)) => {
                    let tagged = fence.tagged;
                    self.outer = if open == 0 { fence } else { self.outer };
                    self.stray |= self.fenced && most >= FENCED_BY_CHANCE;
                    (self.fenced, most) = (true, 0);
                    let inner = open > 0 && (tagged || open > 1);
                    self.fences = Some(if tagged || open == 0 { open + 1 } else { open - 1 });
                    kinds.push(if inner { Kind::Code } else { Kind::Fence });
                    (self.quoted, self.code) = (Quoted::new(None), 0);
                    at += 1;
                }
                (None, Some(1..)) => {
                    kinds.push(code_kind(self.lines, at, &mut self.quoted));
                    at += 1;
                }
                _ => at = self.paragraph(at, end, kinds),
            }
            most = most.max(self.code);
        }
        match self.fences {
            Some(_) if self.stray => Doubt::Stray,
            Some(1..) => Doubt::Open,
            _ => Doubt::None,
        }
    }

    /// The fence that a line is. In a comment or a string, or right behind a lot of code, it opens nothing; within a block
    /// only fences of the same kind count.
    fn fence(&self, at: usize) -> Option<Fence> {
        let outside = self.fences == Some(0) && !self.fenced;
        if self.fences.is_none() || (outside && (self.quoted.is_open() || self.code >= FENCED_BY_CHANCE)) {
            return None;
        }
        let inside = self.fences.is_some_and(|open| open > 0);
        Fence::of(self.lines.trimmed(at)).filter(|fence| {
            if inside {
                fence.may_close(self.outer)
            } else {
                !fence.underlines || at == 0 || self.lines.is_blank(at - 1)
            }
        })
    }

    /// A paragraph outside fences: prose at the margin, outside strings and comments, is the instruction. Returns its end.
    fn paragraph(&mut self, at: usize, end: usize, kinds: &mut Vec<Kind>) -> usize {
        let lines = self.lines;
        let paragraph = paragraph(lines, at..end);
        let marked = marker(lines.trimmed(paragraph.start)).is_some();
        let prose = marked || (!self.quoted.is_open() && is_prose_paragraph(lines, &paragraph));
        for line in paragraph.clone() {
            if prose {
                self.quoted.read(lines.trimmed(line), lines.indent(line), lines.marks(line));
                kinds.push(Kind::Prose);
                self.code = 0;
            } else {
                let kind = code_kind(lines, line, &mut self.quoted);
                kinds.push(kind);
                self.code = if kind == Kind::Header { 0 } else { self.code + usize::from(!lines.is_blank(line)) };
            }
        }
        paragraph.end
    }
}

/// Sentences in the middle of code are mostly text of the program. They count only when no marker and nothing at either
/// end, or beside a fence, speaks for itself. Where a marker ends the prompt, fences are no such place. Says whether any does.
fn demote_middle(lines: &Lines<'_>, kinds: &mut [Kind], marked: bool) -> bool {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for at in (0..kinds.len()).filter(|at| kinds[*at] == Kind::Prose) {
        match runs.last_mut() {
            Some(run) if run.end == at && marker(lines.trimmed(at)).is_none() => run.end = at + 1,
            _ => runs.push(at..at + 1),
        }
    }
    let is_edge = |next: Option<usize>| next.is_none_or(|at| kinds[at] == Kind::Fence && !marked);
    let filled = |at: &usize| !lines.is_blank(*at);
    let trusted = |run: &Range<usize>| {
        marker(lines.trimmed(run.start)).is_some()
            || is_edge((0..run.start).rev().find(filled))
            || is_edge((run.end..kinds.len()).find(filled))
    };
    let (kept, doubtful): (Vec<_>, Vec<_>) = runs.into_iter().partition(trusted);
    if !kept.is_empty() {
        doubtful.into_iter().for_each(|run| kinds[run].fill(Kind::Code));
    }
    !kept.is_empty()
}

/// A `TODO:` in mid-code is a note to its author; one in the last lines, with nothing else to go by, is the instruction.
fn trailing_todo(lines: &Lines<'_>, kinds: &mut [Kind]) {
    const LINES: usize = 12;
    let last = lines.len().saturating_sub(LINES)..lines.len();
    let marked = |at: &usize| {
        let line = lines.trimmed(*at).trim_start_matches(['#', '/', '*', '-', ' ']);
        line.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("TODO:")) && kinds[*at] == Kind::Code
    };
    if let Some(first) = last.rev().find(marked) {
        kinds[first..].iter_mut().filter(|kind| **kind != Kind::Fence).for_each(|kind| *kind = Kind::Prose);
    }
}

fn code_kind(lines: &Lines<'_>, at: usize, quoted: &mut Quoted) -> Kind {
    let inside = quoted.read(lines.trimmed(at), lines.indent(at), lines.marks(at));
    // Every path has a dot, and hardly any line of code has a dot and none of these. A path deep in a block, or in a
    // string, is nobody's heading; one at the margin heads a file even if a string before it was never closed.
    let marks = lines.marks(at);
    let maybe = marks.any(Marks::DOT) && !marks.any(Marks::BRACE.and(Marks::SEPARATOR)) && lines.indent(at) == 0;
    let stands_alone = !inside || at == 0 || lines.is_blank(at - 1);
    if maybe && stands_alone && !goes_on(lines, at) && language::path_line(lines.trimmed(at)).is_some() {
        *quoted = Quoted::new(None);
        Kind::Header
    } else {
        Kind::Code
    }
}

/// A path in the middle of a comment is its file's own, not a heading.
fn goes_on(lines: &Lines<'_>, at: usize) -> bool {
    let comment = |at: usize| ["#", "//", "--", "*"].into_iter().find(|mark| lines.trimmed(at).starts_with(*mark));
    at > 0 && comment(at).is_some() && comment(at) == comment(at - 1) && !lines.trimmed(at - 1).starts_with("#!")
}

/// A line that opens or closes a block.
#[derive(Clone, Copy, Default)]
struct Fence {
    mark: u8,
    length: usize,
    tagged: bool,
    /// May as well be the line under a heading.
    underlines: bool,
}

impl Fence {
    fn of(line: &str) -> Option<Self> {
        let mark = line.bytes().next().filter(|byte| matches!(byte, b'`' | b'~'))?;
        let tag = line.trim_start_matches(char::from(mark));
        let length = line.len() - tag.len();
        // "```code``` in a sentence" opens nothing.
        let fence = Self { mark, length, tagged: !tag.is_empty(), underlines: mark == b'~' && tag.is_empty() };
        (length >= 3 && !tag.contains('`')).then_some(fence)
    }

    /// Whether it can end what `outer` began, or stand in it as a pair.
    fn may_close(self, outer: Self) -> bool {
        self.mark == outer.mark && self.length >= outer.length
    }
}

/// Lines up to the next blank one, with the blank ones that follow.
fn paragraph(lines: &Lines<'_>, range: Range<usize>) -> Range<usize> {
    let mut end = range.start;
    while end < range.end
        && !lines.is_blank(end)
        && (end == range.start || Fence::of(lines.trimmed(end)).is_none_or(|fence| fence.underlines))
    {
        end += 1;
    }
    while end < range.end && lines.is_blank(end) {
        end += 1;
    }
    range.start..end
}

fn is_prose_paragraph(lines: &Lines<'_>, paragraph: &Range<usize>) -> bool {
    let first = lines.trimmed(paragraph.start);
    let traced = prose::is_trace(first);
    if lines.indent(paragraph.start) >= 4 || !(traced || prose::is_prose(first)) {
        return false;
    }
    let filled = paragraph.clone().filter(|at| !lines.is_blank(*at));
    let (mut sentences, mut all) = (0, 0);
    for at in filled {
        let line = lines.trimmed(at);
        all += 1;
        sentences += usize::from(prose::is_prose(line));
    }
    all > 0 && (traced || sentences * 3 >= all * 2)
}

/// The instruction markers, in any case and after any comment leader.
pub(super) fn marker(line: &str) -> Option<&'static str> {
    const MARKERS: [&str; 3] = ["INSTRUCTION:", "REFACTOR:", "TASK:"];
    let bare = line.trim_start_matches(['#', '/', '*', '-', ';', '<', '!', '%', ' ', '"']);
    let starts = |marker: &&str| bare.get(..marker.len()).is_some_and(|start| start.eq_ignore_ascii_case(marker));
    MARKERS.into_iter().find(starts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Estimate;

    fn prose(text: &str) -> Vec<String> {
        let lines = Lines::new(text, &Estimate);
        let kinds = kinds(&lines);
        (0..lines.len())
            .filter(|at| kinds[*at] == Kind::Prose && !lines.is_blank(*at))
            .map(|at| lines.trimmed(at).to_owned())
            .collect()
    }

    #[test]
    fn a_marker_at_the_end_outranks_what_looks_like_prose_or_fences() {
        let code = "fn a() {}\n".repeat(10);
        let text =
            format!("{code}\n* `pool` provides a way to reuse memory.\n\n```\nx\n\n{code}\n# TASK: make it faster\n");
        assert_eq!(prose(&text), ["# TASK: make it faster"]);
    }

    #[test]
    fn fences_in_comments_end_no_block() {
        let code = "fn a() {}\n".repeat(10);
        let text = format!(
            "Make this faster please.\n\n```rust\n{code}```\n{code}\nThis is how it is used.\n\n```\n{code}```\n"
        );
        assert_eq!(prose(&text), ["Make this faster please."]);
    }

    #[test]
    fn blocks_with_sentences_between_them() {
        let text =
            "Merge these two.\n\n```rust\nfn a() {}\n```\n\nAnd this is the second one:\n\n```rust\nfn b() {}\n```\n";
        assert_eq!(prose(text), ["Merge these two.", "And this is the second one:"]);
    }

    #[test]
    fn a_line_under_a_heading_is_no_fence() {
        let code = "def a():\n    pass\n".repeat(10);
        let text =
            format!("```python\n\"\"\"\nThe module\n~~~~~~~~~~\n\"\"\"\n{code}```\n\nMake this faster, please.\n");
        assert_eq!(prose(&text), ["Make this faster, please."]);
        let text = format!("\"\"\"\nThe module\n~~~~~~~~~~\n\"\"\"\n{code}\n# INSTRUCTION: make this faster\n");
        assert_eq!(prose(&text), ["# INSTRUCTION: make this faster"]);
        let text = format!("Make this faster, please.\n\n````\n{code}```\nThis is an example of it.\n```\n````\n");
        assert_eq!(prose(&text), ["Make this faster, please."]);
    }

    #[test]
    fn an_odd_fence_within_does_not_swallow_the_question() {
        let code = "fn a() {}\n".repeat(10);
        let text = format!("```rust\n/*!\nUse it:\n\n```text\nx\n\n{code}```\n\nMake this faster, please.\n");
        assert_eq!(prose(&text), ["Make this faster, please."]);
    }

    #[test]
    fn a_path_within_a_comment_heads_no_file() {
        let text = "# src/a.py\n#\n# old/place/a.py\n#\nx = 1\n\n# src/b.py\ny = 2\n";
        let lines = Lines::new(text, &Estimate);
        assert_eq!(divide(&lines, None).files, ["src/a.py", "src/b.py"]);
    }

    #[test]
    fn an_instruction_in_the_middle_of_a_string() {
        let text = "class A:\n    def a(self):\n        \"\"\"Loads it.\n\nRefactor load, please.\n\n        Twice.\n        \"\"\"\n";
        assert_eq!(prose(text), ["Refactor load, please."]);
    }

    #[test]
    fn what_asks_goes_before_what_only_tells() {
        let text = "import os\n\npulldom -- a builder for selected\n   parts of the document.\n\n\"\"\"\n\nclass A:\n    \"\"\"Loads\n    it.\n\n\
                    Refactor load, please.\n\n    Twice.\n    \"\"\"\n    x = 1\n";
        assert_eq!(prose(text), ["Refactor load, please."]);
    }
}
