//! Snapshots of an appliance in various states, for tests, for the golden pictures and for the pictures in the README.
//!
//! Owns made-up values only; no program shows them to a person as if they were measured.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use crate::snapshot::{
    Cause, Counters, Fault, Offers, Pairing, Phase, Request, Savings, Snapshot, Stage, Update, UpdateState, Upstream,
    UpstreamState,
};

/// Ready, nothing to do.
#[must_use]
pub fn idle() -> Snapshot {
    Snapshot {
        version: "0.1.0".to_owned(),
        addresses: vec![
            IpAddr::V4(Ipv4Addr::new(192, 168, 1, 40)),
            IpAddr::V6(Ipv6Addr::new(0xfd12, 0, 0, 0, 0, 0, 0, 0x40)),
        ],
        uptime: Duration::from_secs(273_840),
        stage: Stage::Ready,
        upstreams: vec![
            upstream("vps", UpstreamState::Up, Some(38)),
            upstream("office", UpstreamState::HalfOpen, Some(112)),
            upstream("local", UpstreamState::Down, None),
        ],
        savings: Savings {
            prompts: 1_204,
            characters_before: 8_344_120,
            characters_after: 3_112_004,
            time_saved: Duration::from_secs(11_530),
        },
        counters: Counters { served: 1_204, failed: 3, refused: 12, tokens: 241_220 },
        offers: Offers::ALL,
        ..Snapshot::default()
    }
}

/// Generating an answer while a second request waits.
#[must_use]
pub fn busy() -> Snapshot {
    Snapshot { active: 1, queued: 1, request: Some(request(Phase::Generating, 0.25, 129, 1.4)), ..idle() }
}

/// One of everything: each page has content.
#[must_use]
pub fn everything() -> Snapshot {
    Snapshot {
        pairing: Some(Pairing {
            id: 1,
            client: "Anna's laptop".to_owned(),
            code: "482 913".to_owned(),
            remaining: Duration::from_secs(42),
            allowed: Duration::from_secs(60),
        }),
        update: Some(Update { version: "0.2.0".to_owned(), state: UpdateState::Available }),
        error: Some(problem(1)),
        ..busy()
    }
}

/// The longest names, IPv6 without gaps, a million tokens, foreign letters.
#[must_use]
pub fn longest() -> Snapshot {
    let long = "a-very-long-name-that-nobody-would-choose-but-somebody-will.example.internal";
    let address = Ipv6Addr::new(0xfd12, 0x3456, 0x789a, 0xbcde, 0xf012, 0x3456, 0x789a, 0xbcde);
    Snapshot {
        name: long.to_owned(),
        version: "10.20.30-rc.40+20261121".to_owned(),
        addresses: vec![IpAddr::V6(address), IpAddr::V4(Ipv4Addr::new(192, 168, 100, 200))],
        port: 65_535,
        uptime: Duration::from_secs(400 * 86_400),
        active: 999,
        queued: 999,
        request: Some(Request { model: long.to_owned(), ..request(Phase::Generating, 1.0, 1_000_000, 12_345.6) }),
        upstreams: (0..5).map(|_| upstream(long, UpstreamState::Up, Some(9_999))).collect(),
        savings: Savings {
            prompts: 9_999_999,
            characters_before: u64::MAX,
            characters_after: 0,
            time_saved: Duration::from_secs(u64::from(u32::MAX)),
        },
        counters: Counters { served: u64::MAX, failed: u64::MAX, refused: u64::MAX, tokens: u64::MAX },
        pairing: Some(Pairing {
            id: 2,
            client: format!("Jürgen\n\u{1b}[2J {long}"),
            code: "WWWW-WWWW".to_owned(),
            remaining: Duration::from_secs(60),
            allowed: Duration::from_secs(60),
        }),
        update: Some(Update { version: "10.20.30-rc.40+20261121".to_owned(), state: UpdateState::Installing(0.99) }),
        // Whoever says what is wrong shortens the name; else nothing of it would be left here.
        error: Some(Fault {
            cause: Cause::Overloaded,
            message: "a-very-long... takes no requests: other programs use its processor or memory.".to_owned(),
        }),
        ..idle()
    }
}

/// What can be wrong, in the appliance's own words, each with a name of its picture. A test of the appliance holds them to what
/// it says.
pub const PROBLEMS: [(&str, Cause, &str); 12] = [
    ("unplugged", Cause::Network, "No network address. Is the cable plugged in?"),
    ("alone", Cause::Upstream, "No inference server can be reached. Is it on, and the network up?"),
    ("failing", Cause::Upstream, "No inference server answers requests. What does its log say?"),
    ("overloaded", Cause::Overloaded, "vps takes no requests: other programs use its processor or memory."),
    ("their-certificate", Cause::Certificate, "vps's certificate is refused: wrong name, too old, or not ours."),
    ("our-certificate", Cause::Certificate, "vps refuses our certificate. Renew it there."),
    ("key", Cause::Key, "vps refuses our key. Add it there anew."),
    ("clock", Cause::Clock, "vps's certificate is not valid yet. Is the clock set?"),
    ("keys", Cause::Storage, "Keys cannot be read or saved. Is the storage full or damaged?"),
    ("hot", Cause::Power, "Too hot: it slows down. Does air reach it?"),
    ("low-voltage", Cause::Power, "The supply voltage is too low. Try a stronger power supply."),
    (
        "settings",
        Cause::Settings,
        "cerebrum.toml: found no such file on the boot partition, expected one as cerebrum.toml.example shows",
    ),
];

/// One of [`PROBLEMS`].
#[must_use]
pub fn problem(index: usize) -> Fault {
    let (_, cause, message) = PROBLEMS[index];
    Fault { cause, message: message.to_owned() }
}

/// A request in a given phase.
#[must_use]
pub fn request(phase: Phase, progress: f32, tokens: u32, tokens_per_second: f32) -> Request {
    Request { id: 7, phase, progress, tokens, tokens_per_second, model: "qwen_7b".to_owned() }
}

/// An upstream with its round trip in milliseconds.
#[must_use]
pub fn upstream(name: &str, state: UpstreamState, millis: Option<u64>) -> Upstream {
    Upstream { name: name.to_owned(), state, round_trip: millis.map(Duration::from_millis) }
}
