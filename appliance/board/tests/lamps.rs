//! The lamps over every kind of snapshot and every moment: each has a pattern, and none is silent where it should speak.

use std::time::Duration;

use cerebrum_board::{Cause, Fault, Phase, Snapshot, Stage, UpstreamState, lamps, samples};
use proptest::{option, prelude::*, sample::select};

fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let stages = select(vec![Stage::Starting, Stage::Ready, Stage::Draining, Stage::Halted, Stage::Stopped]);
    let phases = select(vec![Phase::Preparing, Phase::Loading, Phase::Reading, Phase::Generating]);
    let states = select(vec![UpstreamState::Up, UpstreamState::Down, UpstreamState::HalfOpen]);
    let causes = option::of(select(Cause::ALL.to_vec()));
    let upstreams = prop::collection::vec(states, 0..4);
    (stages, option::of(phases), upstreams, causes, any::<bool>(), 0_u32..3).prop_map(
        |(stage, phase, upstreams, cause, pairing, active)| Snapshot {
            stage,
            active,
            request: phase.map(|phase| samples::request(phase, 0.5, 3, 1.0)),
            upstreams: upstreams.into_iter().map(|state| samples::upstream("x", state, None)).collect(),
            error: cause.map(|cause| Fault { cause, message: String::new() }),
            pairing: samples::everything().pairing.filter(|_| pairing),
            ..samples::idle()
        },
    )
}

/// More than the longest round of any pattern: two long blinks, three short ones, a pause.
const ROUND_MS: u64 = 6_000;

proptest! {
    #[test]
    fn every_snapshot_has_a_pattern_at_every_moment(snapshot in any_snapshot(), start in 0..u64::MAX / 2) {
        let levels = |at: u64| lamps(&snapshot, Duration::from_millis(start / 1_000 + at)).levels();
        let seen: Vec<[u8; 4]> = (0..ROUND_MS).step_by(20).map(levels).collect();
        let shines = |lamp: usize| seen.iter().any(|levels| levels[lamp] > 0);
        let waits = snapshot.pairing.is_some();
        prop_assert_eq!(shines(0), ![Stage::Halted, Stage::Stopped].contains(&snapshot.stage) || waits, "ready");
        prop_assert_eq!(shines(1), snapshot.request.is_some() || snapshot.active > 0, "activity");
        let lives = snapshot.upstreams.iter().any(|upstream| upstream.state != UpstreamState::Down);
        prop_assert_eq!(shines(2), lives || waits, "upstream");
        prop_assert_eq!(shines(3), snapshot.error.is_some(), "error");
        let pauses = seen.iter().any(|levels| levels[3] == 0);
        prop_assert!(pauses, "an error lamp that never pauses cannot be counted");
    }
}
