//! Puts the kept lines together in source order, with a comment wherever some are missing.

use std::ops::Range;

use super::lines::Lines;
use super::select::State;
use super::units::{Role, Unit};

/// How every omission comment ends, before any names.
const OMITTED: &str = " omitted";
/// Names that a comment lists.
const NAMES: usize = 3;

/// Whether a trimmed line is an omission comment: a prompt that has one was prepared before.
pub(super) fn is_marker(line: &str) -> bool {
    let rest = line.trim_start_matches(['/', '#', '-']).strip_prefix(" .. ");
    rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains(OMITTED))
}

/// Writes the context that a session begins with: everything but sentences and fences.
pub(super) fn context(lines: &Lines<'_>, units: &[Unit<'_>], states: &[State], gone: &[bool]) -> String {
    let code = units.iter().zip(states).filter(|(unit, _)| unit.role != Role::Fixed);
    put_together(lines, code, gone, true)
}

/// Writes what is kept of `units`; `gone` are lines that are copies of others. With `names`, comments list what is missing.
pub(super) fn assemble(lines: &Lines<'_>, units: &[Unit<'_>], states: &[State], gone: &[bool], names: bool) -> String {
    put_together(lines, units.iter().zip(states), gone, names)
}

fn put_together<'u, 'a: 'u>(
    lines: &Lines<'a>,
    units: impl Iterator<Item = (&'u Unit<'a>, &'u State)>,
    gone: &[bool],
    names: bool,
) -> String {
    let mut writer = Writer { lines, out: String::new(), missing: Missing::default() };
    for (unit, state) in units {
        match state {
            State::Whole => writer.unit(unit, &unit.lines, gone),
            State::Bare => {
                let comments = unit.lines.start..unit.signature.start;
                writer.missing.skip(filled(lines, &comments), lines.indent(unit.signature.start), unit, "");
                writer.unit(unit, &(unit.signature.start..unit.lines.end), gone);
            }
            State::Signature => {
                writer.missing.skip(unit.signature.start - unit.lines.start, 0, unit, "");
                writer.unit(unit, &unit.signature, &[]);
                writer.missing.skip(
                    filled(lines, &(unit.signature.end..unit.lines.end)),
                    lines.indent(unit.signature.start),
                    unit,
                    "",
                );
            }
            State::Dropped => {
                let name = if names && matches!(unit.role, Role::Definition | Role::Opening) { unit.name } else { "" };
                let first = unit.lines.clone().find(|at| !lines.is_blank(*at)).unwrap_or(unit.lines.start);
                writer.missing.skip(filled(lines, &unit.lines), lines.indent(first), unit, name);
            }
        }
    }
    writer.flush();
    writer.out
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
        if missing.more > 0 {
            self.out.push_str(&format!(" and {} more", missing.more));
        }
        self.out.push('\n');
    }
}
