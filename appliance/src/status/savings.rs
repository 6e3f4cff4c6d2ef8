//! What preparation saved: tokens that no server had to read, and the time that would have taken, in all and by the hour.

use std::collections::VecDeque;

use super::requests::Ended;

/// Hours that are remembered: a whole day before the one that is not over yet, wherever midnight is for who looks.
pub const HOURS: usize = 25;

/// A sum over answered requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Saved {
    /// Requests whose prompt was shortened.
    pub prompts: u64,
    /// Prompt tokens as they came.
    pub original_tokens: u64,
    /// Prompt tokens as they were sent.
    pub sent_tokens: u64,
    /// Seconds of reading that were spared, by the measured speed of the model; nothing for a model whose speed is not known.
    pub seconds: f64,
}

impl Saved {
    /// Tokens that were left out.
    pub fn tokens(&self) -> u64 {
        self.original_tokens - self.sent_tokens
    }

    fn add(&mut self, other: &Self) {
        self.prompts += other.prompts;
        self.original_tokens += other.original_tokens;
        self.sent_tokens += other.sent_tokens;
        self.seconds += other.seconds;
    }
}

/// What was saved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Savings {
    /// Since the start.
    pub total: Saved,
    hours: VecDeque<(u64, Saved)>,
}

impl Savings {
    /// By the hour of the wall clock (counted from 1970), the oldest first, without hours in which nobody asked.
    pub fn hours(&self) -> impl Iterator<Item = &(u64, Saved)> {
        self.hours.iter()
    }

    /// Takes an answer that came to its end; one from memory cost nobody anything to read.
    pub(super) fn take(&mut self, ended: &Ended) {
        let (Some(sent), Some((original, read))) = (&ended.running.sent, ended.prompt_tokens()) else { return };
        if ended.ending.usage.is_none() || ended.running.is_remembered() {
            return;
        }
        let speed = ended.ending.prefill_per_s.filter(|speed| *speed > 0.0);
        let saved = Saved {
            prompts: u64::from(sent.tokens_saved > 0),
            original_tokens: original.into(),
            sent_tokens: read.into(),
            seconds: speed.map_or(0.0, |speed| f64::from(sent.tokens_saved) / f64::from(speed)),
        };
        self.total.add(&saved);
        let hour = ended.ending.hour;
        // A clock that was set back begins a new list: hours in the future are nobody's.
        self.hours.retain(|(known, _)| *known <= hour && hour - known < HOURS as u64);
        match self.hours.back_mut() {
            Some((known, sum)) if *known == hour => sum.add(&saved),
            _ => self.hours.push_back((hour, saved)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cerebrum_common::request_id::RequestId;
    use cerebrum_common::wire::Usage;
    use tokio::time::Instant;

    use super::super::requests::{Arrival, Ending, Outcome, Requests, Sent};
    use super::*;

    fn ended(upstream: Option<&str>, hour: u64, usage: Option<Usage>) -> Arc<Ended> {
        let (mut requests, now) = (Requests::default(), Instant::now());
        requests.admit(Arrival { number: 1, id: RequestId::random(), call: "chat", client: "c".into() }, now);
        let sent = Sent { tokens: 90, tokens_saved: 900, ..Sent::sample(upstream) };
        requests.send(1, sent);
        let outcome = Outcome::Complete;
        let ending =
            Ending { number: 1, outcome, reason: None, tokens: 5, seconds: 2.0, usage, prefill_per_s: Some(9.0), hour };
        requests.end(ending, now).unwrap()
    }

    const USAGE: Usage = Usage { prompt_tokens: 100, cached_tokens: 0, completion_tokens: 5 };

    #[tokio::test]
    async fn tokens_and_seconds_add_up_in_all_and_by_the_hour() {
        let mut savings = Savings::default();
        for hour in [7, 7, 8] {
            savings.take(&ended(Some("vps"), hour, Some(USAGE)));
        }
        assert_eq!((savings.total.prompts, savings.total.tokens()), (3, 2700));
        assert_eq!((savings.total.original_tokens, savings.total.seconds), (3000, 300.0));
        let hours: Vec<_> = savings.hours().map(|(hour, saved)| (*hour, saved.prompts)).collect();
        assert_eq!(hours, [(7, 2), (8, 1)]);
    }

    #[tokio::test]
    async fn what_nobody_read_saves_nothing() {
        let mut savings = Savings::default();
        savings.take(&ended(None, 7, Some(USAGE)));
        savings.take(&ended(Some("vps"), 7, None));
        assert_eq!(savings, Savings::default());
    }

    #[tokio::test]
    async fn only_a_day_is_kept_whatever_the_clock_does() {
        let mut savings = Savings::default();
        for hour in (0..100).chain([3, 500_000, 2]) {
            savings.take(&ended(Some("vps"), hour, Some(USAGE)));
            assert!(savings.hours().count() <= HOURS);
        }
        assert_eq!(savings.hours().map(|(hour, _)| *hour).collect::<Vec<_>>(), [2]);
        assert_eq!(savings.total.prompts, 103);
    }
}
