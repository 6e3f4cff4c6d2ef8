//! Numbers and times as short words.
//!
//! Pure; never rounds a count that fits, never prints more than nine letters.

use std::time::Duration;

/// A count with thousands separated; from ten million on with one decimal of the next unit.
pub(super) fn count(number: u64) -> String {
    match number {
        0..10_000_000 => grouped(number),
        _ => scaled(number),
    }
}

/// A count in at most six letters, from ten thousand on with one decimal of the next unit.
pub(super) fn brief(number: u64) -> String {
    match number {
        0..10_000 => grouped(number),
        _ => scaled(number),
    }
}

fn scaled(number: u64) -> String {
    let units = [(1e18, 'E'), (1e15, 'P'), (1e12, 'T'), (1e9, 'G'), (1e6, 'M')];
    let number = number as f64;
    let (size, unit) = units.into_iter().find(|(size, _)| number >= *size).unwrap_or((1e3, 'k'));
    format!("{:.1}{unit}", number / size)
}

fn grouped(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1_000), number % 1_000),
    }
}

/// A length of time in its two largest units.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {} m", minutes % 60),
        (1..100, _, _) => format!("{days} d {} h", hours % 24),
        _ => format!("{days} d"),
    }
}

/// A round trip, in milliseconds up to ten seconds.
pub(super) fn round_trip(time: Duration) -> String {
    match time.as_millis() {
        0 => "<1 ms".to_owned(),
        millis @ 1..10_000 => format!("{millis} ms"),
        _ => format!("{} s", time.as_secs()),
    }
}

/// Tokens per second: a decimal while slow, none from a hundred on.
pub(super) fn rate(tokens_per_second: f32) -> String {
    match tokens_per_second {
        rate if !rate.is_finite() || rate < 0.0 => "0.0/s".to_owned(),
        rate if rate < 99.95 => format!("{rate:.1}/s"),
        rate => format!("{}/s", count(rate.round() as u64)),
    }
}

/// A share of a whole in percent, rounded down so that 100 % means all; 0 of 0 is 0 %.
pub(super) fn percent(part: u64, whole: u64) -> u64 {
    let share = u128::from(part) * 100 / u128::from(whole.max(1));
    u64::try_from(share.min(100)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        let table = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_000_000, "1,000,000"), (9_999_999, "9,999,999")];
        table.into_iter().for_each(|(number, text)| assert_eq!(count(number), text));
        assert_eq!(count(12_345_678), "12.3M");
        assert_eq!(count(98_765_432_100), "98.8G");
        assert_eq!(count(u64::MAX), "18.4E");
        assert_eq!((brief(9_999), brief(10_000), brief(8_344_120)), ("9,999".into(), "10.0k".into(), "8.3M".into()));
    }

    #[test]
    fn spans() {
        let table =
            [(0, "0 s"), (59, "59 s"), (61, "1 min"), (3_600, "1 h 0 m"), (90_000, "1 d 1 h"), (9e6 as u64, "104 d")];
        table.into_iter().for_each(|(seconds, text)| assert_eq!(span(Duration::from_secs(seconds)), text));
    }

    #[test]
    fn round_trips_and_rates() {
        assert_eq!(round_trip(Duration::from_micros(300)), "<1 ms");
        assert_eq!(round_trip(Duration::from_millis(9_999)), "9999 ms");
        assert_eq!(round_trip(Duration::from_secs(12)), "12 s");
        let table = [(0.0, "0.0/s"), (1.44, "1.4/s"), (99.94, "99.9/s"), (1_234.0, "1,234/s"), (f32::NAN, "0.0/s")];
        table.into_iter().for_each(|(number, text)| assert_eq!(rate(number), text));
    }

    #[test]
    fn shares() {
        assert_eq!((percent(0, 0), percent(1, 3), percent(3, 3), percent(u64::MAX, u64::MAX)), (0, 33, 100, 100));
    }
}
