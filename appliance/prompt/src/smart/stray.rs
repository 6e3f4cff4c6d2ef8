//! Code that was pasted behind a definition, and so reads as a part of it: cut off, so that what is asked for does not cost
//! twice what it is worth, or is left out for the price of what is not. What is cut off still goes along where there is room.

use std::ops::Range;

use super::lines::Lines;
use super::units::{Role, Unit};

/// Cuts definitions where a run of copied lines begins behind a blank line and goes on to their end, while the other side of the
/// run begins in the middle of something: that is where it was copied from. Returns whether there were any.
pub(super) fn cut(lines: &Lines<'_>, units: &mut Vec<Unit<'_>>, runs: &[[Range<usize>; 2]]) -> bool {
    // Where both sides could be the copy, neither is cut: a part of what is asked for might go.
    let place = |[one, two]: &[Range<usize>; 2]| {
        let (one_apart, two_apart) = (apart(lines, units, one.start), apart(lines, units, two.start));
        match (one_apart, two_apart) {
            (true, false) => place(lines, units, one),
            (false, true) => place(lines, units, two),
            _ => None,
        }
    };
    let mut places: Vec<(usize, usize)> = runs.iter().filter_map(place).collect();
    places.sort_unstable();
    places.dedup_by_key(|(unit, _)| *unit);
    if places.is_empty() {
        return false;
    }
    // Units are known by their numbers, and every cut makes those behind it one more.
    let renumber = |unit: usize| unit + places.partition_point(|(cut, _)| *cut < unit);
    for unit in units.iter_mut() {
        unit.parent = unit.parent.map(renumber);
        unit.continues = unit.continues.map(renumber);
    }
    let old = std::mem::take(units);
    let mut places = places.iter().peekable();
    for (number, mut unit) in old.into_iter().enumerate() {
        let Some((_, at)) = places.next_if(|(cut, _)| *cut == number) else {
            units.push(unit);
            continue;
        };
        let rest = Unit {
            role: Role::Piece,
            lines: *at..unit.lines.end,
            signature: *at..*at,
            name: "",
            continues: Some(units.len()),
            ..unit.clone()
        };
        unit.lines.end = *at;
        units.extend([unit, rest]);
    }
    true
}

/// Whether a line stands behind a blank one in the middle of a unit.
fn apart(lines: &Lines<'_>, units: &[Unit<'_>], at: usize) -> bool {
    let unit = units.partition_point(|unit| unit.lines.end <= at);
    units.get(unit).is_some_and(|unit| unit.lines.start < at) && lines.is_blank(at - 1)
}

/// The definition that a run is the end of, and where to cut it.
fn place(lines: &Lines<'_>, units: &[Unit<'_>], run: &Range<usize>) -> Option<(usize, usize)> {
    let number = units.partition_point(|unit| unit.lines.end <= run.start);
    let unit = units.get(number).filter(|unit| unit.role == Role::Definition && unit.signature.end < run.start)?;
    let last = unit.lines.clone().rev().find(|at| !lines.is_blank(*at))?;
    (lines.is_blank(run.start - 1) && run.end > last).then_some((number, run.start))
}

#[cfg(test)]
mod tests {
    use super::super::{duplicates, units, zones};
    use super::*;
    use crate::language::Language;
    use crate::tokens::Estimate;

    #[test]
    fn a_paste_is_cut_off_the_function_before_it() {
        let body: String = (0..12).map(|n| format!("    value_{n} = compute_something({n}, 'text')\n")).collect();
        let text = format!(
            "def a(x):\n    y = x\n\n    return y\n\n{body}\ndef b():\n    first = 1\n{body}    return first\n"
        );
        let lines = Lines::new(&text, &Estimate);
        let zones = zones::divide(&lines, Some(Language::Python));
        let mut units = units::scan(&lines, &zones.zones).units;
        let copies = duplicates::find(&lines, &units, &[]);
        assert!(cut(&lines, &mut units, &copies.runs));
        let found: Vec<_> = units.iter().map(|unit| (unit.name, unit.lines.clone(), unit.continues)).collect();
        assert_eq!(found, [("a", 0..5, None), ("", 5..17, Some(0)), ("", 17..18, None), ("b", 18..33, None)]);
    }
}
