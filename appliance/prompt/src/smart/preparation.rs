//! A prompt taken apart, and put together again for the room or the time that there is.

use super::anchors::{self, Names};
use super::duplicates::{self, Copies};
use super::lines::Lines;
use super::near::{self, Near};
use super::select::{self, Choice, State};
use super::stopwatch::Stopwatch;
use super::units::{self, Role, Unit, Units};
use super::words::Words;
use super::zones::{Kind, Zones};
use super::{assemble, budget, rank, session, stray, turn};
use crate::report::{Outcome, Report, Rule, Stage};
use crate::request::Request;

/// Lines before the cursor that a completion always keeps.
const TAIL_LINES: usize = 40;
/// Instructions up to this long are sent at both ends of the prompt.
const REPEATED_TOKENS: usize = 40;
/// Names of definitions left out that a report lists.
const DROPPED_NAMES: usize = 256;
/// Words used for ranking from an instruction or a tail.
const QUERY_BYTES: usize = 8 << 10;

/// What becomes of each unit.
struct Selected {
    states: Vec<State>,
    /// The text that comes of it, and its tokens.
    text: String,
    tokens: usize,
}

/// What was found in a prompt, before anything is chosen.
pub(super) struct Found<'t> {
    /// What tells what matters.
    texts: Vec<&'t str>,
    names: Names,
    /// Units that the instruction names, and how many of them for certain: those come first.
    pub(super) anchors: Vec<usize>,
    firm: usize,
    pub(super) copies: Copies,
    /// Tokens without copies.
    pub(super) unique: usize,
}

/// A prompt taken apart.
pub(super) struct Preparation<'a> {
    pub(super) lines: Lines<'a>,
    pub(super) zones: Zones<'a>,
    pub(super) units: Vec<Unit<'a>>,
    quoted: Vec<bool>,
    words: Words<'a>,
}

impl<'a> Preparation<'a> {
    pub(super) fn read(lines: Lines<'a>, zones: Zones<'a>, rule: Rule) -> Self {
        let Units { units, quoted } = units::scan(&lines, &zones.zones);
        let words = Words::new(&lines);
        let mut preparation = Self { lines, zones, units, quoted, words };
        if rule == Rule::Completion {
            preparation.keep_tail();
        }
        preparation
    }

    /// Makes the end of the text untouchable, by cutting the unit that the tail begins in.
    fn keep_tail(&mut self) {
        let tail = self.lines.len().saturating_sub(TAIL_LINES);
        for number in 0..self.units.len() {
            let unit = &mut self.units[number];
            if unit.lines.start >= tail {
                unit.role = Role::Fixed;
            } else if unit.lines.end > tail {
                let rest = Unit {
                    role: Role::Fixed,
                    lines: tail..unit.lines.end,
                    signature: tail..tail,
                    continues: None,
                    ..unit.clone()
                };
                unit.lines.end = tail;
                unit.signature.end = unit.signature.end.min(tail);
                self.units.insert(number + 1, Unit { name: "", ..rest });
                // What follows only moved by one; parents are openings, and those of later units are fixed anyway.
                break;
            }
        }
        for unit in self.units.iter_mut().filter(|unit| unit.lines.start >= tail) {
            unit.role = Role::Fixed;
            unit.parent = None;
        }
    }

    pub(super) fn run(
        mut self,
        request: &Request<'_>,
        report: &mut Report,
        watch: &mut Stopwatch<'_>,
    ) -> Result<(Outcome, String), Outcome> {
        let fits = request.room.is_none_or(|room| report.original_tokens <= budget::usable(request, room));
        if fits && (0..self.lines.len()).any(|at| assemble::is_marker(self.lines.trimmed(at))) {
            return Err(Outcome::Prepared);
        }
        let found = self.find(request, report);
        self.account(&found, report);
        if let Some(slot) = request.slot
            && report.rule != Rule::Completion
            && let Some(layout) = session::Layout::of(&self.lines, &self.zones.zones)
        {
            let turn = turn::Turn { preparation: &self, found: &found, slot, layout };
            if let Some(done) = turn.take(request, report) {
                return Ok(done);
            }
        }
        let selected = match self.target(request, report, &found) {
            None => self.all_but_copies(request, &found.copies),
            Some(target) => {
                let near = near::find(&self.lines, &self.units, &found.copies.units);
                watch.lap(Stage::Copies, report);
                let scores = self.scores(&found);
                watch.lap(Stage::Rank, report);
                let costs: Vec<usize> = self.units.iter().map(|unit| self.lines.tokens(&unit.lines)).collect();
                let tail = report.rule == Rule::Completion;
                let choice = Choice { near: &near, tail, ..self.choice(&found, &scores, &costs) };
                self.fill(&choice, request, &found.copies, target)
            }
        };
        watch.lap(Stage::Select, report);
        let done = self.finish(request, report, selected, &found);
        watch.lap(Stage::Finish, report);
        done
    }

    /// Looks for what is named and for what stands there twice.
    fn find<'t>(&mut self, request: &Request<'t>, report: &Report) -> Found<'t>
    where
        'a: 't,
    {
        let texts = self.query_texts(request, report.rule);
        let all_names = Names::new(&self.words, &self.units, |_| false);
        let mut named = anchors::find(&texts, &self.place(&all_names, anchors::NAMESAKES_WITH_COPIES)).units;
        // What a definition goes on with after an interruption is as much asked for as its beginning.
        let rest = |unit: &usize| self.units.get(unit + 1).is_some_and(|next| next.continues == Some(*unit));
        named.extend(named.clone().into_iter().filter(rest).map(|unit| unit + 1));
        let mut copies = duplicates::find(&self.lines, &self.units, &named);
        if stray::cut(&self.lines, &mut self.units, &copies.runs) {
            copies.judge(&self.lines, &self.units);
        }
        let names = Names::new(&self.words, &self.units, |unit| copies.units[unit]);
        let anchors = anchors::find(&texts, &self.place(&names, anchors::NAMESAKES));
        let firm = anchors.units[..anchors.firm].iter().filter(|unit| !copies.units[**unit]).count();
        let anchors: Vec<usize> = anchors.units.into_iter().filter(|unit| !copies.units[*unit]).collect();
        let unique = self.units.iter().map(|unit| self.cost(unit, &copies.lines)).sum();
        Found { texts, names, anchors, firm, copies, unique }
    }

    fn account(&self, found: &Found<'_>, report: &mut Report) {
        let Found { copies, anchors, .. } = found;
        report.work = copies.work;
        report.duplicate_lines = copies.lines.iter().filter(|gone| **gone).count();
        report.chunks_total = self.units.len();
        report.chunks_unique = self.units.len() - copies.units.iter().filter(|gone| **gone).count();
        report.anchors = anchors.iter().map(|unit| self.units[*unit].name.to_owned()).collect();
    }

    /// How much each unit has to do with what is asked.
    pub(super) fn scores(&self, found: &Found<'_>) -> Vec<f32> {
        let query = rank::Query::new(found.texts.iter().map(|text| &text[..text.floor_char_boundary(QUERY_BYTES)]));
        let Self { lines, words, units, quoted, zones } = self;
        rank::score(&rank::Corpus { lines, words, units, quoted, files: &zones.files }, &query)
    }

    /// What is chosen from, when nothing is kept and each unit is sent whole. What is chosen may be the only copy that is
    /// left: `costs` are paid in full.
    pub(super) fn choice<'c>(&'c self, found: &'c Found<'_>, scores: &'c [f32], costs: &'c [usize]) -> Choice<'c, 'a> {
        Choice {
            lines: &self.lines,
            words: &self.words,
            units: &self.units,
            costs,
            scores,
            anchors: &found.anchors,
            firm: found.firm,
            names: &found.names,
            tail: false,
            gone: &found.copies.units,
            kept: &[],
            near: &[],
        }
    }

    fn place<'p>(&'p self, names: &'p Names, namesakes: usize) -> anchors::Place<'p, 'a> {
        let Self { lines, words, units, zones, .. } = self;
        anchors::Place { lines, words, units, zones, names, namesakes }
    }

    /// Selects for `target`. Where that is all the room there is, omission comments are paid for as well: what they take is
    /// given back from the end of the ranking, so that what was named stays.
    fn fill(&self, choice: &Choice<'_, '_>, request: &Request<'_>, copies: &Copies, target: usize) -> Selected {
        const TRIES: usize = 6;
        let tight = request.room.is_some_and(|room| target >= budget::usable(request, room));
        let mut chosen = select::select(choice, target);
        for last in (0..TRIES).map(|number| !tight || number + 1 == TRIES) {
            let gone = self.gone(&chosen.states, copies);
            // Names of what is missing are the first thing to do without.
            let text = self.selection(&chosen.states, &gone, choice.near, !tight).assemble();
            let tokens = budget::count(&text, request);
            // A little more than needed, so that one more time is enough.
            let excess = (tokens + tokens / 128).saturating_sub(target);
            if last || tokens <= target || !chosen.give_back(excess) {
                return Selected { states: chosen.states, text, tokens };
            }
        }
        unreachable!("the last try returns")
    }

    pub(super) fn selection<'s>(
        &'s self,
        states: &'s [State],
        gone: &'s [bool],
        near: &'s [Option<Near>],
        names: bool,
    ) -> assemble::Selection<'s, 'a> {
        assemble::Selection { lines: &self.lines, units: &self.units, states, gone, near, names }
    }

    /// Copied lines that are not needed, because the unit that has the other copy is sent whole.
    pub(super) fn gone(&self, states: &[State], copies: &Copies) -> Vec<bool> {
        let mut gone = copies.lines.clone();
        for (unit, _) in self.units.iter().zip(states).filter(|(_, state)| **state == State::Whole) {
            for at in unit.lines.clone().filter(|at| copies.lines[*at]) {
                let original = copies.original(at);
                let home = self.units.partition_point(|unit| unit.lines.end <= original);
                gone[at] = states[home] == State::Whole && !copies.lines[original];
            }
        }
        gone
    }

    fn finish(
        &self,
        request: &Request<'_>,
        report: &mut Report,
        selected: Selected,
        found: &Found<'_>,
    ) -> Result<(Outcome, String), Outcome> {
        let states = &selected.states;
        let kept = |state: &State| *state != State::Dropped;
        report.chunks_kept = states.iter().filter(|state| kept(state)).count();
        let whole =
            self.units.iter().zip(states).filter(|(unit, state)| **state != State::Whole && !unit.name.is_empty());
        report.dropped = whole.take(DROPPED_NAMES).map(|(unit, _)| unit.name.to_owned()).collect();
        let (text, tokens) = self.with_instruction(request, report, selected.text, selected.tokens);
        let lossy = self.units.iter().zip(states).any(|(unit, state)| {
            *state != State::Whole && unit.lines.clone().any(|at| !found.copies.lines[at] && !self.lines.is_blank(at))
        });
        report.final_tokens = tokens;
        if text.len() >= request.prompt.len() || report.final_tokens >= report.original_tokens {
            return Err(Outcome::NothingToChoose);
        }
        let missing = found.anchors.iter().any(|anchor| states[*anchor] == State::Dropped);
        if missing && request.room.is_none() {
            return Err(Outcome::Doubtful);
        }
        report.saved_s = (report.original_tokens - report.final_tokens) as f32 / request.rates.prefill_per_s.max(0.01);
        Ok((if lossy { Outcome::Reduced } else { Outcome::Deduplicated }, text))
    }

    /// Puts a short instruction that stands at one end only at the other end as well.
    fn with_instruction(&self, request: &Request<'_>, report: &Report, text: String, tokens: usize) -> (String, usize) {
        let prose: Vec<_> = self.zones.zones.iter().filter(|zone| zone.kind == Kind::Prose).collect();
        let [zone] = prose.as_slice() else { return (text, tokens) };
        let instruction = self.lines.slice(&zone.lines).trim_end();
        if request.slot.is_some()
            || matches!(report.rule, Rule::Field | Rule::Completion)
            || request.tokens.count(instruction) > REPEATED_TOKENS
        {
            return (text, tokens);
        }
        let more = request.tokens.count(instruction) + 2;
        let room = request.room.map_or(usize::MAX, |room| budget::usable(request, room));
        if tokens + more > room {
            return (text, tokens);
        }
        let after = self.units.iter().filter(|unit| unit.role != Role::Fixed);
        let ends = after.fold((false, false), |(before, behind), unit| {
            (before || unit.lines.end <= zone.lines.start, behind || unit.lines.start >= zone.lines.end)
        });
        match ends {
            (true, false) => (format!("{instruction}\n\n{text}"), tokens + more),
            (false, true) => (format!("{}\n\n{instruction}\n", text.trim_end()), tokens + more),
            _ => (text, tokens),
        }
    }

    fn all_but_copies(&self, request: &Request<'_>, copies: &Copies) -> Selected {
        let state = |gone: &bool| if *gone { State::Dropped } else { State::Whole };
        let states: Vec<State> = copies.units.iter().map(state).collect();
        let text = self.selection(&states, &copies.lines, &[], true).assemble();
        let tokens = budget::count(&text, request);
        Selected { states, text, tokens }
    }

    fn cost(&self, unit: &Unit<'_>, gone: &[bool]) -> usize {
        unit.lines.clone().filter(|at| !gone[*at]).map(|at| self.lines.tokens(&(at..at + 1))).sum()
    }

    /// What tells what matters: the instruction, or the lines before the cursor.
    fn query_texts<'t>(&self, request: &Request<'t>, rule: Rule) -> Vec<&'t str>
    where
        'a: 't,
    {
        let mut texts: Vec<&'t str> = request.instruction.into_iter().collect();
        let fixed = |unit: &&Unit<'_>| unit.role == Role::Fixed && (rule == Rule::Completion || self.is_prose(unit));
        texts.extend(self.units.iter().filter(fixed).map(|unit| self.lines.slice(&unit.lines)));
        texts
    }

    fn is_prose(&self, unit: &Unit<'_>) -> bool {
        let at = self.zones.zones.partition_point(|zone| zone.lines.end <= unit.lines.start);
        self.zones.zones.get(at).is_some_and(|zone| zone.kind == Kind::Prose)
    }
}
