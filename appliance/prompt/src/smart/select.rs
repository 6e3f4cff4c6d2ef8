//! Chooses units until the room is used: what is named, what that refers to, then by rank.

use std::collections::HashSet;

use super::anchors::Names;
use super::lines::Lines;
use super::terms;
use super::units::{Role, Unit};

/// What becomes of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// Left out.
    Dropped,
    /// Its signature only.
    Signature,
    /// All of it.
    Whole,
}

/// Share of the room that signatures may take.
const SIGNATURE_SHARE: f32 = 0.3;
/// Units whose references are followed.
const FOLLOWED: usize = 8;
/// Tokens that an omission marker costs, spread over what is kept.
const MARKER_TOKENS: usize = 6;
/// Ranked units that follow the anchors at once, before signatures: the answer may be in the second best as well.
const LEADERS: usize = 2;

/// What is chosen from.
pub(super) struct Choice<'c, 'a> {
    pub(super) lines: &'c Lines<'a>,
    pub(super) units: &'c [Unit<'a>],
    /// Tokens that each unit costs when sent whole, copies not counted.
    pub(super) costs: &'c [usize],
    pub(super) scores: &'c [f32],
    pub(super) anchors: &'c [usize],
    pub(super) names: &'c Names,
    /// Per unit: a copy of an earlier one.
    pub(super) gone: &'c [bool],
}

/// Chooses within `room` tokens.
pub(super) fn select(choice: &Choice<'_, '_>, room: usize) -> Vec<State> {
    let mut selection = Selection { choice, states: vec![State::Dropped; choice.units.len()], left: room };
    selection.fixed();
    let ranked = ranked(choice);
    for anchor in choice.anchors {
        selection.whole(*anchor);
    }
    let leaders = if choice.anchors.is_empty() { LEADERS + 1 } else { 0 };
    for unit in ranked.iter().take(leaders) {
        selection.whole(*unit);
    }
    let used = selection.references(room);
    selection.imports(&used);
    for unit in ranked {
        selection.whole(unit);
    }
    selection.states
}

/// Units with any score, best first; equals in source order.
fn ranked(choice: &Choice<'_, '_>) -> Vec<usize> {
    let mut ranked: Vec<usize> = (0..choice.units.len())
        .filter(|unit| !choice.gone[*unit] && is_free(choice.units[*unit].role) && choice.costs[*unit] > 0)
        .collect();
    let near = |unit: usize| choice.anchors.iter().any(|anchor| choice.units[*anchor].file == choice.units[unit].file);
    let score =
        |unit: usize| choice.scores[unit] * if near(unit) { 1.1 } else { 1.0 } + if near(unit) { 1e-3 } else { 0.0 };
    let mut keyed: Vec<(f32, usize)> = ranked.drain(..).map(|unit| (score(unit), unit)).collect();
    keyed.sort_by(|one, two| two.0.total_cmp(&one.0).then(one.1.cmp(&two.1)));
    keyed.into_iter().map(|(_, unit)| unit).collect()
}

fn is_free(role: Role) -> bool {
    matches!(role, Role::Definition | Role::Opening | Role::Piece | Role::Import)
}

struct Selection<'s, 'c, 'a> {
    choice: &'s Choice<'c, 'a>,
    states: Vec<State>,
    left: usize,
}

impl Selection<'_, '_, '_> {
    /// Prose and fences go along in any case; they are taken off the room first.
    fn fixed(&mut self) {
        for (number, unit) in self.choice.units.iter().enumerate() {
            if unit.role == Role::Fixed {
                self.states[number] = State::Whole;
                self.left = self.left.saturating_sub(self.choice.costs[number]);
            }
        }
    }

    /// Takes a unit with the openings of the classes around it, if there is room.
    fn whole(&mut self, unit: usize) {
        if self.states[unit] == State::Whole || self.choice.gone[unit] {
            return;
        }
        let around = self.around(unit);
        let cost =
            self.choice.costs[unit] + MARKER_TOKENS + around.iter().map(|part| self.choice.costs[*part]).sum::<usize>();
        let paid = if self.states[unit] == State::Signature { self.signature_cost(unit) } else { 0 };
        if cost > self.left + paid {
            return;
        }
        self.left = self.left + paid - cost;
        self.states[unit] = State::Whole;
        for part in around {
            self.states[part] = State::Whole;
        }
    }

    fn signature(&mut self, unit: usize) -> usize {
        let cost = self.signature_cost(unit) + MARKER_TOKENS / 2;
        if self.states[unit] != State::Dropped || self.choice.gone[unit] || cost > self.left {
            return 0;
        }
        self.left -= cost;
        self.states[unit] = State::Signature;
        cost
    }

    fn signature_cost(&self, unit: usize) -> usize {
        self.choice.lines.tokens(&self.choice.units[unit].signature)
    }

    /// Openings and closings of the classes around a unit, and its file's header, as far as they are not kept yet.
    fn around(&self, unit: usize) -> Vec<usize> {
        let units = self.choice.units;
        let mut around = Vec::new();
        let mut parent = units[unit].parent;
        if units[unit].role == Role::Opening {
            around.extend(self.closing(unit));
        }
        while let Some(opening) = parent {
            around.push(opening);
            around.extend(self.closing(opening));
            parent = units[opening].parent;
        }
        around.extend(self.header(unit));
        around.retain(|part| self.states[*part] != State::Whole);
        around
    }

    fn closing(&self, opening: usize) -> Option<usize> {
        let units = self.choice.units;
        let siblings = units[opening].lines.start;
        (opening + 1..units.len())
            .take_while(|at| units[*at].lines.start > siblings && units[*at].parent.is_some())
            .find(|at| units[*at].role == Role::Closing && units[*at].parent == Some(opening))
    }

    fn header(&self, unit: usize) -> Option<usize> {
        let units = self.choice.units;
        let file = units[unit].file?;
        let first = units.partition_point(|other| {
            other.file.is_none_or(|other| other < file) && other.lines.end <= units[unit].lines.start
        });
        (0..=unit)
            .rev()
            .take(unit + 1 - first.min(unit))
            .chain([first])
            .find(|at| units.get(*at).is_some_and(|other| other.role == Role::Header && other.file == Some(file)))
    }

    /// Signatures of what the kept units refer to, one level. Returns every identifier that they use.
    fn references(&mut self, room: usize) -> HashSet<u32> {
        let mut used = HashSet::new();
        let mut budget = (room as f32 * SIGNATURE_SHARE) as usize;
        let kept: Vec<usize> = (0..self.states.len())
            .filter(|unit| self.states[*unit] == State::Whole && is_free(self.choice.units[*unit].role))
            .collect();
        for unit in kept.into_iter().take(FOLLOWED.max(self.choice.anchors.len())) {
            let mut wanted = Vec::new();
            terms::identifiers(self.choice.lines.slice(&self.choice.units[unit].lines), |identifier| {
                if used.insert(terms::whole(identifier)) {
                    wanted.extend_from_slice(self.choice.names.definers(identifier));
                }
            });
            for definition in wanted {
                let cost = self.signature(definition);
                budget = budget.saturating_sub(cost);
                if budget == 0 {
                    return used;
                }
            }
        }
        used
    }

    /// Imports of anything that the kept units use, in the files they are in.
    fn imports(&mut self, used: &HashSet<u32>) {
        let units = self.choice.units;
        let files: HashSet<Option<usize>> = (0..units.len())
            .filter(|unit| self.states[*unit] == State::Whole && units[*unit].role == Role::Definition)
            .map(|unit| units[unit].file)
            .collect();
        for (number, unit) in units.iter().enumerate() {
            if unit.role != Role::Import || !files.contains(&unit.file) {
                continue;
            }
            let mut hit = false;
            terms::identifiers(self.choice.lines.slice(&unit.lines), |name| hit |= used.contains(&terms::whole(name)));
            if hit {
                self.whole(number);
            }
        }
    }
}
