//! What a step costs by its number of rows, and with that how many guessed tokens are worth verifying.
//!
//! Pure: seconds are handed in. A processor computes a few rows in little more time than one, because reading the weights takes
//! most of it; where that ends differs from machine to machine and from model to model, so it is measured all the time.

use std::time::Duration;

/// Mean costs of steps, by size.
#[derive(Debug, Default)]
pub(super) struct Pace {
    // Steps of 1, 2, 3-4, 5-8 .. rows: their mean rows and seconds, of about the last ten.
    sizes: [Option<(f32, f32)>; SIZES],
}

impl Pace {
    /// Notes a step.
    pub(super) fn note(&mut self, rows: usize, took: Duration) {
        let size = (rows.max(1).next_power_of_two().ilog2() as usize).min(SIZES - 1);
        let (rows, seconds) = (rows as f32, took.as_secs_f32());
        let (mean_rows, mean) = self.sizes[size].get_or_insert((rows, seconds));
        *mean_rows += (rows - *mean_rows) / REMEMBERED;
        // A step that took several times as long was held up by something else.
        *mean += (seconds.min(*mean * 3.0) - *mean) / REMEMBERED;
    }

    /// Of `0..=most` guessed tokens, each right with probability `confidence` if those before it are, the number that gives the most
    /// tokens per second in a step that has `rows` rows without them.
    pub(super) fn drafts(&self, confidence: f32, rows: usize, most: usize) -> usize {
        // Each of the other rows brings a token too, about.
        let (mut likely, mut tokens) = (1.0, rows as f32);
        let (mut best, mut best_rate) = (0, tokens / self.seconds(rows));
        for drafts in 1..=most {
            likely *= confidence;
            tokens += likely;
            let rate = tokens / self.seconds(rows + drafts);
            if rate > best_rate * WORTH {
                (best, best_rate) = (drafts, rate);
            }
        }
        best
    }

    /// The time that a step of so many rows takes: between two sizes that were measured on the line between them, beyond them by the
    /// slope at hand.
    fn seconds(&self, rows: usize) -> f32 {
        let rows = rows as f32;
        let known = || self.sizes.iter().flatten();
        let below = known().rfind(|known| known.0 <= rows).or_else(|| known().next());
        let above = known().find(|known| known.0 > rows).or_else(|| known().next_back());
        match (below, above) {
            (Some(below), Some(above)) if above.0 > below.0 => {
                let share = (rows - below.0) / (above.0 - below.0);
                (below.1 + share * (above.1 - below.1).max(0.0)).max(below.1.min(above.1))
            }
            (Some(known), _) => known.1 * (1.0 + (rows - known.0) * UNKNOWN_ROW).max(0.5),
            (None, _) => 1.0 + rows * UNKNOWN_ROW,
        }
    }
}

/// The last size is everything above 256 rows.
const SIZES: usize = 10;
const REMEMBERED: f32 = 8.0;
/// Until it is measured: what a further row costs, in steps of one.
const UNKNOWN_ROW: f32 = 0.2;
/// A longer draft has to promise so much more, since what it promises is not certain.
const WORTH: f32 = 1.01;

#[cfg(test)]
mod tests {
    use super::*;

    // A machine on which a step costs as much as so many rows, and each row one more.
    fn machine(fixed: u64) -> Pace {
        let mut pace = Pace::default();
        for rows in [1, 2, 4, 8, 16, 32, 128_u64] {
            pace.note(rows as usize, Duration::from_millis(fixed + rows));
        }
        pace
    }

    #[test]
    fn drafts_are_as_long_as_confidence_and_machine_make_worth_while() {
        let drafts = |fixed, confidence| machine(fixed).drafts(confidence, 1, 32);
        assert_eq!(drafts(10, 0.0), 0);
        assert_eq!(drafts(10, 1.0), 32);
        let doubtful = drafts(10, 0.6);
        assert!((1..6).contains(&doubtful), "{doubtful}");
        assert!(drafts(10, 0.9) > doubtful && drafts(40, 0.6) > doubtful);
        // Where every row costs the same, nothing is gained by guessing.
        assert_eq!(drafts(0, 0.9), 0);
        assert_eq!(machine(10).drafts(1.0, 1, 5), 5);
    }

    #[test]
    fn neighbours_make_guesses_dearer() {
        assert!(machine(10).drafts(0.7, 1, 32) >= machine(10).drafts(0.7, 8, 32));
    }

    #[test]
    fn nothing_measured_or_only_one_size_is_no_obstacle() {
        assert!(Pace::default().drafts(0.9, 1, 32) > 0);
        let mut pace = Pace::default();
        pace.note(1, Duration::from_millis(10));
        assert!(pace.drafts(0.9, 1, 32) > 0);
        let mut slow = Pace::default();
        slow.note(128, Duration::from_millis(1280));
        slow.note(1, Duration::from_millis(10));
        assert_eq!(slow.drafts(0.9, 1, 32), 0);
    }

    #[test]
    fn a_hiccup_is_not_taken_for_the_pace() {
        let mut pace = machine(10);
        pace.note(1, Duration::from_secs(60));
        assert!(pace.seconds(1) < 0.02, "{}", pace.seconds(1));
    }
}
