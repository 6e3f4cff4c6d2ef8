//! The `smart` profile: leaves out copies, and, when that is worth the server's time or the prompt does not fit, whatever
//! has least to do with the instruction. What is kept is kept in source order, line by line as it came.
//!
//! The stages, in order: lines, zones, units, instruction, copies, anchors, decision, rank, selection, assembly,
//! verification. Any stage that cannot keep its promise ends the preparation with the original.

mod anchors;
mod assemble;
mod bare;
mod budget;
mod compounds;
mod duplicates;
mod headers;
mod lines;
mod near;
mod preparation;
mod prose;
mod quoted;
mod rank;
mod select;
mod session;
mod stopwatch;
mod stray;
mod synonyms;
mod table;
mod terms;
mod turn;
mod units;
mod vocabulary;
mod words;
mod zones;

use std::panic::AssertUnwindSafe;

use crate::language;
use crate::report::{Outcome, Prepared, Report, Rule, Stage};
use crate::request::{Mode, Profile, Request};
use crate::tokens;
use lines::Lines;
use preparation::Preparation;
use stopwatch::Stopwatch;
use zones::{Kind, Zones};

/// Larger prompts are sent as they come; the gateway refuses them long before.
const LIMIT_BYTES: usize = 64 << 20;
/// Prompts with more lines than this ...
const MANY_LINES: usize = 1 << 16;
/// ... are looked at only if their lines have so many bytes on average: what is kept of each line, however short it is, must
/// not come to more than a few times the prompt.
const LINE_BYTES: usize = 24;
/// Shorter ones are not worth a thought.
const LEAST_TOKENS: usize = 200;
/// Prepares one request.
pub(crate) fn prepare(request: &Request<'_>) -> Prepared {
    let mut report = Report::new(request, Profile::Smart, Outcome::Unfit);
    let lines = Lines::count(request.prompt);
    if request.prompt.len() > LIMIT_BYTES || (lines > MANY_LINES && request.prompt.len() / lines < LINE_BYTES) {
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
    let mut watch = Stopwatch::start(request.clock);
    let lines = Lines::new(request.prompt, request.tokens);
    watch.lap(Stage::Lines, report);
    let zones = zones::divide(&lines, report.language.language);
    watch.lap(Stage::Zones, report);
    report.original_tokens = lines.tokens(&(0..lines.len()));
    report.rule = rule(&lines, &zones, request);
    report.said = spoken(&lines, &zones);
    report.instruction = report.said.first().cloned();
    if report.original_tokens < LEAST_TOKENS {
        return Err(Outcome::Short);
    }
    let preparation = Preparation::read(lines, zones, report.rule);
    watch.lap(Stage::Units, report);
    preparation.run(request, report, &mut watch)
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
