//! Tokens written over the last minutes, for the plot: a ring of equal spans, whoever wrote them.

use std::collections::VecDeque;
use std::time::Duration;

/// Length of one span: at the speed of a small server it holds two to four tokens.
pub const SPAN: Duration = Duration::from_secs(2);

/// Spans that are remembered: five minutes, which a long answer takes.
pub const SPANS: usize = 150;

/// Tokens by the span in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// The oldest first; the last one is number `newest`.
    spans: VecDeque<u32>,
    newest: u64,
}

impl Pace {
    /// Takes tokens that were written `since` the daemon's start.
    pub(super) fn write(&mut self, since: Duration, tokens: u32) {
        let number = number(since);
        if self.spans.is_empty() {
            self.newest = number;
            self.spans.push_back(0);
        }
        // More spans without a token than there is room for leave nothing of the old ones.
        let gap = usize::try_from(number.saturating_sub(self.newest)).unwrap_or(usize::MAX).min(SPANS);
        self.spans.extend(std::iter::repeat_n(0, gap));
        self.spans.drain(..self.spans.len().saturating_sub(SPANS));
        self.newest = self.newest.max(number);
        if let Some(last) = self.spans.back_mut() {
            *last = last.saturating_add(tokens);
        }
    }

    /// The tokens of the last [`SPANS`] whole spans before `since` the daemon's start, the oldest first: the one that is not
    /// over yet would look like a fall.
    pub fn spans(&self, since: Duration) -> [u32; SPANS] {
        let mut out = [0; SPANS];
        let end = number(since);
        let start = (self.newest + 1).saturating_sub(self.spans.len() as u64);
        for (number, tokens) in (start..).zip(&self.spans) {
            if let Some(back) = end.checked_sub(number + 1).and_then(|back| usize::try_from(back).ok())
                && let Some(place) = SPANS.checked_sub(back + 1)
            {
                out[place] = *tokens;
            }
        }
        out
    }

    /// Tokens per second over the last `spans` whole spans.
    pub fn rate(&self, since: Duration, spans: usize) -> f64 {
        let tokens: u64 = self.spans(since).iter().rev().take(spans).map(|tokens| u64::from(*tokens)).sum();
        tokens as f64 / (SPAN.as_secs_f64() * spans.max(1) as f64)
    }
}

/// The span at `since` the daemon's start.
fn number(since: Duration) -> u64 {
    since.as_secs() / SPAN.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn spans_move_on_and_the_unfinished_one_is_left_out() {
        let mut pace = Pace::default();
        pace.write(at(10), 3);
        pace.write(at(11), 1);
        assert_eq!(pace.spans(at(11)), [0; SPANS], "that span is not over");
        pace.write(at(14), 6);
        let spans = pace.spans(at(16));
        assert_eq!(spans[SPANS - 3..], [4, 0, 6]);
        assert_eq!(pace.rate(at(16), 3), 10.0 / 6.0);
        assert_eq!(pace.spans(at(16 + 2 * SPANS as u64)), [0; SPANS]);
    }

    proptest! {
        #[test]
        fn no_token_is_lost_or_counted_twice(writes in prop::collection::vec((0_u64..120, 0_u32..9), 0..200)) {
            let mut writes = writes;
            writes.sort_unstable();
            let mut pace = Pace::default();
            writes.iter().for_each(|(second, tokens)| pace.write(at(*second), *tokens));
            let all: u32 = writes.iter().map(|(_, tokens)| tokens).sum();
            prop_assert_eq!(pace.spans(at(122)).iter().sum::<u32>(), all);
        }

        #[test]
        fn the_ring_never_grows(writes in prop::collection::vec(0_u64..100_000, 0..300)) {
            let mut pace = Pace::default();
            for second in writes {
                pace.write(at(second), 1);
                prop_assert!(pace.spans.len() <= SPANS);
            }
        }
    }
}
