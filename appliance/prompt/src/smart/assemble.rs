//! Puts the kept lines together in source order, with a comment wherever some are missing.

use std::ops::Range;

use super::bare;
use super::lines::Lines;
use super::near::Near;
use super::select::State;
use super::units::{Role, Unit};

/// How every omission comment ends, before any names.
const OMITTED: &str = " omitted";
/// Names that a comment lists.
const NAMES: usize = 3;

/// Whether a trimmed line is an omission comment: a prompt that has one was prepared before.
pub(super) fn is_marker(line: &str) -> bool {
    if !line.starts_with(['/', '#', '-']) {
        return false;
    }
    let rest = line.trim_start_matches(['/', '#', '-']).strip_prefix(" .. ");
    rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains(OMITTED))
}

/// What is to be written.
pub(super) struct Selection<'s, 'a> {
    pub(super) lines: &'s Lines<'a>,
    pub(super) units: &'s [Unit<'a>],
    pub(super) states: &'s [State],
    /// Lines that are copies of others.
    pub(super) gone: &'s [bool],
    /// Per unit: the edited copy that it is. Empty where none is sent as its changes.
    pub(super) near: &'s [Option<Near>],
    /// Whether comments list what is missing.
    pub(super) names: bool,
}

impl<'a> Selection<'_, 'a> {
    /// Writes the context that a session begins with: everything but sentences and fences.
    pub(super) fn context(&self) -> String {
        self.write(|unit| unit.role != Role::Fixed)
    }

    /// Writes all that is kept.
    pub(super) fn assemble(&self) -> String {
        self.write(|_| true)
    }

    fn write(&self, counts: impl Fn(&Unit<'a>) -> bool) -> String {
        let mut writer = Writer { lines: self.lines, out: String::new(), missing: Missing::default() };
        for number in (0..self.units.len()).filter(|number| counts(&self.units[*number])) {
            self.unit(number, &mut writer);
        }
        writer.flush();
        writer.out
    }

    fn unit(&self, number: usize, writer: &mut Writer<'a, '_>) {
        let (lines, unit) = (self.lines, &self.units[number]);
        let indent = lines.indent(unit.signature.start.min(lines.len() - 1));
        match self.states[number] {
            State::Whole => writer.unit(unit, &unit.lines, self.gone),
            State::Bare => {
                let mut at = unit.lines.start;
                for range in bare::code(lines, unit).into_iter().filter(|range| !range.is_empty()) {
                    writer.missing.skip(filled(lines, &(at..range.start)), lines.indent(range.start), unit, "");
                    writer.unit(unit, &range, self.gone);
                    at = range.end;
                }
            }
            State::Changes => self.changes(number, writer),
            State::Signature => {
                writer.missing.skip(unit.signature.start - unit.lines.start, 0, unit, "");
                writer.unit(unit, &unit.signature, &[]);
                writer.missing.skip(filled(lines, &(unit.signature.end..unit.lines.end)), indent, unit, "");
            }
            State::Dropped => {
                let listed = self.names && matches!(unit.role, Role::Definition | Role::Opening);
                let first = unit.lines.clone().find(|at| !lines.is_blank(*at)).unwrap_or(unit.lines.start);
                let name = if listed { unit.name } else { "" };
                writer.missing.skip(filled(lines, &unit.lines), lines.indent(first), unit, name);
            }
        }
    }

    /// Writes what differs from an edited copy. The comments between say where the rest stands.
    fn changes(&self, number: usize, writer: &mut Writer<'a, '_>) {
        let unit = &self.units[number];
        let Some(Some(near)) = self.near.get(number) else { return writer.unit(unit, &unit.lines, &[]) };
        // What was left out before this belongs to a comment of its own.
        writer.flush();
        let mut at = unit.lines.start;
        for range in &near.lines {
            self.same(unit, near, at..range.start, writer);
            writer.unit(unit, range, &[]);
            at = range.end;
        }
        self.same(unit, near, at..unit.lines.end, writer);
        writer.flush();
    }

    fn same(&self, unit: &Unit<'a>, near: &Near, range: Range<usize>, writer: &mut Writer<'a, '_>) {
        let indent = range.clone().find(|at| !self.lines.is_blank(*at)).map_or(0, |at| self.lines.indent(at));
        writer.missing.skip(filled(self.lines, &range), indent, unit, "");
        writer.missing.same_as = self.units[near.other].name;
    }
}

fn filled(lines: &Lines<'_>, range: &Range<usize>) -> usize {
    range.clone().filter(|at| !lines.is_blank(*at)).count()
}

/// Lines left out since the last one that was written.
#[derive(Default)]
struct Missing<'a> {
    lines: usize,
    indent: usize,
    leader: &'static str,
    names: Vec<&'a str>,
    more: usize,
    /// The definition that has the same lines, or "".
    same_as: &'a str,
}

impl<'a> Missing<'a> {
    fn skip(&mut self, lines: usize, indent: u32, unit: &Unit<'a>, name: &'a str) {
        if lines == 0 {
            return;
        }
        if self.lines == 0 {
            self.indent = indent as usize;
            self.leader = unit.language.map_or("//", crate::Language::line_comment);
        }
        self.lines += lines;
        if !name.is_empty() && self.names.len() < NAMES {
            self.names.push(name);
        } else if !name.is_empty() {
            self.more += 1;
        }
    }
}

struct Writer<'a, 'l> {
    lines: &'l Lines<'a>,
    out: String,
    missing: Missing<'a>,
}

impl<'a> Writer<'a, '_> {
    fn unit(&mut self, unit: &Unit<'a>, range: &Range<usize>, gone: &[bool]) {
        for at in range.clone() {
            if gone.get(at).copied().unwrap_or_default() && unit.role != Role::Fixed {
                self.missing.skip(usize::from(!self.lines.is_blank(at)), self.lines.indent(at), unit, "");
            } else if !self.lines.is_blank(at)
                || (self.missing.lines == 0 && !self.out.ends_with("\n\n"))
                || unit.role == Role::Fixed
            {
                self.flush();
                self.out.push_str(self.lines.slice(&(at..at + 1)));
            }
        }
    }

    fn flush(&mut self) {
        let missing = std::mem::take(&mut self.missing);
        if missing.lines == 0 {
            return;
        }
        if !self.out.is_empty() && !self.out.ends_with('\n') {
            self.out.push('\n');
        }
        self.out.extend(std::iter::repeat_n(' ', missing.indent.min(40)));
        self.out.push_str(missing.leader);
        let plural = if missing.lines == 1 { "" } else { "s" };
        self.out.push_str(&format!(" .. {} line{plural}{OMITTED}", missing.lines));
        for (number, name) in missing.names.iter().enumerate() {
            self.out.push_str(if number == 0 { ": " } else { ", " });
            self.out.push_str(name);
        }
        if !missing.same_as.is_empty() {
            self.out.push_str(", the same as in the other ");
            self.out.push_str(missing.same_as);
        }
        if missing.more > 0 {
            self.out.push_str(&format!(" and {} more", missing.more));
        }
        self.out.push('\n');
    }
}
