//! The `smart` profile: leaves out copies, and, when that is worth the server's time or the prompt does not fit, whatever
//! has least to do with the instruction. What is kept is kept in source order, line by line as it came.
//!
//! The stages, in order: lines, zones, units, instruction, copies, anchors, decision, rank, selection, assembly,
//! verification. Any stage that cannot keep its promise ends the preparation with the original.

mod anchors;
mod assemble;
mod compounds;
mod duplicates;
mod headers;
mod lines;
mod prose;
mod quoted;
mod rank;
mod select;
mod session;
mod stray;
mod table;
mod terms;
mod units;
mod vocabulary;
mod words;
mod zones;

use std::panic::AssertUnwindSafe;

use crate::language;
use crate::report::{Outcome, Prepared, Report, Rule};
use crate::request::{Mode, Profile, Rates, Request, Slot};
use crate::tokens;
use anchors::Names;
use lines::Lines;
use select::{Choice, State};
use units::{Role, Unit, Units};
use words::Words;
use zones::{Kind, Zones};

/// Larger prompts are sent as they come; the gateway refuses them long before.
const LIMIT_BYTES: usize = 64 << 20;
/// Shorter ones are not worth a thought.
const LEAST_TOKENS: usize = 200;
/// Lines before the cursor that a completion always keeps.
const TAIL_LINES: usize = 40;
/// Share of the tokens without copies that is kept at least when the prompt would fit, with anchors ...
const FLOOR_ANCHORED: f32 = 0.20;
/// ... without any ...
const FLOOR_LOOSE: f32 = 0.50;
/// ... and of what is before the tail of a completion.
const FLOOR_COMPLETION: f32 = 0.35;
/// What an estimate may be wrong by.
const RESERVE: f32 = 0.15;
/// Instructions up to this long are sent at both ends of the prompt.
const REPEATED_TOKENS: usize = 40;
/// Names of definitions left out that a report lists.
const DROPPED_NAMES: usize = 256;
/// Words used for ranking from an instruction or a tail.
const QUERY_BYTES: usize = 8 << 10;

/// Prepares one request.
pub(crate) fn prepare(request: &Request<'_>) -> Prepared {
    let mut report = Report::new(request, Profile::Smart, Outcome::Unfit);
    if request.prompt.len() > LIMIT_BYTES {
        return Prepared { prompt: request.prompt.to_owned(), report };
    }
    // The last line of defence: a mistake in here costs a saving, not an answer.
    let work = || {
        let mut report = report.clone();
        let outcome = shorten(request, &mut report);
        (outcome, report)
    };
    let outcome = match std::panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok((outcome, filled)) => {
            report = filled;
            outcome
        }
        Err(_) => Err(Outcome::Doubtful),
    };
    // Lines were counted one by one, which is what choosing between them needs; some vocabularies have tokens that reach over
    // a line's end.
    let whole =
        |text: &str, by_lines: usize| if request.tokens.is_exact() { request.tokens.count(text) } else { by_lines };
    report.original_tokens = whole(request.prompt, report.original_tokens);
    let prompt = match outcome {
        Ok((outcome, prompt)) => {
            report.outcome = outcome;
            report.final_tokens = whole(&prompt, report.final_tokens);
            prompt
        }
        Err(outcome) => {
            report.outcome = outcome;
            report.final_tokens = report.original_tokens;
            request.prompt.to_owned()
        }
    };
    report.final_chars = prompt.chars().count();
    Prepared { prompt, report }
}

fn shorten(request: &Request<'_>, report: &mut Report) -> Result<(Outcome, String), Outcome> {
    let lines = Lines::new(request.prompt, request.tokens);
    let zones = zones::divide(&lines, report.language.language);
    report.original_tokens = lines.tokens(&(0..lines.len()));
    report.rule = rule(&lines, &zones, request);
    report.said = spoken(&lines, &zones);
    report.instruction = report.said.first().cloned();
    if report.original_tokens < LEAST_TOKENS {
        return Err(Outcome::Short);
    }
    Preparation::read(lines, zones, report.rule).run(request, report)
}

/// What tells the instruction from the code.
fn rule(lines: &Lines<'_>, zones: &Zones<'_>, request: &Request<'_>) -> Rule {
    let prose = || zones.zones.iter().filter(|zone| zone.kind == Kind::Prose);
    if request.mode == Mode::Completion {
        Rule::Completion
    } else if request.instruction.is_some() {
        Rule::Field
    } else if prose().any(|zone| zones::marker(lines.trimmed(zone.lines.start)).is_some()) {
        Rule::Marker
    } else if prose().next().is_some() {
        Rule::Prose
    } else {
        Rule::Completion
    }
}

/// Where the user speaks in a prompt, in bytes: sentences outside the code.
pub(crate) fn said(prompt: &str) -> Vec<std::ops::Range<usize>> {
    let language = language::identify(prompt, None).language;
    let work = || {
        let lines = Lines::new(prompt, &tokens::Estimate);
        let zones = zones::divide(&lines, language);
        spoken(&lines, &zones)
    };
    if prompt.len() > LIMIT_BYTES { Vec::new() } else { std::panic::catch_unwind(work).unwrap_or_default() }
}

fn spoken(lines: &Lines<'_>, zones: &Zones<'_>) -> Vec<std::ops::Range<usize>> {
    let prose = zones.zones.iter().filter(|zone| zone.kind == Kind::Prose);
    prose.map(|zone| lines.body(zone.lines.start)..lines.span(&zone.lines).end).collect()
}

/// What becomes of each unit.
struct Selected {
    states: Vec<State>,
    /// The text that comes of it, and its tokens.
    text: String,
    tokens: usize,
}

/// A turn of a session.
struct Session<'s, 'a> {
    slot: Slot<'s>,
    layout: session::Layout<'a>,
    texts: &'s [&'s str],
    anchors: &'s [usize],
    names: &'s Names,
    copies: &'s duplicates::Copies,
}

/// A prompt taken apart.
struct Preparation<'a> {
    lines: Lines<'a>,
    zones: Zones<'a>,
    units: Vec<Unit<'a>>,
    quoted: Vec<bool>,
    words: Words<'a>,
}

impl<'a> Preparation<'a> {
    fn read(lines: Lines<'a>, zones: Zones<'a>, rule: Rule) -> Self {
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

    fn run(mut self, request: &Request<'_>, report: &mut Report) -> Result<(Outcome, String), Outcome> {
        let all = 0..self.lines.len();
        let fits = request.room.is_none_or(|room| report.original_tokens <= self.usable(request, room));
        if fits && all.clone().any(|at| assemble::is_marker(self.lines.trimmed(at))) {
            return Err(Outcome::Prepared);
        }
        let texts = self.query_texts(request, report.rule);
        let named = anchors::find(&texts, &self.place(&Names::new(&self.words, &self.units, |_| false)));
        let mut copies = duplicates::find(&self.lines, &self.units, &named.units);
        if stray::cut(&self.lines, &mut self.units, &copies.runs) {
            copies.judge(&self.lines, &self.units);
        }
        report.work = copies.work;
        report.duplicate_lines = copies.lines.iter().filter(|gone| **gone).count();
        let names = Names::new(&self.words, &self.units, |unit| copies.units[unit]);
        let anchors = anchors::find(&texts, &self.place(&names));
        let firm = anchors.units[..anchors.firm].iter().filter(|unit| !copies.units[**unit]).count();
        let anchors: Vec<usize> = anchors.units.into_iter().filter(|unit| !copies.units[*unit]).collect();
        let costs: Vec<usize> = self.units.iter().map(|unit| self.cost(unit, &copies.lines)).collect();
        report.chunks_total = self.units.len();
        report.chunks_unique = self.units.len() - copies.units.iter().filter(|gone| **gone).count();
        report.anchors = anchors.iter().map(|unit| self.units[*unit].name.to_owned()).collect();
        let unique: usize = costs.iter().sum();
        if let Some(slot) = request.slot
            && report.rule != Rule::Completion
            && let Some(layout) = session::Layout::of(&self.lines, &self.zones.zones)
        {
            let session = Session { slot, layout, texts: &texts, anchors: &anchors, names: &names, copies: &copies };
            if let Some(done) = self.in_session(&session, request, report, unique) {
                return Ok(done);
            }
        }
        let selected = match self.target(request, report, unique, &anchors) {
            None => self.all_but_copies(request, &copies),
            Some(target) => {
                let query = rank::Query::new(texts.iter().map(|text| &text[..text.floor_char_boundary(QUERY_BYTES)]));
                let scores = rank::score(&self.corpus(), &query);
                // What is chosen may be the only copy that is left: it is paid for in full.
                let none = vec![false; self.lines.len()];
                let costs: Vec<usize> = self.units.iter().map(|unit| self.cost(unit, &none)).collect();
                let choice = Choice {
                    lines: &self.lines,
                    words: &self.words,
                    units: &self.units,
                    costs: &costs,
                    scores: &scores,
                    anchors: &anchors,
                    firm,
                    names: &names,
                    tail: report.rule == Rule::Completion,
                    gone: &copies.units,
                    kept: &[],
                };
                self.fill(&choice, request, &copies, target)
            }
        };
        self.finish(request, report, selected, &copies.lines, &anchors)
    }

    fn place<'p>(&'p self, names: &'p Names) -> anchors::Place<'p, 'a> {
        anchors::Place { lines: &self.lines, words: &self.words, units: &self.units, zones: &self.zones, names }
    }

    fn corpus(&self) -> rank::Corpus<'_, 'a> {
        let Self { lines, words, units, quoted, zones } = self;
        rank::Corpus { lines, words, units, quoted, files: &zones.files }
    }

    /// The prompt of a session's turn: the context that the server has, what it lacks, and the instruction. None when that
    /// does not fit or is no shorter than the original.
    fn in_session(
        &self,
        session: &Session<'_, 'a>,
        request: &Request<'_>,
        report: &mut Report,
        unique: usize,
    ) -> Option<(Outcome, String)> {
        let room = request.room.map_or(usize::MAX, |room| self.usable(request, room));
        let target = self.target_in_session(request, report, unique, session.anchors).min(room);
        let kept = session::Kept::of(&session.slot, session.layout.open, &self.lines, &self.units);
        let none = session::Kept { text: "", units: vec![false; self.units.len()] };
        // When the context has no room for more, it begins anew.
        [kept, none].iter().find_map(|kept| self.turn(session, kept, request, report, (target, room)))
    }

    fn turn(
        &self,
        session: &Session<'_, 'a>,
        kept: &session::Kept<'_>,
        request: &Request<'_>,
        report: &mut Report,
        (target, room): (usize, usize),
    ) -> Option<(Outcome, String)> {
        let query = rank::Query::new(session.texts.iter().map(|text| &text[..text.floor_char_boundary(QUERY_BYTES)]));
        let scores = rank::score(&self.corpus(), &query);
        let none = vec![false; self.lines.len()];
        let cost = |(unit, kept): (&Unit<'_>, &bool)| if *kept { 0 } else { self.cost(unit, &none) };
        let costs: Vec<usize> = self.units.iter().zip(&kept.units).map(cost).collect();
        let choice = Choice {
            lines: &self.lines,
            words: &self.words,
            units: &self.units,
            costs: &costs,
            scores: &scores,
            anchors: session.anchors,
            firm: session.anchors.len(),
            names: session.names,
            tail: false,
            gone: &session.copies.units,
            kept: &kept.units,
        };
        let has = count(kept.text, request);
        let named: usize = session.anchors.iter().map(|unit| costs[*unit]).sum();
        // What the instruction names is added in any case, with a little for what that refers to.
        let more = target.saturating_sub(has).max(named + named / 2).min(room.saturating_sub(has));
        let mut chosen = select::select(&choice, more);
        let (context, text, tokens) = loop {
            if session.anchors.iter().any(|unit| chosen.states[*unit] != State::Whole) {
                return None;
            }
            let context = self.context(session, kept, &chosen.states);
            let text = session.layout.prompt(&context);
            let tokens = count(&text, request);
            if tokens <= room {
                break (context, text, tokens);
            }
            // Every round gives something back, and what is named ends the loop.
            if !chosen.give_back(tokens - room + tokens / 64) {
                return None;
            }
        };
        if text.len() >= request.prompt.len() || tokens >= report.original_tokens {
            return None;
        }
        report.chunks_kept = chosen.states.iter().filter(|state| **state != State::Dropped).count();
        report.final_tokens = tokens;
        report.stable_bytes = context.len();
        report.saved_s = (report.original_tokens - tokens) as f32 / request.rates.prefill_per_s.max(0.01);
        Some((Outcome::Reduced, text))
    }

    /// The context of a turn: the one before with what is added to it.
    fn context(&self, session: &Session<'_, 'a>, kept: &session::Kept<'_>, states: &[State]) -> String {
        if kept.text.is_empty() {
            let gone = self.gone(states, session.copies);
            let code = assemble::context(&self.lines, &self.units, states, &gone);
            format!("{}{}\n", session.layout.open, code.trim_end())
        } else {
            let more = session::appended(&self.lines, &self.units, states, &kept.units);
            format!("{}{more}", kept.text)
        }
    }

    /// The tokens that a session's first context comes down to: there is no point in filling the room before it is known
    /// what will be asked.
    fn target_in_session(&self, request: &Request<'_>, report: &Report, unique: usize, anchors: &[usize]) -> usize {
        let free = Request {
            room: None,
            rates: Rates { least_gain_s: 0.0, least_gain_share: 0.0, ..request.rates },
            ..*request
        };
        self.target(&free, report, unique, anchors).unwrap_or(unique)
    }

    /// Selects for `target`. Where that is all the room there is, omission comments are paid for as well: what they take is
    /// given back from the end of the ranking, so that what was named stays.
    fn fill(
        &self,
        choice: &Choice<'_, '_>,
        request: &Request<'_>,
        copies: &duplicates::Copies,
        target: usize,
    ) -> Selected {
        const TRIES: usize = 6;
        let tight = request.room.is_some_and(|room| target >= self.usable(request, room));
        let mut chosen = select::select(choice, target);
        for last in (0..TRIES).map(|number| !tight || number + 1 == TRIES) {
            let gone = self.gone(&chosen.states, copies);
            // Names of what is missing are the first thing to do without.
            let text = assemble::assemble(&self.lines, &self.units, &chosen.states, &gone, !tight);
            let tokens = count(&text, request);
            // A little more than needed, so that one more time is enough.
            let excess = (tokens + tokens / 128).saturating_sub(target);
            if last || tokens <= target || !chosen.give_back(excess) {
                return Selected { states: chosen.states, text, tokens };
            }
        }
        unreachable!("the last try returns")
    }

    /// Copied lines that are not needed, because the unit that has the other copy is sent whole.
    fn gone(&self, states: &[State], copies: &duplicates::Copies) -> Vec<bool> {
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
        gone: &[bool],
        anchors: &[usize],
    ) -> Result<(Outcome, String), Outcome> {
        let states = &selected.states;
        let kept = |state: &State| *state != State::Dropped;
        report.chunks_kept = states.iter().filter(|state| kept(state)).count();
        let whole =
            self.units.iter().zip(states).filter(|(unit, state)| **state != State::Whole && !unit.name.is_empty());
        report.dropped = whole.take(DROPPED_NAMES).map(|(unit, _)| unit.name.to_owned()).collect();
        let (text, tokens) = self.with_instruction(request, report, selected.text, selected.tokens);
        let lossy = self.units.iter().zip(states).any(|(unit, state)| {
            *state != State::Whole && unit.lines.clone().any(|at| !gone[at] && !self.lines.is_blank(at))
        });
        report.final_tokens = tokens;
        if text.len() >= request.prompt.len() || report.final_tokens >= report.original_tokens {
            return Err(Outcome::NothingToChoose);
        }
        let missing = anchors.iter().any(|anchor| states[*anchor] == State::Dropped);
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
        let room = request.room.map_or(usize::MAX, |room| self.usable(request, room));
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

    fn all_but_copies(&self, request: &Request<'_>, copies: &duplicates::Copies) -> Selected {
        let state = |gone: &bool| if *gone { State::Dropped } else { State::Whole };
        let states: Vec<State> = copies.units.iter().map(state).collect();
        let text = assemble::assemble(&self.lines, &self.units, &states, &copies.lines, true);
        let tokens = count(&text, request);
        Selected { states, text, tokens }
    }

    fn usable(&self, request: &Request<'_>, room: usize) -> usize {
        if request.tokens.is_exact() { room } else { (room as f32 * (1.0 - RESERVE)) as usize }
    }

    /// The tokens to come down to; absent when leaving out copies is enough.
    fn target(&self, request: &Request<'_>, report: &Report, unique: usize, anchors: &[usize]) -> Option<usize> {
        let fixed: usize =
            self.units.iter().filter(|unit| unit.role == Role::Fixed).map(|unit| self.lines.tokens(&unit.lines)).sum();
        let floor = match report.rule {
            Rule::Completion => fixed + (FLOOR_COMPLETION * unique.saturating_sub(fixed) as f32) as usize,
            _ => (unique as f32 * if anchors.is_empty() { FLOOR_LOOSE } else { FLOOR_ANCHORED }) as usize,
        };
        let anchored: usize = anchors.iter().map(|unit| self.lines.tokens(&self.units[*unit].lines)).sum();
        let floor = floor.max(fixed + anchored * 3 / 2);
        let room = request.room.map(|room| self.usable(request, room));
        match room {
            Some(room) if unique > room => Some(room),
            _ => self.worth_it(request, unique, floor).then_some(floor),
        }
    }

    /// Whether leaving out more than copies saves enough of the server's time.
    fn worth_it(&self, request: &Request<'_>, before: usize, after: usize) -> bool {
        let rates = &request.rates;
        let read = before as f32 / rates.prefill_per_s.max(0.01);
        let expected = read + rates.answer_tokens as f32 / rates.decode_per_s.max(0.01);
        let gain = before.saturating_sub(after) as f32 / rates.prefill_per_s.max(0.01);
        gain >= rates.least_gain_s.max(rates.least_gain_share * expected)
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

fn count(text: &str, request: &Request<'_>) -> usize {
    text.split_inclusive('\n').map(|line| request.tokens.count(line)).sum()
}
