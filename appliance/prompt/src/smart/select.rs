//! Chooses units until the room is used: what is named, what that refers to, then by rank.

use super::anchors::Names;
use super::bare;
use super::lines::Lines;
use super::near::Near;
use super::units::{Role, Unit};
use super::words::Words;

/// What becomes of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// Left out.
    Dropped,
    /// Its signature only.
    Signature,
    /// What differs from an edited copy that is sent whole.
    Changes,
    /// All but the comments before it.
    Bare,
    /// All of it.
    Whole,
}

impl State {
    /// Whether the code of a definition is sent, and not only its signature.
    pub(super) fn has_body(self) -> bool {
        matches!(self, Self::Whole | Self::Bare | Self::Changes)
    }
}

/// Share of the room that signatures may take.
const SIGNATURE_SHARE: f32 = 0.3;
/// The same for a completion, whose lines before the cursor are there in any case.
const SIGNATURE_SHARE_TAIL: f32 = 0.6;
/// Share of what is left then that goes to signatures by rank.
const OUTLINE_SHARE: f32 = 0.7;
/// Share of what is left for units by rank that goes to signatures of what they refer to, when nothing is named.
const FOLLOW_SHARE: f32 = 0.2;
/// Units by rank go without their documentation when there is room for less than one in so many of all tokens.
const BARE_BELOW: usize = 3;
/// Units whose references are followed.
const FOLLOWED: usize = 8;
/// Tokens that an omission comment costs.
const MARKER_TOKENS: usize = 12;
/// Ranked units that go before signatures when nothing is named: the answer may be in the second best as well.
const LEADERS: usize = 3;

/// How much the tokens of a unit count against its score ...
const COST_POWER: f32 = 0.3;
/// ... and tokens that every unit costs.
const COST_OFFSET: usize = 30;

/// What is chosen from.
pub(super) struct Choice<'c, 'a> {
    pub(super) lines: &'c Lines<'a>,
    pub(super) words: &'c Words<'a>,
    pub(super) units: &'c [Unit<'a>],
    /// Tokens that each unit costs when sent whole, copies not counted.
    pub(super) costs: &'c [usize],
    pub(super) scores: &'c [f32],
    pub(super) anchors: &'c [usize],
    /// How many of them are named for certain.
    pub(super) firm: usize,
    pub(super) names: &'c Names,
    /// What is fixed is the code before a cursor, not an instruction.
    pub(super) tail: bool,
    /// Per unit: a copy of an earlier one.
    pub(super) gone: &'c [bool],
    /// Per unit: stands in what the server has already, and costs nothing. Empty where there is no session.
    pub(super) kept: &'c [bool],
    /// Per unit: the edited copy that it is. Empty where each must be sent whole.
    pub(super) near: &'c [Option<Near>],
}

/// What was chosen, and in which order: what came last goes first when there is too much.
pub(super) struct Chosen {
    pub(super) states: Vec<State>,
    /// Every unit that was taken, with what it was before and the tokens it was thought to cost.
    order: Vec<(usize, State, usize)>,
}

impl Chosen {
    /// Gives back at least `tokens`, last come first. Says whether anything was left to give.
    pub(super) fn give_back(&mut self, tokens: usize) -> bool {
        let mut given = 0;
        while given < tokens {
            let Some((unit, before, cost)) = self.order.pop() else { return given > 0 };
            self.states[unit] = before;
            given += cost.max(1);
        }
        true
    }
}

/// Chooses within `room` tokens.
pub(super) fn select(choice: &Choice<'_, '_>, room: usize) -> Chosen {
    let mut selection = Selection {
        choice,
        states: vec![State::Dropped; choice.units.len()],
        order: Vec::new(),
        left: room,
        kin: Kin::new(choice.units),
    };
    selection.fixed();
    let tight = selection.left * BARE_BELOW < choice.costs.iter().sum();
    for unit in (0..choice.kept.len()).filter(|unit| choice.kept[*unit]) {
        selection.states[unit] = State::Whole;
    }
    let ranked = ranked(choice);
    // Imports and the first lines of classes come along with what they belong to.
    let defines = |unit: &&usize| matches!(choice.units[**unit].role, Role::Definition | Role::Piece);
    let (firm, spoken) = choice.anchors.split_at(choice.firm);
    let leaders = match (firm, spoken) {
        ([], []) => LEADERS,
        ([], _) => 1,
        _ => 0,
    };
    // Where not all of them fit, comments before them are the first thing to do without.
    let costs =
        |unit: &usize| choice.near.get(*unit).and_then(Option::as_ref).map_or(choice.costs[*unit], |near| near.cost);
    let crowded = firm.len() > 1 && choice.costs[firm[0]] + firm[1..].iter().map(costs).sum::<usize>() > selection.left;
    for unit in firm {
        if crowded && selection.near(*unit).is_none() {
            selection.take_bare(*unit, 0);
        }
        selection.take_whole(*unit, true);
    }
    // What only sounds like a name may be none: the best by rank goes before it, if that leaves room for both.
    let half = if spoken.is_empty() { usize::MAX } else { selection.left / 2 };
    for unit in ranked.iter().filter(defines).take(leaders).filter(|unit| choice.costs[**unit] <= half) {
        selection.take_whole(*unit, true);
    }
    spoken.iter().for_each(|unit| selection.take_whole(*unit, true));
    let mut used = selection.references(room);
    selection.imports(&used);
    for rest in choice.anchors.iter().filter_map(|unit| selection.kin.rest(*unit)).collect::<Vec<_>>() {
        selection.whole(rest);
    }
    if choice.tail {
        selection.outline(&ranked);
    }
    if !choice.tail && firm.is_empty() {
        // Any of the best may be what is meant, and whichever it is, the next line calls what that refers to.
        let reserve = (selection.left as f32 * FOLLOW_SHARE) as usize;
        selection.left -= reserve;
        ranked.iter().for_each(|unit| selection.by_rank(*unit, tight));
        selection.left += reserve;
        let mut left = usize::MAX;
        for unit in &ranked {
            selection.follow(*unit, &mut used, &mut left);
        }
    }
    ranked.iter().for_each(|unit| selection.by_rank(*unit, tight));
    Chosen { states: selection.states, order: selection.order }
}

/// Units with any score, best first; equals in source order.
fn ranked(choice: &Choice<'_, '_>) -> Vec<usize> {
    let mut ranked: Vec<usize> = (0..choice.units.len())
        .filter(|unit| !choice.gone[*unit] && is_free(choice.units[*unit].role) && choice.costs[*unit] > 0)
        .collect();
    let near = |unit: usize| choice.anchors.iter().any(|anchor| choice.units[*anchor].file == choice.units[unit].file);
    // Short units first, among equals: more of what may be meant fits.
    let cost = |unit: usize| ((choice.costs[unit] + COST_OFFSET) as f32).powf(COST_POWER);
    let score = |unit: usize| {
        let (factor, extra) = if near(unit) { (1.1, 1e-3) } else { (1.0, 0.0) };
        (choice.scores[unit] * factor + extra) / cost(unit)
    };
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
    order: Vec<(usize, State, usize)>,
    left: usize,
    kin: Kin,
}

/// Which units belong to others, found once.
struct Kin {
    /// By opening: its closing.
    closings: Vec<u32>,
    /// By file: its header.
    headers: Vec<u32>,
    /// By definition: where it goes on after an interruption.
    rests: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl Kin {
    fn new(units: &[Unit<'_>]) -> Self {
        let files = units.iter().filter_map(|unit| unit.file).max().map_or(0, |last| last + 1);
        let mut kin =
            Self { closings: vec![NONE; units.len()], headers: vec![NONE; files], rests: vec![NONE; units.len()] };
        for (number, unit) in units.iter().enumerate() {
            if let Some(before) = unit.continues {
                kin.rests[before] = number as u32;
            }
            match (unit.role, unit.parent, unit.file) {
                (Role::Closing, Some(opening), _) => kin.closings[opening] = number as u32,
                (Role::Header, _, Some(file)) => kin.headers[file] = number as u32,
                _ => {}
            }
        }
        kin
    }

    fn closing(&self, opening: usize) -> Option<usize> {
        Some(self.closings[opening]).filter(|at| *at != NONE).map(|at| at as usize)
    }

    fn rest(&self, unit: usize) -> Option<usize> {
        Some(self.rests[unit]).filter(|at| *at != NONE).map(|at| at as usize)
    }

    fn header(&self, unit: &Unit<'_>) -> Option<usize> {
        Some(self.headers[unit.file?]).filter(|at| *at != NONE).map(|at| at as usize)
    }
}

impl<'s> Selection<'s, '_, '_> {
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
        self.take_whole(unit, false);
    }

    /// Takes a unit for its rank; where room is tight without its documentation, so that more of them fit.
    fn by_rank(&mut self, unit: usize, tight: bool) {
        let definition = self.choice.units[unit].role == Role::Definition && self.near(unit).is_none();
        let untaken = !self.states[unit].has_body() && !self.choice.gone[unit];
        let worth = || bare::saved(self.choice.lines, &self.choice.units[unit]) >= 2 * MARKER_TOKENS;
        if tight && definition && untaken && worth() {
            let paid = if self.states[unit] == State::Signature { self.signature_cost(unit) } else { 0 };
            self.take_bare(unit, paid);
        } else {
            self.whole(unit);
        }
    }

    fn take_whole(&mut self, unit: usize, first: bool) {
        if self.states[unit].has_body() || self.choice.gone[unit] {
            return;
        }
        let paid = if self.states[unit] == State::Signature { self.signature_cost(unit) } else { 0 };
        let near = self.near(unit);
        let own = near.map_or(self.choice.costs[unit], |near| near.cost);
        let state = if near.is_some() { State::Changes } else { State::Whole };
        let alone = own + self.gaps(unit) * MARKER_TOKENS;
        if alone > self.left + paid {
            if first && near.is_none() {
                self.take_bare(unit, paid);
            }
            return;
        }
        let mut around = self.around(unit);
        let mut cost = alone + around.iter().map(|part| self.choice.costs[*part]).sum::<usize>();
        if cost > self.left + paid {
            // Better without its surroundings than not at all, if it is what is asked for.
            if !first {
                return;
            }
            (cost, around) = (alone, Vec::new());
        }
        self.left = self.left + paid - cost;
        for part in around {
            self.take(part, State::Whole, self.choice.costs[part]);
        }
        self.take(unit, state, own.saturating_sub(paid));
        // What may only have been pasted behind it waits until everything else that is named is there.
        if let Some(rest) = self.kin.rest(unit).filter(|rest| self.choice.units[*rest].role == Role::Definition) {
            self.whole(rest);
        }
    }

    /// The edited copy that is sent whole already: the changes are enough then.
    fn near(&self, unit: usize) -> Option<&'s Near> {
        let near = self.choice.near.get(unit)?.as_ref()?;
        (self.states[near.other] == State::Whole).then_some(near)
    }

    /// Takes a definition without the comments before it, if it fits like that: long documentation is no reason to do
    /// without the code.
    fn take_bare(&mut self, unit: usize, paid: usize) {
        if self.states[unit].has_body() {
            return;
        }
        let saved = bare::saved(self.choice.lines, &self.choice.units[unit]);
        let cost = self.choice.costs[unit].saturating_sub(saved) + MARKER_TOKENS;
        if saved < MARKER_TOKENS || cost > self.left + paid {
            return;
        }
        self.left = self.left + paid - cost;
        self.take(unit, State::Bare, cost.saturating_sub(paid));
    }

    /// Omission comments more than before: one when a unit is taken out of the middle of a gap.
    fn gaps(&self, unit: usize) -> usize {
        let kept = |unit: Option<usize>| {
            unit.and_then(|unit| self.states.get(unit)).is_none_or(|state| *state != State::Dropped)
        };
        let beside = |step: fn(usize, usize) -> Option<usize>| {
            let next = step(unit, 1);
            // A blank line between two definitions is a unit as well.
            let blank = next.and_then(|next| self.choice.costs.get(next)).is_some_and(|cost| *cost <= 2);
            kept(next) || (blank && kept(step(unit, 2)))
        };
        let kept = usize::from(beside(usize::checked_sub)) + usize::from(beside(usize::checked_add));
        1usize.saturating_sub(kept)
    }

    fn take(&mut self, unit: usize, state: State, cost: usize) {
        self.order.push((unit, self.states[unit], cost));
        self.states[unit] = state;
    }

    fn signature(&mut self, unit: usize) -> usize {
        let cost = self.signature_cost(unit) + MARKER_TOKENS / 2;
        if self.states[unit] != State::Dropped || self.choice.gone[unit] || cost > self.left {
            return 0;
        }
        self.left -= cost;
        self.take(unit, State::Signature, cost);
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
            around.extend(self.kin.closing(unit));
        }
        while let Some(opening) = parent {
            around.push(opening);
            around.extend(self.kin.closing(opening));
            parent = units[opening].parent;
        }
        around.extend(self.kin.header(&units[unit]));
        around.retain(|part| self.states[*part] != State::Whole);
        around
    }

    /// Signatures of what the kept units refer to, one level. Returns which words they use.
    fn references(&mut self, room: usize) -> Vec<bool> {
        let mut used = vec![false; self.choice.words.distinct()];
        let share = if self.choice.tail { SIGNATURE_SHARE_TAIL } else { SIGNATURE_SHARE };
        let mut budget = (room as f32 * share) as usize;
        let tail = |unit: &usize| self.choice.tail && self.choice.units[*unit].role == Role::Fixed;
        let free = |unit: &usize| self.states[*unit].has_body() && is_free(self.choice.units[*unit].role);
        let new = |unit: &usize| !self.choice.kept.get(*unit).copied().unwrap_or_default();
        let anchors = self.choice.anchors.iter().copied().filter(|unit| !new(unit) && free(unit));
        let mut tail: Vec<usize> = (0..self.states.len()).rev().filter(tail).collect();
        if let Some(last) = tail.first() {
            // What the next line needs is mostly what its file imports, or uses elsewhere.
            let file = self.choice.units[*last].file;
            let own = |unit: &usize| self.choice.units[*unit].file == file && is_free(self.choice.units[*unit].role);
            let imports = |unit: &usize| self.choice.units[*unit].role == Role::Import;
            let (imports, rest): (Vec<usize>, Vec<usize>) = (0..self.states.len()).filter(own).partition(imports);
            tail.extend(imports.into_iter().chain(rest));
        }
        let most = tail.len() + FOLLOWED.max(self.choice.anchors.len());
        let others = anchors.chain((0..self.states.len()).filter(|unit| new(unit) && free(unit)));
        let kept: Vec<usize> = tail.iter().copied().chain(others).collect();
        for unit in kept.into_iter().take(most) {
            if !self.follow(unit, &mut used, &mut budget) {
                break;
            }
        }
        used
    }

    /// Signatures of what a unit refers to, if its code is sent. Says whether any of the budget is left.
    fn follow(&mut self, unit: usize, used: &mut [bool], budget: &mut usize) -> bool {
        let Choice { words, units, names, .. } = *self.choice;
        let is_tail = self.choice.tail;
        if !is_tail && !self.states[unit].has_body() {
            return true;
        }
        for word in words.of(&units[unit].lines) {
            if std::mem::replace(&mut used[word.number()], true) {
                continue;
            }
            for definition in names.meant(*word, units, units[unit].file) {
                *budget = budget.saturating_sub(self.signature(definition));
                if *budget == 0 {
                    return false;
                }
            }
        }
        true
    }

    /// Signatures of the best by rank: the next line may call any of them, and hardly ever needs to know how they do it.
    fn outline(&mut self, ranked: &[usize]) {
        let least = (self.left as f32 * (1.0 - OUTLINE_SHARE)) as usize;
        for unit in ranked.iter().filter(|unit| self.choice.units[**unit].role == Role::Definition) {
            if self.left <= least {
                return;
            }
            self.signature(*unit);
        }
    }

    /// Imports of anything that the kept units use, in the files they are in.
    fn imports(&mut self, used: &[bool]) {
        let units = self.choice.units;
        let mut files = vec![false; self.kin.headers.len()];
        for (unit, state) in units.iter().zip(&self.states) {
            if let (true, Role::Definition, Some(file)) = (state.has_body(), unit.role, unit.file) {
                files[file] = true;
            }
        }
        for (number, unit) in units.iter().enumerate() {
            let near = unit.file.is_none_or(|file| files[file]);
            if unit.role == Role::Import
                && near
                && self.choice.words.of(&unit.lines).iter().any(|word| used[word.number()])
            {
                self.whole(number);
            }
        }
    }
}
