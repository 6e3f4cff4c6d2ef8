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
    /// Per line that is a copy: the line that stays in its place, or another copy of that.
    stays: Vec<u32>,
    /// The lines on both sides of every run that counts, whatever became of it.
    pub(super) runs: Vec<[Range<usize>; 2]>,
    /// Lines compared, for tests: never more than a small multiple of the lines there are.
    pub(super) work: usize,
}

/// Finds all copies. Lines of units in `whole` go only when the entire unit is a copy.
pub(super) fn find(lines: &Lines<'_>, units: &[Unit<'_>], whole: &[usize]) -> Copies {
    let mut copies = Copies {
        lines: vec![false; lines.len()],
        units: vec![false; units.len()],
        stays: (0..lines.len() as u32).collect(),
        runs: Vec::new(),
        work: 0,
    };
    copies.whole_units(lines, units, whole);
    copies.runs(lines, units, whole);
    copies.judge(lines, units);
    copies
}

impl Copies {
    /// Finds out anew which units are nothing but copies.
    pub(super) fn judge(&mut self, lines: &Lines<'_>, units: &[Unit<'_>]) {
        let gone = |unit: &Unit<'_>| {
            let mut own = unit.lines.clone().filter(|at| !lines.is_blank(*at)).peekable();
            own.peek().is_some() && own.all(|at| self.lines[at])
        };
        self.units = units.iter().map(gone).collect();
    }

    fn whole_units(&mut self, lines: &Lines<'_>, units: &[Unit<'_>], whole: &[usize]) {
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
            let (mut one, mut two) = (filled(lines, &units[earlier].lines), filled(lines, &unit.lines));
            self.work += one.len();
            if same(lines, &one, &two) && !self.units[earlier] {
                let mut goes = number;
                // What is asked for stays, unless the other is asked for as well.
                if whole.contains(&number) && !whole.contains(&earlier) {
                    goes = earlier;
                    std::mem::swap(&mut one, &mut two);
                }
                self.units[goes] = true;
                one.iter().zip(&two).for_each(|(stays, goes)| self.drop_line(*goes, *stays));
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
            let heavy = length >= RUN_LINES && weight(lines, &code[at..at + length]) >= RUN_TOKENS;
            let run = Run { code: &code, units, whole, earlier: earlier.unwrap_or_default(), later: at, length };
            if heavy {
                let side = |start: usize| code[start] as usize..code[start + length - 1] as usize + 1;
                self.runs.push([side(run.earlier), side(run.later)]);
            }
            if heavy && self.drop_run(&run) {
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

    /// Drops one side of a run, unit by unit. Says whether anything was dropped.
    fn drop_run(&mut self, run: &Run<'_, '_>) -> bool {
        let mut any = false;
        let mut offset = 0;
        while offset < run.length {
            let (later, earlier) = (run.side(run.later, offset), run.side(run.earlier, offset));
            let length = later.left.min(earlier.left).min(run.length - offset);
            let (goes, stays, skipped) = match choose(run, &later, &earlier, length) {
                Goes::Later(skipped) => (run.later, run.earlier, skipped),
                Goes::Earlier => (run.earlier, run.later, 0),
                Goes::Neither => (0, 0, length),
            };
            for at in offset + skipped..(offset + length).saturating_sub(skipped) {
                any |= !self.lines[run.code[goes + at] as usize];
                self.drop_line(run.code[goes + at] as usize, run.code[stays + at] as usize);
            }
            offset += length;
        }
        any
    }

    fn drop_line(&mut self, goes: usize, stays: usize) {
        self.lines[goes] = true;
        self.stays[goes] = stays as u32;
    }

    /// The line that stays in place of one that is a copy.
    pub(super) fn original(&self, at: usize) -> usize {
        /// A copy of a copy of a copy is as far as it goes.
        const STEPS: usize = 4;
        (0..STEPS).fold(at, |at, _| if self.lines[at] { self.stays[at] as usize } else { at })
    }
}

/// Lines that stand twice.
struct Run<'r, 'a> {
    /// Numbers of the lines that are looked at.
    code: &'r [u32],
    units: &'r [Unit<'a>],
    /// Units that stay whole unless all of them stands elsewhere.
    whole: &'r [usize],
    /// Where in `code` the two sides begin.
    earlier: usize,
    later: usize,
    length: usize,
}

/// One side of a part of a run: the unit it is in.
struct Side {
    unit: usize,
    /// Lines of the unit, and those from here on.
    own: usize,
    left: usize,
}

impl Run<'_, '_> {
    fn side(&self, start: usize, offset: usize) -> Side {
        let line = self.code[start + offset] as usize;
        let unit = self.units.partition_point(|unit| unit.lines.end <= line);
        let own = part(self.code, &self.units[unit].lines);
        let left = own.len() - own.partition_point(|at| (*at as usize) < line);
        Side { unit, own: own.len(), left }
    }
}

/// Which side of a run goes.
enum Goes {
    /// The second, but for so many lines at either end.
    Later(usize),
    Earlier,
    Neither,
}

/// A unit that stands whole on one side stays there; what goes is the stretch that was put somewhere.
fn choose(run: &Run<'_, '_>, later: &Side, earlier: &Side, length: usize) -> Goes {
    let (second, first) = (&run.units[later.unit], &run.units[earlier.unit]);
    let namesakes = second.name == first.name;
    let is_kept = |side: &Side| run.whole.contains(&side.unit);
    let stands = |unit: &Unit<'_>| unit.role == Role::Definition && !unit.name.is_empty();
    match (length == later.own, length == earlier.own) {
        // What is asked for stays where it was asked for, unless the other is asked for as well.
        (true, true) if is_kept(later) && !is_kept(earlier) => Goes::Earlier,
        (true, true) => Goes::Later(0),
        (true, false) if stands(second) && !namesakes && !is_kept(earlier) => Goes::Earlier,
        (true, false) if is_kept(later) => Goes::Neither,
        (true, false) => Goes::Later(0),
        (false, true) if namesakes && stands(second) => Goes::Earlier,
        (false, true) if is_kept(later) => Goes::Neither,
        (false, true) => Goes::Later(0),
        _ if is_kept(later) || length < RUN_LINES + 2 * CONTEXT_LINES => Goes::Neither,
        _ => Goes::Later(CONTEXT_LINES),
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
