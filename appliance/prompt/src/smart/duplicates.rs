//! Finds copies: whole units, and runs of lines that stood earlier in the prompt. Exact up to white space around lines,
//! and in Python up to one constant change of indentation. Edited copies are not copies.

use std::ops::Range;

use super::lines::Lines;
use super::table::{Entry, Table};
use super::units::{Role, Unit};

/// A run of copied lines goes only when it is at least this long ...
const RUN_LINES: usize = 10;
/// ... and this heavy; shorter ones are everybody's boilerplate.
const RUN_TOKENS: usize = 80;
/// A unit goes whole from this weight on.
const UNIT_TOKENS: usize = 12;
/// Lines left standing at the edge of a run that ends inside a definition.
const CONTEXT_LINES: usize = 2;

/// What is copied.
pub(super) struct Copies {
    /// Per line: a copy of an earlier one that stays.
    pub(super) lines: Vec<bool>,
    /// Per unit: nothing of it is left.
    pub(super) units: Vec<bool>,
    /// Lines compared, for tests: never more than a small multiple of the lines there are.
    pub(super) work: usize,
}

/// Finds all copies. Lines of units in `whole` go only when the entire unit is a copy.
pub(super) fn find(lines: &Lines<'_>, units: &[Unit<'_>], whole: &[usize]) -> Copies {
    let mut copies = Copies { lines: vec![false; lines.len()], units: vec![false; units.len()], work: 0 };
    copies.whole_units(lines, units);
    copies.runs(lines, units, whole);
    for (gone, unit) in copies.units.iter_mut().zip(units) {
        let filled = |at: &usize| !lines.is_blank(*at);
        let mut own = unit.lines.clone().filter(filled).peekable();
        *gone |= own.peek().is_some() && own.all(|at| copies.lines[at]);
    }
    copies
}

impl Copies {
    fn whole_units(&mut self, lines: &Lines<'_>, units: &[Unit<'_>]) {
        let mut first = Table::with_capacity(units.len() / 2);
        for (number, unit) in units.iter().enumerate() {
            let chosen =
                matches!(unit.role, Role::Definition | Role::Piece) && lines.tokens(&unit.lines) >= UNIT_TOKENS;
            if !chosen {
                continue;
            }
            let hash = unit.lines.clone().fold(0u64, |sum, at| mix(sum, u64::from(lines.hash(at))));
            self.work += unit.lines.len();
            let Entry::Found(earlier) = first.entry(short(hash), number as u32, |_| true) else { continue };
            let earlier = earlier as usize;
            let (one, two) = (filled(lines, &units[earlier].lines), filled(lines, &unit.lines));
            self.work += one.len();
            if same(lines, &one, &two) {
                self.units[number] = true;
                self.lines[unit.lines.clone()].fill(true);
            }
        }
    }

    fn runs(&mut self, lines: &Lines<'_>, units: &[Unit<'_>], whole: &[usize]) {
        let code = code_lines(lines, units, &self.lines);
        let mut first = Table::with_capacity(code.len());
        let windows = windows(lines, &code);
        let mut at = 0;
        let mut gone_until = 0;
        while at < windows.len() {
            self.work += 1;
            let earlier = first.find(windows[at], |_| true).map(|earlier| earlier as usize);
            let length = earlier.map_or(0, |earlier| self.common(lines, &code, earlier, at));
            let run = &code[at..at + length];
            let heavy = length >= RUN_LINES && weight(lines, run) >= RUN_TOKENS;
            if heavy && self.drop_run(&code, units, whole, run) {
                at += length;
                gone_until = at;
                continue;
            }
            if length > RUN_LINES {
                // What could not go as a whole cannot go in part: looking at it again line by line would cost its square.
                at += length - RUN_LINES;
                continue;
            }
            // A window that shares lines with a dropped run must not vouch for others.
            if at >= gone_until && earlier.is_none() {
                first.entry(windows[at], at as u32, |_| true);
            }
            at += 1;
        }
    }

    /// How many lines from `at` on repeat those from `earlier` on, without running into each other.
    fn common(&mut self, lines: &Lines<'_>, code: &[u32], earlier: usize, at: usize) -> usize {
        let shift = shift(lines, code[earlier] as usize, code[at] as usize);
        let limit = (at - earlier).min(code.len() - at);
        let equal = |offset: &usize| {
            let (one, two) = (code[earlier + offset] as usize, code[at + offset] as usize);
            lines.hash(one) == lines.hash(two)
                && lines.trimmed(one) == lines.trimmed(two)
                && shift == self::shift(lines, one, two)
        };
        let length = (0..limit).take_while(equal).count();
        self.work += length;
        length
    }

    /// Marks a run as copied, but for what must stay of units that it only touches. Says whether anything was marked.
    fn drop_run(&mut self, code: &[u32], units: &[Unit<'_>], whole: &[usize], run: &[u32]) -> bool {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return false };
        let from = units.partition_point(|unit| unit.lines.end <= *first as usize);
        let touched = units.iter().enumerate().skip(from).take_while(|(_, unit)| unit.lines.start <= *last as usize);
        let mut any = false;
        for (number, unit) in touched {
            let own = part(code, &unit.lines).len();
            let covered = part(run, &unit.lines);
            let inside = covered.len() == own;
            let kept = if inside { 0 } else { CONTEXT_LINES };
            if (!inside && (whole.contains(&number) || covered.len() < RUN_LINES + 2 * CONTEXT_LINES))
                || covered.is_empty()
            {
                continue;
            }
            for at in &covered[kept..covered.len() - kept] {
                self.lines[*at as usize] = true;
                any = true;
            }
        }
        any
    }
}

/// Of line numbers in order, those within a range.
fn part<'c>(code: &'c [u32], lines: &Range<usize>) -> &'c [u32] {
    let at = |line: usize| code.partition_point(|code| (*code as usize) < line);
    &code[at(lines.start)..at(lines.end)]
}

fn mix(sum: u64, hash: u64) -> u64 {
    if hash == 0 { sum } else { (sum.rotate_left(5) ^ hash).wrapping_mul(0x9e37_79b9_7f4a_7c15) }
}

/// The upper half, where a product's bits are mixed best.
fn short(hash: u64) -> u32 {
    (hash >> 32) as u32
}

fn filled(lines: &Lines<'_>, range: &Range<usize>) -> Vec<usize> {
    range.clone().filter(|at| !lines.is_blank(*at)).collect()
}

/// The same lines, indented alike or by one constant difference.
fn same(lines: &Lines<'_>, one: &[usize], two: &[usize]) -> bool {
    let Some((first, second)) = one.first().zip(two.first()) else { return false };
    let shift = shift(lines, *first, *second);
    let equal =
        |(a, b): (&usize, &usize)| lines.trimmed(*a) == lines.trimmed(*b) && self::shift(lines, *a, *b) == shift;
    one.len() == two.len() && one.iter().zip(two).all(equal)
}

fn shift(lines: &Lines<'_>, one: usize, two: usize) -> i64 {
    i64::from(lines.indent(two)) - i64::from(lines.indent(one))
}

fn code_lines(lines: &Lines<'_>, units: &[Unit<'_>], gone: &[bool]) -> Vec<u32> {
    units
        .iter()
        .filter(|unit| !matches!(unit.role, Role::Fixed | Role::Header))
        .flat_map(|unit| unit.lines.clone())
        .filter(|at| !gone[*at] && !lines.is_blank(*at))
        .map(|at| at as u32)
        .collect()
}

/// The fingerprint of every [`RUN_LINES`] lines, rolled on from line to line.
fn windows(lines: &Lines<'_>, code: &[u32]) -> Vec<u32> {
    const BASE: u64 = 0x9e37_79b9_7f4a_7c15;
    let top = (0..RUN_LINES).fold(1u64, |power, _| power.wrapping_mul(BASE));
    let mut windows = Vec::with_capacity(code.len());
    let mut rolled = 0u64;
    for (number, at) in code.iter().enumerate() {
        rolled = rolled.wrapping_mul(BASE).wrapping_add(u64::from(lines.hash(*at as usize)));
        if number >= RUN_LINES {
            rolled = rolled.wrapping_sub(u64::from(lines.hash(code[number - RUN_LINES] as usize)).wrapping_mul(top));
        }
        if number + 1 >= RUN_LINES {
            windows.push(short(rolled));
        }
    }
    windows
}

fn weight(lines: &Lines<'_>, run: &[u32]) -> usize {
    run.iter().map(|at| lines.tokens(&(*at as usize..*at as usize + 1))).sum()
}
