//! The whole board on simulated hardware: snapshots in, bytes on the bus, presses back.

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use cerebrum_board::{
    Backend, Board, Button, Command, Page, Snapshot, Stage, Wiring, render,
    samples::{busy, everything, idle},
};

/// Long enough for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_millis(1_000);

struct Rig {
    board: Board,
    snapshot: Arc<Mutex<Snapshot>>,
    commands: Receiver<Command>,
}

impl Rig {
    fn start(snapshot: Snapshot) -> Self {
        let snapshot = Arc::new(Mutex::new(snapshot));
        let (send, commands) = sync_channel(8);
        let source = Arc::clone(&snapshot);
        let wiring = Wiring { backend: Backend::Sim, ..Wiring::default() };
        let latest = move || source.lock().expect("no test panics with it").clone();
        let board =
            Board::start(&wiring, latest, move |command| send.try_send(command).unwrap_or_default()).expect("a thread");
        Self { board, snapshot, commands }
    }

    fn set(&self, snapshot: Snapshot) {
        *self.snapshot.lock().expect("no test panics with it") = snapshot;
    }

    fn now(&self) -> Snapshot {
        self.snapshot.lock().expect("no test panics with it").clone()
    }

    /// Waits until the panel's memory holds this page of the present snapshot, shifted by up to a pixel.
    fn sees(&self, page: Page) -> bool {
        let picture = render(&self.now(), page);
        eventually(|| self.board.sim().panel().frame() == picture && self.board.sim().panel().is_on())
    }
}

fn eventually(happens: impl FnMut() -> bool) -> bool {
    within(PATIENCE, happens)
}

fn within(patience: Duration, mut happens: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < patience {
        if happens() {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}

#[test]
fn the_splash_comes_first_and_the_last_picture_stays() {
    let rig = Rig::start(Snapshot::default());
    assert!(rig.sees(Page::Splash));
    rig.set(idle());
    assert!(rig.sees(Page::Status));
    assert_eq!(rig.board.shown().frame, render(&idle(), Page::Status));
    let sim = rig.board.sim().clone();
    rig.board.stop();
    let stopped = Snapshot { stage: Stage::Stopped, ..idle() };
    assert_eq!(sim.panel().frame(), render(&stopped, Page::Shutdown));
    assert_eq!((sim.panel().is_on(), sim.pin_states()), (true, [false; 4]));
}

#[test]
fn a_press_turns_the_page_on_the_bus() {
    let rig = Rig::start(idle());
    assert!(rig.sees(Page::Status));
    rig.board.press(Button::First, SHORT);
    assert!(rig.sees(Page::Network));
    rig.board.press(Button::Second, SHORT);
    assert!(rig.sees(Page::Status));
}

#[test]
fn a_press_grants_the_key_and_a_long_one_refuses() {
    for (held, command) in [(SHORT, Command::GrantPairing { id: 1 }), (LONG, Command::RefusePairing { id: 1 })] {
        let rig = Rig::start(everything());
        assert!(rig.sees(Page::Pairing));
        // Presses within its first second do nothing.
        let told = (0..20).find_map(|_| {
            rig.board.press(Button::First, held);
            rig.commands.recv_timeout(held + Duration::from_millis(400)).ok()
        });
        assert_eq!(told, Some(command));
    }
}

/// Both buttons are held for this long, until the countdown is seen to begin and to end.
fn both_held(held: Duration) -> Rig {
    let rig = Rig::start(idle());
    assert!(rig.sees(Page::Status));
    rig.board.press_both(held);
    let counts =
        || (1..=10).any(|seconds_left| rig.board.shown().frame == render(&idle(), Page::Reset { seconds_left }));
    assert!(eventually(counts), "it counts");
    assert!(within(held + PATIENCE, || !counts()), "it counts for ever");
    rig
}

#[test]
fn both_held_for_a_moment_do_nothing() {
    let rig = both_held(Duration::from_secs(3));
    assert!(rig.sees(Page::Status));
    assert_eq!(rig.commands.try_iter().collect::<Vec<_>>(), []);
}

#[test]
fn both_held_to_the_end_reset() {
    let rig = both_held(Duration::from_secs(11));
    assert_eq!(rig.commands.recv_timeout(PATIENCE), Ok(Command::FactoryReset));
    // Until they are up again, and whatever that could bring has come.
    thread::sleep(Duration::from_millis(1_500));
    assert_eq!(rig.commands.try_iter().collect::<Vec<_>>(), []);
}

#[test]
fn a_long_press_stops_the_request() {
    let rig = Rig::start(busy());
    assert!(rig.sees(Page::Request));
    rig.board.press(Button::Second, LONG);
    assert_eq!(rig.commands.recv_timeout(PATIENCE), Ok(Command::StopRequest { id: 7 }));
}

#[test]
fn a_panel_that_is_unplugged_comes_back_with_the_present_picture() {
    let rig = Rig::start(idle());
    assert!(rig.sees(Page::Status));
    rig.board.sim().plug_panel(false);
    rig.set(busy());
    assert!(eventually(|| rig.board.shown().frame == render(&busy(), Page::Request)), "the rest goes on");
    rig.board.press(Button::First, SHORT);
    rig.board.sim().plug_panel(true);
    assert!(rig.sees(Page::Network), "the press was seen meanwhile");
}

#[test]
fn without_a_panel_nothing_is_granted() {
    let rig = Rig::start(idle());
    assert!(rig.sees(Page::Status));
    rig.board.sim().plug_panel(false);
    rig.set(everything());
    assert!(eventually(|| rig.board.shown().missing == ["panel"]));
    thread::sleep(Duration::from_millis(1_100));
    rig.board.press(Button::First, SHORT);
    assert_eq!(rig.commands.recv_timeout(Duration::from_millis(600)).ok(), None);
}

#[test]
fn a_countdown_ends_with_its_buttons() {
    let rig = Rig::start(idle());
    assert!(rig.sees(Page::Status));
    rig.board.press_both(Duration::from_secs(9));
    assert!(eventually(|| rig.board.shown().frame == render(&idle(), Page::Reset { seconds_left: 10 })));
    rig.board.sim().plug_pins(false);
    assert!(rig.sees(Page::Status));
}

#[test]
fn lamps_and_buttons_that_are_unplugged_come_back() {
    let rig = Rig::start(idle());
    rig.board.sim().plug_pins(false);
    thread::sleep(Duration::from_millis(200));
    assert!(rig.sees(Page::Status), "the panel does not mind");
    rig.board.sim().plug_pins(true);
    assert!(eventually(|| rig.board.sim().pin_states()[2]), "the upstream lamp is lit again");
    assert!(eventually(|| {
        rig.board.press(Button::First, SHORT);
        thread::sleep(Duration::from_millis(400));
        rig.board.shown().frame != render(&idle(), Page::Status)
    }));
}
