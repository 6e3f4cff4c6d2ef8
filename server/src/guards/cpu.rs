//! How much of the processors other programs use, from two samples. Pure.

use std::time::Duration;

/// One look at the processors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Use of all processors together since the sample before, in percent.
    pub busy_percent: f32,
    /// Processor time this program has used since it began.
    pub own: Duration,
    /// When, counted from any fixed moment.
    pub at: Duration,
}

/// The share of all `processors` that other programs used between two samples, in percent.
pub fn others_percent(before: &Sample, now: &Sample, processors: usize) -> f32 {
    let elapsed = now.at.saturating_sub(before.at).as_secs_f32();
    if elapsed <= 0.0 {
        return 0.0;
    }
    let own = now.own.saturating_sub(before.own).as_secs_f32();
    let own_percent = 100.0 * own / (elapsed * processors.max(1) as f32);
    // The two clocks tick differently, so the difference can be a little out of range.
    (now.busy_percent - own_percent).clamp(0.0, 100.0)
}

/// Weight of the newest sample: with one a second, a burst of a second or two refuses nobody and a steady load is seen in about five.
const NEWEST: f32 = 0.3;

/// The running mean after one more sample.
pub fn smoothed(mean: f32, sample: f32) -> f32 {
    mean + NEWEST * (sample - mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(busy_percent: f32, own_ms: u64, at_ms: u64) -> Sample {
        Sample { busy_percent, own: Duration::from_millis(own_ms), at: Duration::from_millis(at_ms) }
    }

    #[test]
    fn own_use_is_subtracted() {
        // Busy in all, own time within one second, processors: others.
        let cases = [
            (100.0, 2000, 2, 0.0),
            (100.0, 1000, 2, 50.0),
            (100.0, 0, 2, 100.0),
            (50.0, 1000, 2, 0.0),
            (80.0, 1000, 4, 55.0),
            (10.0, 500, 1, 0.0), // never negative
        ];
        for (busy, own, processors, expected) in cases {
            let found = others_percent(&sample(0.0, 5000, 1000), &sample(busy, 5000 + own, 2000), processors);
            assert!((found - expected).abs() < 0.01, "{busy} {own} {processors}: {found}");
        }
    }

    #[test]
    fn no_time_between_two_samples_says_nothing() {
        assert_eq!(others_percent(&sample(0.0, 0, 10), &sample(100.0, 0, 10), 2), 0.0);
        assert_eq!(others_percent(&sample(0.0, 0, 10), &sample(100.0, 0, 5), 2), 0.0);
    }

    #[test]
    fn a_burst_refuses_nobody_and_a_steady_load_is_seen() {
        let after = |seconds: usize| (0..seconds).fold(0.0, |mean, _| smoothed(mean, 100.0));
        assert!(after(2) < 70.0);
        assert!(after(5) > 70.0);
    }
}
