//! A turn of a session: the context that the server has, what it lacks for what is asked now, and the instruction.

use super::budget;
use super::preparation::{Found, Preparation};
use super::select::{self, Choice, State};
use super::session::{Kept, Layout, appended};
use crate::report::{Outcome, Report};
use crate::request::{Rates, Request, Slot};

/// A turn of a session.
pub(super) struct Turn<'t, 's, 'a> {
    pub(super) preparation: &'t Preparation<'a>,
    pub(super) found: &'t Found<'t>,
    pub(super) slot: Slot<'s>,
    pub(super) layout: Layout<'a>,
}

impl Turn<'_, '_, '_> {
    /// The prompt of the turn. None when it does not fit or is no shorter than the original.
    pub(super) fn take(&self, request: &Request<'_>, report: &mut Report) -> Option<(Outcome, String)> {
        let Preparation { lines, units, .. } = self.preparation;
        let room = request.room.map_or(usize::MAX, |room| budget::usable(request, room));
        let target = self.target(request, report).min(room);
        let scores = self.preparation.scores(self.found);
        let kept = Kept::of(&self.slot, self.layout.open, lines, units);
        let none = Kept { text: "", units: vec![false; units.len()] };
        // When the context has no room for more, it begins anew.
        [kept, none].iter().find_map(|kept| self.with(kept, &scores, request, report, (target, room)))
    }

    fn with(
        &self,
        kept: &Kept<'_>,
        scores: &[f32],
        request: &Request<'_>,
        report: &mut Report,
        (target, room): (usize, usize),
    ) -> Option<(Outcome, String)> {
        let Preparation { lines, units, .. } = self.preparation;
        let anchors = &self.found.anchors;
        let cost = |(unit, kept)| if kept { 0 } else { lines.tokens(unit) };
        let costs: Vec<usize> =
            units.iter().map(|unit| &unit.lines).zip(kept.units.iter().copied()).map(cost).collect();
        let choice =
            Choice { firm: anchors.len(), kept: &kept.units, ..self.preparation.choice(self.found, scores, &costs) };
        let has = budget::count(kept.text, request);
        let named: usize = anchors.iter().map(|unit| costs[*unit]).sum();
        // What the instruction names is added in any case, with a little for what that refers to.
        let more = target.saturating_sub(has).max(named + named / 2).min(room.saturating_sub(has));
        let mut chosen = select::select(&choice, more);
        let (context, text, tokens) = loop {
            if anchors.iter().any(|unit| chosen.states[*unit] != State::Whole) {
                return None;
            }
            let context = self.context(kept, &chosen.states);
            let text = self.layout.prompt(&context);
            let tokens = budget::count(&text, request);
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
    fn context(&self, kept: &Kept<'_>, states: &[State]) -> String {
        let Preparation { lines, units, .. } = self.preparation;
        if kept.text.is_empty() {
            let gone = self.preparation.gone(states, &self.found.copies);
            let code = self.preparation.selection(states, &gone, &[], true).context();
            format!("{}{}\n", self.layout.open, code.trim_end())
        } else {
            let more = appended(lines, units, states, &kept.units);
            format!("{}{more}", kept.text)
        }
    }

    /// The tokens that a session's first context comes down to: there is no point in filling the room before it is known
    /// what will be asked.
    fn target(&self, request: &Request<'_>, report: &Report) -> usize {
        let free = Request {
            room: None,
            rates: Rates { least_gain_s: 0.0, least_gain_share: 0.0, ..request.rates },
            ..*request
        };
        self.preparation.target(&free, report, self.found).unwrap_or(self.found.unique)
    }
}
