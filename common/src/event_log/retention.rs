//! How much is kept of answers that outlive their connection, and how long.

use std::time::Duration;

use crate::settings::Section;

/// Bounds of the answers that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// From the moment on when nobody reads; none switches keeping off.
    pub time: Duration,
    /// Bytes of one answer.
    pub answer_bytes: usize,
    /// Bytes of all answers.
    pub all_bytes: usize,
}

impl Retention {
    /// From the settings; what they do not say is as in `base`.
    pub fn read(section: &mut Section<'_>, base: Self) -> Self {
        let answer = section.within("answer_kib", (base.answer_bytes >> 10) as u64, 64, 1 << 20) as usize;
        let all = section.within("all_mib", (base.all_bytes >> 20) as u64, 1, 1 << 14) as usize;
        if answer << 10 > all << 20 {
            section.problem("answer_kib", format!("found {answer}, expected at most all_mib, which is {all} MiB"));
        }
        Self { time: section.or("time_ms", base.time), answer_bytes: answer << 10, all_bytes: all << 20 }
    }

    /// How many answers that is at least.
    pub fn places(&self) -> usize {
        if self.time.is_zero() { 0 } else { self.all_bytes / self.answer_bytes.max(1) }
    }
}
