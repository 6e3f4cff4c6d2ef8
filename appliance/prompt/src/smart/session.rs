//! Prompts of a session: context first and only ever appended to, instruction last, so that what the server's cache holds of
//! the last turn is the front of the next prompt. The state is the last prompt itself; nothing is kept in here.

use std::collections::HashMap;

use super::lines::Lines;
use super::select::State;
use super::table::Table;
use super::units::{Role, Unit};
use super::zones::{Kind, Zone};
use super::{assemble, bare};
use crate::request::Slot;
use crate::tokens::Estimate;

/// Places of a line in the kept context that are tried.
const PLACES: usize = 8;

/// What of a prompt stands where in a session's prompts.
pub(super) struct Layout<'a> {
    /// The line that opens the fence around the context, or "".
    pub(super) open: &'a str,
    /// The line that closes it, or "".
    pub(super) close: &'a str,
    /// Everything that is asked, in order.
    instruction: Vec<&'a str>,
}

impl<'a> Layout<'a> {
    /// The layout of a prompt, if it is one that can be turned round: sentences, and at most one block of code.
    pub(super) fn of(lines: &Lines<'a>, zones: &[Zone]) -> Option<Self> {
        let of = |kind: Kind| zones.iter().filter(move |zone| zone.kind == kind).map(|zone| lines.slice(&zone.lines));
        let fences: Vec<&str> = of(Kind::Fence).collect();
        let instruction: Vec<&str> = of(Kind::Prose).map(str::trim).filter(|text| !text.is_empty()).collect();
        let (open, close) = match fences.as_slice() {
            [] => ("", ""),
            [open, close] => (*open, *close),
            _ => return None,
        };
        Some(Self { open, close, instruction })
    }

    /// The whole prompt around a context.
    pub(super) fn prompt(&self, context: &str) -> String {
        let mut text = String::with_capacity(context.len() + 256);
        text.push_str(context);
        text.push_str(self.close);
        for part in &self.instruction {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text.push('\n');
            text.push_str(part);
        }
        text.push('\n');
        text
    }
}

/// The context of the last turn, as far as it still holds.
pub(super) struct Kept<'s> {
    pub(super) text: &'s str,
    /// Per unit: stands in it whole.
    pub(super) units: Vec<bool>,
}

impl<'s> Kept<'s> {
    /// Compares the last context with the prompt as it is now: from the first line that is no longer in it, nothing holds.
    pub(super) fn of(slot: &Slot<'s>, open: &str, lines: &Lines<'_>, units: &[Unit<'_>]) -> Self {
        let stable = slot.prompt.get(..slot.stable_bytes).unwrap_or_default();
        let text = if stable.starts_with(open) { holding(stable, open, lines) } else { "" };
        Self { text, units: standing(text, lines, units) }
    }
}

/// The front of a context whose lines all are in the prompt, up to the end of a paragraph.
fn holding<'s>(stable: &'s str, open: &str, lines: &Lines<'_>) -> &'s str {
    let mut known = Table::with_capacity(lines.len());
    for at in (0..lines.len()).filter(|at| !lines.is_blank(*at)) {
        known.entry(lines.hash(at), at as u32, |other| lines.trimmed(other as usize) == lines.trimmed(at));
    }
    let (mut end, mut good) = (0, 0);
    for raw in stable.split_inclusive('\n') {
        let line = raw.trim_ascii();
        let own = end == 0 && raw == open;
        let here = || known.find(Lines::hash_of(line), |at| lines.trimmed(at as usize) == line).is_some();
        let passed = line.is_empty() || assemble::is_marker(line);
        if !(own || passed || here()) {
            return &stable[..good];
        }
        end += raw.len();
        if passed || own {
            good = end;
        }
    }
    stable
}

/// Which units stand in a text, line by line and without interruption.
fn standing(text: &str, lines: &Lines<'_>, units: &[Unit<'_>]) -> Vec<bool> {
    if text.is_empty() {
        return vec![false; units.len()];
    }
    let kept = Lines::new(text, &Estimate);
    let filled: Vec<usize> = (0..kept.len()).filter(|at| !kept.is_blank(*at)).collect();
    let mut places: HashMap<u32, Vec<usize>> = HashMap::new();
    for (number, at) in filled.iter().enumerate() {
        let places = places.entry(kept.hash(*at)).or_default();
        if places.len() < PLACES {
            places.push(number);
        }
    }
    let stands = |unit: &Unit<'_>| {
        let own = unit.lines.clone().filter(|at| !lines.is_blank(*at));
        let Some(first) = own.clone().next() else { return true };
        let at = |place: usize| filled.get(place).map(|at| kept.trimmed(*at));
        places.get(&lines.hash(first)).is_some_and(|places| {
            places
                .iter()
                .any(|place| own.clone().enumerate().all(|(step, line)| at(place + step) == Some(lines.trimmed(line))))
        })
    };
    units.iter().map(|unit| unit.role != Role::Fixed && stands(unit)).collect()
}

/// What is appended to a context: the chosen units that it does not have, each under its file and class.
pub(super) fn appended(lines: &Lines<'_>, units: &[Unit<'_>], states: &[State], kept: &[bool]) -> String {
    let mut out = String::new();
    let (mut file, mut last) = (None, None);
    let headers: HashMap<usize, usize> = units
        .iter()
        .enumerate()
        .filter(|(_, unit)| unit.role == Role::Header)
        .filter_map(|(number, unit)| Some((unit.file?, number)))
        .collect();
    let around = |unit: &Unit<'_>| matches!(unit.role, Role::Fixed | Role::Header | Role::Opening | Role::Closing);
    for (number, unit) in units.iter().enumerate() {
        let blank = unit.lines.clone().all(|at| lines.is_blank(at));
        if states[number] == State::Dropped || kept[number] || around(unit) || blank {
            continue;
        }
        if unit.file != file {
            file = unit.file;
            last = None;
            if let Some(header) = unit.file.and_then(|file| headers.get(&file)) {
                out.push_str(lines.slice(&units[*header].lines));
            }
        }
        if unit.parent != last {
            last = unit.parent;
            openings(lines, units, unit.parent, &mut out);
        }
        let range = match states[number] {
            State::Whole => unit.lines.clone(),
            State::Bare => bare::code(lines, unit)[0].start..unit.lines.end,
            _ => unit.signature.clone(),
        };
        out.push_str(lines.slice(&range).trim_end());
        out.push_str("\n\n");
    }
    out
}

fn openings(lines: &Lines<'_>, units: &[Unit<'_>], parent: Option<usize>, out: &mut String) {
    if let Some(parent) = parent {
        openings(lines, units, units[parent].parent, out);
        out.push_str(lines.slice(&units[parent].signature));
    }
}
