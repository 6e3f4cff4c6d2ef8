//! Every page in every state, as it was when a person last looked at it.
//!
//! A picture that differs from its file fails. After a wanted change delete the files in `tests/pictures`, run again (missing
//! files are written, and the run fails once), and look at every PNG before committing.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    time::Duration,
};

use cerebrum_board::{
    Cause, Offers, Page, Pairing, Phase, Request, Savings, Snapshot, Stage, Update, UpdateState, UpstreamState, render,
    samples::{PROBLEMS, busy, everything, idle, longest, problem, request, upstream},
};

const SCALE: u32 = 4;

#[test]
fn every_page_looks_as_reviewed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures");
    let cases = cases();
    assert!(cases.len() >= 40, "pictures have gone missing from the list");
    let wrong: Vec<String> = cases.iter().filter_map(|case| difference(&folder, case)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_picture_is_left_over() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures");
    let known: Vec<String> = cases().into_iter().map(|case| case.0).collect();
    for file in fs::read_dir(&folder).expect("the folder of pictures") {
        let path = file.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(known.contains(&name), "{} belongs to no case", path.display());
    }
}

#[test]
fn the_outermost_pixels_stay_dark_for_the_shift() {
    for (name, snapshot, page) in cases().into_iter().filter(|case| case.2 != Page::Test) {
        let frame = render(&snapshot, page);
        let edge = (0..128).flat_map(|x| [(x, 0), (x, 63)]).chain((0..64).flat_map(|y| [(0, y), (127, y)]));
        for (x, y) in edge {
            assert!(!frame.lit(x, y), "{name}: pixel {x},{y} is lit");
        }
    }
}

type Case = (String, Snapshot, Page);

/// What differs from the files, in a sentence; `None` when nothing does.
fn difference(folder: &Path, (name, snapshot, page): &Case) -> Option<String> {
    let frame = render(snapshot, *page);
    let (text, picture) = (folder.join(format!("{name}.txt")), folder.join(format!("{name}.png")));
    if !text.exists() || !picture.exists() {
        fs::create_dir_all(folder).expect("the folder of pictures");
        fs::write(&text, frame.to_ascii()).expect("the text is written");
        fs::write(&picture, frame.to_png(SCALE)).expect("the picture is written");
        return Some(format!("{name}: was missing and has been written; look at it"));
    }
    let same = fs::read_to_string(&text).expect("the text") == frame.to_ascii()
        && fs::read(&picture).expect("the picture") == frame.to_png(SCALE);
    (!same).then(|| format!("{name}: differs from its file, now\n{}", frame.to_terminal()))
}

fn cases() -> Vec<Case> {
    let pages = [status(), requests(), networks(), servers(), savings(), pairings(), updates(), rest()].concat();
    pages.into_iter().map(|(name, snapshot, page)| (name.to_owned(), snapshot, page)).chain(problems()).collect()
}

/// Those of the settings come where nothing else is shown.
fn problems() -> impl Iterator<Item = Case> {
    PROBLEMS.iter().enumerate().map(|(index, (name, cause, _))| {
        let stage = if *cause == Cause::Settings { Stage::Halted } else { Stage::Ready };
        (format!("problem-{name}"), Snapshot { error: Some(problem(index)), stage, ..idle() }, Page::Error)
    })
}

type Named = (&'static str, Snapshot, Page);

fn status() -> Vec<Named> {
    let stage = |stage| Snapshot { stage, ..idle() };
    vec![
        ("status-ready", idle(), Page::Status),
        ("status-working", busy(), Page::Status),
        ("status-starting", stage(Stage::Starting), Page::Status),
        ("status-stopping", stage(Stage::Draining), Page::Status),
        ("status-stopped", stage(Stage::Stopped), Page::Status),
        ("status-no-server", Snapshot { upstreams: Vec::new(), ..idle() }, Page::Status),
        ("status-longest", longest(), Page::Status),
        ("status-unknown", Snapshot { version: "0.1.0".to_owned(), ..Snapshot::default() }, Page::Status),
    ]
}

fn requests() -> Vec<Named> {
    let in_phase = |phase, progress, tokens, rate| Snapshot {
        request: Some(request(phase, progress, tokens, rate)),
        active: 1,
        ..idle()
    };
    let unsent = Request { model: String::new(), ..request(Phase::Preparing, 0.0, 0, 0.0) };
    let preparing = Snapshot { request: Some(unsent), active: 1, ..idle() };
    vec![
        ("request-none", idle(), Page::Request),
        ("request-preparing", preparing, Page::Request),
        ("request-loading", in_phase(Phase::Loading, 0.7, 0, 0.0), Page::Request),
        ("request-reading", in_phase(Phase::Reading, 0.35, 0, 0.0), Page::Request),
        ("request-generating-0", in_phase(Phase::Generating, 0.0, 0, 0.0), Page::Request),
        ("request-generating", busy(), Page::Request),
        ("request-generating-million", in_phase(Phase::Generating, 1.0, 1_000_000, 99.9), Page::Request),
        ("request-longest", longest(), Page::Request),
    ]
}

fn networks() -> Vec<Named> {
    let with = |addresses| Snapshot { addresses, ..idle() };
    let short = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
    let full = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x85a3, 0x1234, 0x5678, 0x8a2e, 0xdef0, 0x7334));
    vec![
        ("network", idle(), Page::Network),
        ("network-none", with(Vec::new()), Page::Network),
        ("network-ipv4", with(vec![short]), Page::Network),
        ("network-ipv4-ipv6", with(vec![short, full]), Page::Network),
        ("network-ipv6", with(vec![full]), Page::Network),
        ("network-longest", longest(), Page::Network),
    ]
}

fn servers() -> Vec<Named> {
    let with = |upstreams| Snapshot { upstreams, ..idle() };
    let up = |name| upstream(name, UpstreamState::Up, Some(38));
    vec![
        ("servers", idle(), Page::Upstreams),
        ("servers-none", with(Vec::new()), Page::Upstreams),
        ("servers-one", with(vec![up("vps")]), Page::Upstreams),
        ("servers-one-down", with(vec![upstream("vps", UpstreamState::Down, None)]), Page::Upstreams),
        (
            "servers-five",
            with(vec![up("a"), up("b"), up("c"), up("d"), upstream("e", UpstreamState::Down, None)]),
            Page::Upstreams,
        ),
        ("servers-longest", longest(), Page::Upstreams),
    ]
}

fn savings() -> Vec<Named> {
    let none = Snapshot { savings: Savings::default(), ..idle() };
    vec![
        ("saved", idle(), Page::Savings),
        ("saved-nothing", none, Page::Savings),
        ("saved-longest", longest(), Page::Savings),
    ]
}

fn pairings() -> Vec<Named> {
    let asking = |client: &str, code: &str| Snapshot {
        pairing: Some(Pairing {
            id: 1,
            client: client.to_owned(),
            code: code.to_owned(),
            remaining: Duration::from_secs(5),
            allowed: Duration::from_secs(60),
        }),
        ..idle()
    };
    vec![
        ("pairing", everything(), Page::Pairing),
        ("pairing-none", idle(), Page::Pairing),
        ("pairing-nameless", asking("", "000 000"), Page::Pairing),
        ("pairing-longest", longest(), Page::Pairing),
    ]
}

fn updates() -> Vec<Named> {
    let in_state = |state| Snapshot { update: Some(Update { version: "0.2.0".to_owned(), state }), ..idle() };
    let unoffered = Snapshot { offers: Offers::default(), ..in_state(UpdateState::Available) };
    vec![
        ("update-none", idle(), Page::Update),
        ("update-available", in_state(UpdateState::Available), Page::Update),
        ("update-fetching", in_state(UpdateState::Fetching(0.4)), Page::Update),
        ("update-checking", in_state(UpdateState::Checking), Page::Update),
        ("update-installing", in_state(UpdateState::Installing(0.8)), Page::Update),
        ("update-restart", in_state(UpdateState::RestartNeeded), Page::Update),
        ("update-not-offered", unoffered, Page::Update),
        ("update-failed", in_state(UpdateState::Failed), Page::Update),
        ("update-longest", longest(), Page::Update),
    ]
}

fn rest() -> Vec<Named> {
    let stage = |stage, active| Snapshot { stage, active, ..idle() };
    let update = Some(Update { version: "0.2.0".to_owned(), state: UpdateState::Installing(0.8) });
    let installing = Snapshot { update, ..idle() };
    vec![
        ("error-none", idle(), Page::Error),
        ("error-longest", longest(), Page::Error),
        ("splash", Snapshot { version: "0.1.0".to_owned(), ..Snapshot::default() }, Page::Splash),
        ("splash-longest", longest(), Page::Splash),
        ("power-off", idle(), Page::ConfirmPowerOff),
        ("power-off-installing", installing, Page::ConfirmPowerOff),
        ("reset-10", idle(), Page::Reset { seconds_left: 10 }),
        ("reset-1", idle(), Page::Reset { seconds_left: 1 }),
        ("shutdown-draining", stage(Stage::Draining, 2), Page::Shutdown),
        ("shutdown-draining-last", stage(Stage::Draining, 1), Page::Shutdown),
        ("shutdown-almost", stage(Stage::Draining, 0), Page::Shutdown),
        ("shutdown-stopped", stage(Stage::Stopped, 0), Page::Shutdown),
        ("shutdown-longest", Snapshot { stage: Stage::Stopped, ..longest() }, Page::Shutdown),
        ("test-pattern", idle(), Page::Test),
    ]
}
