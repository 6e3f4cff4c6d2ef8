//! Finds edited copies: definitions that say nearly the same. None is ever left out for the other's sake; where one is sent
//! whole, the other may be sent as its changed lines with a little around them.

use std::ops::Range;

use super::lines::Lines;
use super::table::{Entry, Table};
use super::units::{Role, Unit};

/// Lines before and after a changed one that are sent with it.
const CONTEXT_LINES: usize = 2;
/// Filled lines of the shortest definition that is compared ...
const LEAST_LINES: usize = 5;
/// ... and of the longest.
const MOST_LINES: usize = 1000;
/// Lines that two definitions share at least, in tenths of the longer one.
const SHARED_TENTHS: usize = 6;
/// Lines that are looked ahead, on both sides together, for the place where two copies agree again.
const AHEAD: usize = 12;
/// Units of the largest prompt that is looked through: more do not fit into any context, and ranking decides.
const MOST_UNITS: usize = 4096;
/// Tokens that an omission comment costs, and that sending the changed lines saves at least.
const MARKER_TOKENS: usize = 16;

/// What an edited copy comes down to beside the other one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Near {
    /// The unit that it is an edited copy of.
    pub(super) other: usize,
    /// Its header and its changed lines with what is around them, in order.
    pub(super) lines: Vec<Range<usize>>,
    /// Tokens of those with the comments between them.
    pub(super) cost: usize,
}

/// Per unit: the edited copy that it is, if any; nothing at all for the largest prompts. Units in `gone` are true copies and no longer count.
pub(super) fn find(lines: &Lines<'_>, units: &[Unit<'_>], gone: &[bool]) -> Vec<Option<Near>> {
    if units.len() > MOST_UNITS {
        return Vec::new();
    }
    let mut near = vec![None; units.len()];
    let (mut names, mut sketches) = (Table::with_capacity(64), Table::with_capacity(64));
    for (number, unit) in units.iter().enumerate() {
        if gone[number] || unit.role != Role::Definition || !(LEAST_LINES..=MOST_LINES).contains(&unit.lines.len()) {
            continue;
        }
        let value = number as u32;
        let name = Lines::hash_of(unit.name);
        let candidates = [
            known(&mut names, name, value, |other| units[other as usize].name == unit.name),
            known(&mut sketches, sketch(lines, unit), value, |_| true),
        ];
        let found =
            candidates.into_iter().flatten().find_map(|other| Some((other, compare(lines, units, other, number)?)));
        if let Some((other, [first, second])) = found {
            near[number] = second;
            if near[other].is_none() {
                near[other] = first;
            }
        }
    }
    near
}

fn known(table: &mut Table, hash: u32, value: u32, same: impl Fn(u32) -> bool) -> Option<usize> {
    match table.entry(hash, value, same) {
        Entry::Found(other) => Some(other as usize),
        _ => None,
    }
}

/// The least fingerprint of a unit's lines: equal for edited copies as often as they share lines.
fn sketch(lines: &Lines<'_>, unit: &Unit<'_>) -> u32 {
    unit.lines.clone().map(|at| lines.hash(at)).filter(|hash| *hash != 0).min().unwrap_or_default()
}

/// What both of two definitions come down to beside each other, if they are near enough.
fn compare(lines: &Lines<'_>, units: &[Unit<'_>], one: usize, two: usize) -> Option<[Option<Near>; 2]> {
    let filled = |unit: usize| -> Vec<usize> { units[unit].lines.clone().filter(|at| !lines.is_blank(*at)).collect() };
    let (first, second) = (filled(one), filled(two));
    let longer = first.len().max(second.len());
    if longer < LEAST_LINES || first.len().min(second.len()) * 10 < longer * SHARED_TENTHS {
        return None;
    }
    let shared = shared(lines, &first, &second);
    if shared.len() * 10 < longer * SHARED_TENTHS {
        return None;
    }
    let near = |number: usize, other: usize, at: Vec<usize>| reduce(lines, &units[number], other, &at);
    let firsts = shared.iter().map(|(at, _)| first[*at]).collect();
    let seconds = shared.iter().map(|(_, at)| second[*at]).collect();
    Some([near(one, two, firsts), near(two, one, seconds)])
}

/// Places in both lists where the lines are the same, in order. At a difference the nearest place where both agree again
/// goes on, so that time grows with the lines and never with their square.
fn shared(lines: &Lines<'_>, first: &[usize], second: &[usize]) -> Vec<(usize, usize)> {
    let base = shift(lines, first[0], second[0]);
    let same = |one: usize, two: usize| {
        let (Some(one), Some(two)) = (first.get(one), second.get(two)) else { return false };
        lines.hash(*one) == lines.hash(*two)
            && lines.trimmed(*one) == lines.trimmed(*two)
            && shift(lines, *one, *two) == base
    };
    let (mut one, mut two) = (0, 0);
    let mut shared = Vec::with_capacity(first.len().min(second.len()));
    while one < first.len() && two < second.len() {
        if same(one, two) {
            shared.push((one, two));
            (one, two) = (one + 1, two + 1);
            continue;
        }
        let ahead = (1..=AHEAD).flat_map(|sum| (0..=sum).map(move |step| (step, sum - step)));
        let Some((more, other)) = ahead.into_iter().find(|(more, other)| same(one + more, two + other)) else {
            (one, two) = (one + 1, two + 1);
            continue;
        };
        (one, two) = (one + more, two + other);
    }
    shared
}

fn shift(lines: &Lines<'_>, one: usize, two: usize) -> i64 {
    i64::from(lines.indent(two)) - i64::from(lines.indent(one))
}

/// The lines of a unit that must be sent when those in `shared` stand elsewhere; None where that saves too little.
fn reduce(lines: &Lines<'_>, unit: &Unit<'_>, other: usize, shared: &[usize]) -> Option<Near> {
    let mut next = shared.iter().peekable();
    let changed = |at: &usize| next.next_if(|shared| **shared == *at).is_none();
    let changed: Vec<usize> = unit.lines.clone().filter(|at| !lines.is_blank(*at)).filter(changed).collect();
    let mut kept: Vec<Range<usize>> = vec![unit.signature.clone()];
    for at in changed {
        let around =
            at.saturating_sub(CONTEXT_LINES).max(unit.lines.start)..(at + 1 + CONTEXT_LINES).min(unit.lines.end);
        match kept.iter_mut().find(|range| range.start <= around.end && around.start <= range.end) {
            Some(range) => *range = range.start.min(around.start)..range.end.max(around.end),
            None => kept.push(around),
        }
    }
    kept.sort_unstable_by_key(|range| range.start);
    kept.dedup_by(|later, earlier| {
        let joined = later.start <= earlier.end;
        if joined {
            earlier.end = earlier.end.max(later.end);
        }
        joined
    });
    let cost = kept.iter().map(|range| lines.tokens(range) + MARKER_TOKENS).sum::<usize>() + MARKER_TOKENS;
    (cost + MARKER_TOKENS <= lines.tokens(&unit.lines)).then_some(Near { other, lines: kept, cost })
}

#[cfg(test)]
mod tests {
    use super::super::{units, zones};
    use super::*;
    use crate::language::Language;
    use crate::tokens::Estimate;

    fn found(text: &str) -> Vec<(String, Vec<Range<usize>>)> {
        let lines = Lines::new(text, &Estimate);
        let zones = zones::divide(&lines, Some(Language::Python));
        let units = units::scan(&lines, &zones.zones).units;
        let near = find(&lines, &units, &vec![false; units.len()]);
        let found = units.iter().zip(near).filter_map(|(unit, near)| Some((unit.name.to_owned(), near?.lines)));
        found.collect()
    }

    fn function(name: &str, edit: Option<usize>) -> String {
        let line = |n: usize| match edit {
            Some(edited) if edited == n => "    other = something_else(entirely)\n".to_owned(),
            _ => format!("    value_{n} = compute_something({n}, 'text')\n"),
        };
        format!("def {name}(x):\n{}\n", (0..20).map(line).collect::<String>())
    }

    #[test]
    fn an_edited_copy_is_its_changed_lines() {
        let text = function("a", None) + &function("a", Some(10));
        assert_eq!(found(&text), [("a".to_owned(), vec![0..1, 9..14]), ("a".to_owned(), vec![22..23, 31..36])]);
    }

    #[test]
    fn one_under_another_name_is_found_as_well() {
        let text = function("a", None) + &function("b", None);
        assert_eq!(found(&text).len(), 2);
    }

    #[test]
    fn what_is_only_alike_is_no_copy() {
        let other: String = (0..20).map(|n| format!("    print({n})\n")).collect();
        assert!(found(&(function("a", None) + &format!("def a(x):\n{other}\n"))).is_empty());
    }
}
