//! Every page of every snapshot is a picture, whatever names, numbers and texts are in it.

use std::time::Duration;

use cerebrum_board::{
    Cause, Counters, Fault, Offers, Page, Pairing, Phase, Request, Savings, Snapshot, Stage, Update, UpdateState,
    UpstreamState, render, samples,
};
use proptest::{num, option, prelude::*, sample::select};

fn times() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_millis)
}

fn requests() -> impl Strategy<Value = Request> {
    let phases = select(vec![Phase::Preparing, Phase::Loading, Phase::Reading, Phase::Generating]);
    let request = |(phase, progress, tokens, tokens_per_second, model)| Request {
        id: 1,
        phase,
        progress,
        tokens,
        tokens_per_second,
        model,
    };
    (phases, num::f32::ANY, any::<u32>(), num::f32::ANY, any::<String>()).prop_map(request)
}

fn updates() -> impl Strategy<Value = Update> {
    let states = (num::f32::ANY, 0_usize..6).prop_map(|(share, kind)| {
        [
            UpdateState::Available,
            UpdateState::Fetching(share),
            UpdateState::Checking,
            UpdateState::Installing(share),
            UpdateState::RestartNeeded,
            UpdateState::Failed,
        ][kind]
    });
    (any::<String>(), states).prop_map(|(version, state)| Update { version, state })
}

fn pairings() -> impl Strategy<Value = Pairing> {
    (any::<String>(), any::<String>(), times(), times()).prop_map(|(client, code, remaining, allowed)| Pairing {
        id: 1,
        client,
        code,
        remaining,
        allowed,
    })
}

fn snapshots() -> impl Strategy<Value = Snapshot> {
    let stages = select(vec![Stage::Starting, Stage::Ready, Stage::Draining, Stage::Halted, Stage::Stopped]);
    let states = select(vec![UpstreamState::Up, UpstreamState::Down, UpstreamState::HalfOpen]);
    let upstreams = prop::collection::vec((any::<String>(), states, option::of(any::<u64>())), 0..6);
    let faults = (select(Cause::ALL.to_vec()), any::<String>()).prop_map(|(cause, message)| Fault { cause, message });
    let texts = (any::<String>(), any::<String>(), prop::collection::vec(any::<std::net::IpAddr>(), 0..5));
    let parts = (option::of(requests()), option::of(updates()), option::of(pairings()), option::of(faults));
    let totals = (any::<[u64; 4]>(), any::<[u64; 3]>(), any::<[u32; 2]>(), times(), any::<[bool; 3]>());
    (stages, upstreams, texts, parts, totals).prop_map(|(stage, upstreams, texts, parts, totals)| {
        let (name, version, addresses) = texts;
        let (request, update, pairing, error) = parts;
        let ([served, failed, refused, tokens], [prompts, before, after], [active, queued], uptime, offers) = totals;
        let [power_off, factory_reset, apply_update] = offers;
        let upstream = |(name, state, trip): (String, _, Option<u64>)| samples::upstream(&name, state, trip);
        Snapshot {
            name,
            version,
            addresses,
            port: queued as _,
            uptime,
            stage,
            request,
            update,
            pairing,
            error,
            active: active as _,
            queued: queued as _,
            upstreams: upstreams.into_iter().map(upstream).collect(),
            counters: Counters { served, failed, refused, tokens },
            savings: Savings { prompts, characters_before: before, characters_after: after, time_saved: uptime },
            offers: Offers { power_off, factory_reset, apply_update },
        }
    })
}

proptest! {
    #[test]
    fn every_page_of_every_snapshot_is_a_picture_with_a_dark_border(snapshot in snapshots(), seconds_left in any::<u8>()) {
        let others = [
            Page::Splash,
            Page::Pairing,
            Page::Update,
            Page::Error,
            Page::ConfirmPowerOff,
            Page::Reset { seconds_left },
            Page::Shutdown,
        ];
        for page in Page::ROTATION.into_iter().chain(others) {
            let frame = render(&snapshot, page);
            let border = (0..128).flat_map(|x| [(x, 0), (x, 63)]).chain((0..64).flat_map(|y| [(0, y), (127, y)]));
            for (x, y) in border {
                prop_assert!(!frame.lit(x, y), "{page:?}: pixel {x},{y}");
            }
        }
    }
}
