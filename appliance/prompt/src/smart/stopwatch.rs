//! Measures stages, where the caller lends a clock.

use crate::report::{Report, Stage};
use crate::request::Clock;

/// Time since the last stage ended.
pub(super) struct Stopwatch<'c> {
    clock: Option<&'c dyn Clock>,
    last_us: u64,
}

impl<'c> Stopwatch<'c> {
    pub(super) fn start(clock: Option<&'c dyn Clock>) -> Self {
        Self { clock, last_us: clock.map_or(0, Clock::now_us) }
    }

    /// Ends a stage: what has passed since the last one is added to it.
    pub(super) fn lap(&mut self, stage: Stage, report: &mut Report) {
        if let Some(clock) = self.clock {
            let now_us = clock.now_us();
            report.stages_us[stage as usize] += now_us.saturating_sub(self.last_us);
            self.last_us = now_us;
        }
    }
}
