//! How much is sent: what a request has room for, and what is worth leaving out, in seconds of the server's time.

use super::preparation::{Found, Preparation};
use super::units::Role;
use crate::report::{Report, Rule};
use crate::request::Request;

/// Share of the tokens without copies that is kept at least when the prompt would fit, with anchors ...
const FLOOR_ANCHORED: f32 = 0.20;
/// ... without any ...
const FLOOR_LOOSE: f32 = 0.50;
/// ... and of what is before the tail of a completion.
const FLOOR_COMPLETION: f32 = 0.35;
/// What an estimate may be wrong by.
const RESERVE: f32 = 0.15;

/// The tokens of `room` that may be used.
pub(super) fn usable(request: &Request<'_>, room: usize) -> usize {
    if request.tokens.is_exact() { room } else { (room as f32 * (1.0 - RESERVE)) as usize }
}

/// The tokens of a text, line by line.
pub(super) fn count(text: &str, request: &Request<'_>) -> usize {
    text.split_inclusive('\n').map(|line| request.tokens.count(line)).sum()
}

impl Preparation<'_> {
    /// The tokens to come down to; absent when leaving out copies is enough.
    pub(super) fn target(&self, request: &Request<'_>, report: &Report, found: &Found<'_>) -> Option<usize> {
        let Found { anchors, unique, .. } = found;
        let unique = *unique;
        let fixed: usize =
            self.units.iter().filter(|unit| unit.role == Role::Fixed).map(|unit| self.lines.tokens(&unit.lines)).sum();
        let floor = match report.rule {
            Rule::Completion => fixed + (FLOOR_COMPLETION * unique.saturating_sub(fixed) as f32) as usize,
            _ => (unique as f32 * if anchors.is_empty() { FLOOR_LOOSE } else { FLOOR_ANCHORED }) as usize,
        };
        let anchored: usize = anchors.iter().map(|unit| self.lines.tokens(&self.units[*unit].lines)).sum();
        let floor = floor.max(fixed + anchored * 3 / 2);
        let room = request.room.map(|room| usable(request, room));
        match room {
            Some(room) if unique > room => Some(room),
            _ => worth_it(request, unique, floor).then_some(floor),
        }
    }
}

/// Whether leaving out more than copies saves enough of the server's time.
fn worth_it(request: &Request<'_>, before: usize, after: usize) -> bool {
    let rates = &request.rates;
    let read = before as f32 / rates.prefill_per_s.max(0.01);
    let expected = read + rates.answer_tokens as f32 / rates.decode_per_s.max(0.01);
    let gain = before.saturating_sub(after) as f32 / rates.prefill_per_s.max(0.01);
    gain >= rates.least_gain_s.max(rates.least_gain_share * expected)
}
