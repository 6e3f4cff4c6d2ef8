//! Where definitions begin and end: comments and decorators before them, headers of several lines, blocks, closing lines.

use super::Scanner;
use crate::language::Language;
use crate::smart::headers::Shape;

/// Lines a header may go on for.
const HEADER_LINES: usize = 24;

impl Scanner<'_, '_> {
    /// Where a function of Python really ends. Nobody leaves two blank lines within one, and nothing is indented more deeply
    /// after a blank line unless a block was opened: what follows then was put there from elsewhere.
    pub(super) fn definition_end(&self, at: usize, end: usize, shape: Shape) -> usize {
        if self.zone.language != Some(Language::Python) || shape != Shape::Leaf {
            return end;
        }
        let blank = |at: usize| self.lines.is_blank(at) && !self.quoted(at);
        let opens = |at: usize| self.quoted(at) || self.lines.trimmed(at).ends_with([':', '(', '[', '{', ',', '\\']);
        let foreign = |at: usize| {
            blank(at + 1)
                || (!self.goes_on
                    && !self.quoted(at + 1)
                    && self.lines.indent(at + 1) > self.lines.indent(at - 1) + 1
                    && !opens(at - 1))
        };
        (at + 1..end.saturating_sub(1)).find(|at| blank(*at) && foreign(*at)).unwrap_or(end)
    }

    /// A class's opening takes the blank lines after its header, and its documentation when that is short.
    pub(super) fn opening_end(&self, from: usize, end: usize) -> usize {
        let mut at = self.brace_end(from, end);
        while at < end && (self.lines.is_blank(at) || self.lines.trimmed(at) == "{") {
            at += 1;
        }
        if at < end && self.lines.trimmed(at).starts_with("\"\"\"") {
            let close = (at + 1..end).find(|line| !self.quoted(*line)).unwrap_or(end);
            if close - at <= 12 {
                at = close;
            }
        }
        at
    }

    /// `where` clauses and base classes stand between a header and its brace.
    pub(super) fn brace_end(&self, from: usize, end: usize) -> usize {
        let braced = |at: &usize| self.lines.trimmed(*at).ends_with('{');
        let ends = |at: &usize| braced(at) || self.lines.trimmed(*at).ends_with([';', '}']) || self.lines.is_blank(*at);
        if self.zone.language == Some(Language::Python) || braced(&(from - 1)) {
            return from;
        }
        let brace = (from..end.min(from + HEADER_LINES)).find(ends).filter(braced);
        brace.map_or(from, |at| at + 1)
    }

    /// Where the lines begin that close a class.
    pub(super) fn closing(&self, from: usize, end: usize) -> usize {
        let last = (from..end).rev().find(|at| !self.lines.is_blank(*at)).unwrap_or(end);
        if last < end && self.lines.trimmed(last).starts_with(['}', ')', ']']) { last } else { end }
    }

    /// The line after a header: it goes on while parentheses are open.
    pub(super) fn signature_end(&self, at: usize, end: usize, shape: Shape) -> usize {
        let mut depth = 0i32;
        for next in at..end.min(at + HEADER_LINES) {
            let line = self.lines.trimmed(next);
            for byte in line.bytes() {
                match byte {
                    b'(' | b'[' => depth += 1,
                    b'{' if shape == Shape::Import => depth += 1,
                    b')' | b']' => depth -= 1,
                    b'}' if shape == Shape::Import => depth -= 1,
                    _ => {}
                }
            }
            // Parameters of types, one a line, stand between `<` and `>(`.
            let typed = line.ends_with('<') && !line.ends_with("<<");
            if depth <= 0 && !typed && !line.ends_with(['\\', ',']) {
                return next + 1;
            }
        }
        at + 1
    }

    /// Where a block ends whose header is `at..body`: at the next line that is indented no deeper, with the lines that
    /// close it.
    pub(super) fn block_end(&self, at: usize, body: usize, end: usize) -> usize {
        let indent = self.lines.indent(at);
        let first = body.min(end).max(at + 1);
        let (mut last, mut opened) = (first, self.lines.trimmed(first - 1).ends_with('{'));
        for next in first..end {
            if self.lines.is_blank(next) {
                continue;
            }
            let line = self.lines.trimmed(next);
            if self.quoted(next) || self.lines.indent(next) > indent {
                last = next + 1;
                continue;
            }
            if line.starts_with(['}', ')', ']']) {
                // "} else {" and "} catch (e) {" go on.
                if !line.ends_with(['{', '(', '[']) {
                    return next + 1;
                }
            } else if !(if opened { self.goes_on(line) } else { line.starts_with('{') || line.starts_with("where") }) {
                return last;
            }
            opened |= line.ends_with('{');
            last = next + 1;
        }
        last
    }

    /// Lines at the margin that end no block whose brace is open: preprocessor lines, labels, comments.
    fn goes_on(&self, line: &str) -> bool {
        let braces = !matches!(self.zone.language, Some(Language::Python | Language::Shell | Language::Yaml));
        let label = line.ends_with(':') && !line.contains(['(', ' ']);
        let directive = line.starts_with("#if") || line.starts_with("#e") || line.starts_with("# ");
        braces && (label || directive || line.starts_with("//"))
    }

    /// Where a definition begins with the comments, decorators and attributes before it.
    pub(super) fn attached(&self, at: usize, floor: usize) -> usize {
        let indent = self.lines.indent(at);
        let mut start = at;
        while start > floor && self.belongs(start - 1, indent) {
            start -= 1;
        }
        start
    }

    fn belongs(&self, at: usize, indent: u32) -> bool {
        let line = self.lines.trimmed(at);
        let decorated = line.starts_with(['@', '#', '*', '['])
            || line.starts_with("//")
            || line.starts_with("/*")
            || line.ends_with("*/")
            || (line.starts_with("template") && line.ends_with('>'))
            || (line.starts_with("__attribute__") && line.ends_with(')'));
        let returned = self.return_type(line);
        !self.lines.is_blank(at)
            && (self.quoted(at) || ((decorated || returned) && self.lines.indent(at).abs_diff(indent) <= 1))
            && !line.starts_with("#include")
            && !line.starts_with("#endif")
            && !line.starts_with("#!")
    }

    /// A C return type on a line of its own.
    fn return_type(&self, line: &str) -> bool {
        matches!(self.zone.language, Some(Language::C | Language::Cpp))
            && line.len() < 60
            && !line.contains([';', '{', '}', '(', ')', '=', ':'])
            && line.starts_with(char::is_alphabetic)
    }
}
