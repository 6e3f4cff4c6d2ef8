//! What the four lamps say, without a word being read.
//!
//! Owns the patterns: `lamps` is pure and total over every snapshot and every moment. It never switches a pin; `lights` does.
//!
//! | lamp | pattern | meaning |
//! |---|---|---|
//! | ready | breathing | ready |
//! | ready | slow blink | starting |
//! | ready | fast blink | stopping |
//! | ready | dark | no settings: nothing is served |
//! | ready and upstream | in turns | a client waits for a press |
//! | activity | fast blink | generating |
//! | activity | slow blink | preparing, loading or reading the prompt |
//! | upstream | steady | every inference server answers |
//! | upstream | short gaps | some do not |
//! | upstream | slow blink | none does, one is being probed |
//! | error | long and short blinks, a pause | see `Cause` |

use std::{f32::consts::TAU, time::Duration};

use crate::snapshot::{Blinks, Cause, Phase, Snapshot, Stage, UpstreamState};

/// Brightness of each lamp, 0 (dark) to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lamps {
    /// Power and readiness (green).
    pub ready: u8,
    /// Requests in progress (blue or white).
    pub activity: u8,
    /// Inference servers (yellow).
    pub upstream: u8,
    /// Something a person can mend (red).
    pub error: u8,
}

const FAST_MS: u128 = 200;
const SLOW_MS: u128 = 1_000;
const BREATH_MS: u128 = 4_000;
/// A breath never goes fully dark: a dark lamp would look like a dead appliance.
const BREATH_LOWEST: f32 = 8.0;
const GAP_ROUND_MS: u128 = 2_000;
const GAP_MS: u128 = 150;
const ERROR_BLINK_MS: u128 = 400;
/// Five times as long lit as a short one: nobody takes one for the other.
const LONG_BLINK_MS: u128 = 1_200;
const ERROR_PAUSE_MS: u128 = 1_600;

/// The lamps `at` some moment of a clock that only goes forward.
#[must_use]
pub fn lamps(snapshot: &Snapshot, at: Duration) -> Lamps {
    let millis = at.as_millis();
    let waiting = snapshot.pairing.is_some();
    Lamps {
        ready: if waiting { blink(millis, SLOW_MS) } else { ready(snapshot.stage, millis) },
        activity: activity(snapshot, millis),
        upstream: if waiting { !blink(millis, SLOW_MS) } else { upstream(snapshot, millis) },
        error: snapshot.error.as_ref().map_or(0, |fault| error(fault.cause, millis)),
    }
}

fn ready(stage: Stage, millis: u128) -> u8 {
    match stage {
        Stage::Starting => blink(millis, SLOW_MS),
        Stage::Ready => breath(millis),
        Stage::Draining => blink(millis, FAST_MS),
        Stage::Halted | Stage::Stopped => 0,
    }
}

fn activity(snapshot: &Snapshot, millis: u128) -> u8 {
    match snapshot.request.as_ref().map(|request| request.phase) {
        Some(Phase::Generating) => blink(millis, FAST_MS),
        Some(Phase::Preparing | Phase::Loading | Phase::Reading) => blink(millis, SLOW_MS),
        None if snapshot.active > 0 => blink(millis, SLOW_MS),
        None => 0,
    }
}

fn upstream(snapshot: &Snapshot, millis: u128) -> u8 {
    let any = |state| snapshot.upstreams.iter().any(|upstream| upstream.state == state);
    match (any(UpstreamState::Up), any(UpstreamState::HalfOpen), any(UpstreamState::Down)) {
        (true, false, false) => u8::MAX,
        (true, _, _) => lit(millis % GAP_ROUND_MS >= GAP_MS),
        (false, true, _) => blink(millis, SLOW_MS),
        (false, false, _) => 0,
    }
}

/// Long blinks, short blinks, a pause.
fn error(cause: Cause, millis: u128) -> u8 {
    let Blinks { long, short } = cause.blinks();
    let (long, short) = (u128::from(long) * LONG_BLINK_MS, u128::from(short) * ERROR_BLINK_MS);
    let now = millis % (long + short + ERROR_PAUSE_MS);
    if now < long {
        return lit(now % LONG_BLINK_MS < LONG_BLINK_MS - ERROR_BLINK_MS / 2);
    }
    lit(now < long + short && (now - long) % ERROR_BLINK_MS < ERROR_BLINK_MS / 2)
}

fn blink(millis: u128, round: u128) -> u8 {
    lit(millis % round < round / 2)
}

fn lit(on: bool) -> u8 {
    if on { u8::MAX } else { 0 }
}

/// A raised cosine, squared because the eye sees brightness on a curve.
fn breath(millis: u128) -> u8 {
    let turn = (millis % BREATH_MS) as f32 / BREATH_MS as f32;
    let height = (1.0 - (turn * TAU).cos()) / 2.0;
    (BREATH_LOWEST + (255.0 - BREATH_LOWEST) * height * height) as u8
}

impl Lamps {
    /// Every lamp at full brightness: the lamp test.
    pub const ALL: Self = Self { ready: 255, activity: 255, upstream: 255, error: 255 };

    /// One lamp after the other, by name.
    pub const EACH: [(&str, Self); 4] = [
        ("ready", Self { ready: 255, ..Self::NONE }),
        ("activity", Self { activity: 255, ..Self::NONE }),
        ("upstream", Self { upstream: 255, ..Self::NONE }),
        ("error", Self { error: 255, ..Self::NONE }),
    ];

    const NONE: Self = Self { ready: 0, activity: 0, upstream: 0, error: 0 };

    /// The brightness of the lamps in the order ready, activity, upstream, error.
    #[must_use]
    pub const fn levels(self) -> [u8; 4] {
        [self.ready, self.activity, self.upstream, self.error]
    }

    /// One line per lamp, each with a mark for its brightness.
    #[must_use]
    pub fn to_terminal(self) -> String {
        let names = ["ready", "activity", "upstream", "error"];
        names.iter().zip(self.levels()).map(|(name, level)| format!("{} {name}\n", glow(level))).collect()
    }
}

fn glow(level: u8) -> char {
    match level {
        0..=15 => '○',
        16..=160 => '◐',
        161..=255 => '●',
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        samples,
        snapshot::{Fault, Stage},
    };

    /// Times that the lamp goes on within `millis`, sampled every 10 ms.
    fn flashes(snapshot: &Snapshot, lamp: usize, millis: u64) -> usize {
        let levels = (0..millis).step_by(10).map(|at| lamps(snapshot, Duration::from_millis(at)).levels()[lamp]);
        let levels: Vec<u8> = std::iter::once(0).chain(levels).collect();
        levels.windows(2).filter(|pair| pair[0] == 0 && pair[1] > 0).count()
    }

    /// How long the error lamp is lit each time, in a round of a cause, sampled every 10 ms.
    fn blinks(cause: Cause) -> Vec<u64> {
        let snapshot = Snapshot { error: Some(Fault { cause, message: String::new() }), ..samples::idle() };
        let Blinks { long, short } = cause.blinks();
        let round = u64::from(long) * 1_200 + u64::from(short) * 400 + 1_600;
        let lit = |at| lamps(&snapshot, Duration::from_millis(at)).error > 0;
        let mut blinks = Vec::new();
        for at in (0..round).step_by(10).filter(|&at| lit(at)) {
            match blinks.last_mut().filter(|_| at > 0 && lit(at - 10)) {
                Some(time) => *time += 10,
                None => blinks.push(10),
            }
        }
        assert!(!lit(round - 1_500) && !lit(round - 10), "{cause:?}: no pause");
        blinks
    }

    #[test]
    fn each_cause_blinks_in_its_own_way() {
        let mut seen = Vec::new();
        for cause in Cause::ALL {
            let Blinks { long, short } = cause.blinks();
            let wanted = [vec![1_000; long as usize], vec![200; short as usize]].concat();
            assert_eq!(blinks(cause), wanted, "{cause:?}");
            assert!(long <= 2 && short <= 3, "{cause:?} cannot be counted at a glance");
            assert!(!seen.contains(&wanted), "{cause:?} looks like another");
            seen.push(wanted);
        }
    }

    #[test]
    fn the_ready_lamp_tells_the_stages_apart() {
        let at = |stage| Snapshot { stage, ..samples::idle() };
        assert_eq!(flashes(&at(Stage::Starting), 0, 4_000), 4);
        assert_eq!(flashes(&at(Stage::Ready), 0, 4_000), 1, "breathing never goes dark");
        assert_eq!(flashes(&at(Stage::Draining), 0, 4_000), 20);
        assert_eq!(flashes(&at(Stage::Stopped), 0, 4_000), 0);
    }

    #[test]
    fn generating_blinks_fast_and_reading_slowly() {
        let in_phase = |phase| Snapshot { request: Some(samples::request(phase, 0.5, 0, 0.0)), ..samples::idle() };
        assert_eq!(flashes(&in_phase(Phase::Generating), 1, 2_000), 10);
        assert_eq!(flashes(&in_phase(Phase::Reading), 1, 2_000), 2);
        assert_eq!(flashes(&samples::idle(), 1, 2_000), 0);
    }

    #[test]
    fn the_upstream_lamp_counts_those_that_answer() {
        let with = |states: &[UpstreamState]| Snapshot {
            upstreams: states.iter().map(|&state| samples::upstream("x", state, None)).collect(),
            ..samples::idle()
        };
        assert_eq!(lamps(&with(&[UpstreamState::Up]), Duration::ZERO).upstream, 255);
        assert_eq!(flashes(&with(&[UpstreamState::Up, UpstreamState::Down]), 2, 4_000), 2);
        assert_eq!(flashes(&with(&[UpstreamState::HalfOpen]), 2, 4_000), 4);
        assert_eq!(flashes(&with(&[UpstreamState::Down]), 2, 4_000), 0);
        assert_eq!(flashes(&with(&[]), 2, 4_000), 0);
    }

    proptest! {
        #[test]
        fn every_moment_has_a_pattern(at in any::<u64>(), full in any::<bool>()) {
            let snapshot = if full { samples::longest() } else { Snapshot::default() };
            let shown = lamps(&snapshot, Duration::from_micros(at));
            prop_assert_eq!(shown.to_terminal().lines().count(), 4);
        }
    }
}
