//! The board's own thread.
//!
//! Owns the loop: take the snapshot, wait for edges, decide, draw what changed, light the lamps. It holds no policy (that is
//! `desk`, `screen`, `lamps`) and nothing waits for it: snapshots are fetched and commands handed over without blocking, so a
//! dead bus cannot slow a request.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    Command, Frame, Lamps, Page, Snapshot, Stage,
    backend::{self, Parts, sim::SimBoard},
    buttons::{Button, Buttons, Press},
    desk::{Desk, Light, View},
    lamps, picture,
    ports::Clock,
    render,
    wiring::{Backend, Wiring},
};

/// How often lamps and picture are looked at: 25 times a second is smooth for a breathing lamp, and half of it is asleep.
const TICK: Duration = Duration::from_millis(40);
/// How often the panel is set up anew and sent in full: it may have lost its power for a moment, which the bus does not tell.
const REFRESH: Duration = Duration::from_secs(30);

/// What can be seen on the board now, whether or not the parts are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The picture, before the shift against burn-in.
    pub frame: Frame,
    /// The lamps.
    pub lamps: Lamps,
    /// How bright the panel is.
    pub light: Light,
    /// Parts that do not answer.
    pub missing: Vec<&'static str>,
}

impl Shown {
    /// Panel and lamps beside each other, in 78 columns.
    #[must_use]
    pub fn to_terminal(&self) -> String {
        picture::beside(&self.frame.to_terminal(), &self.lamps.to_terminal())
    }
}

/// A running board; dropping it stops it.
pub struct Board {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    backend: Backend,
    sim: SimBoard,
}

/// What a board consists of.
const PARTS: [&str; 3] = ["panel", "lamps", "buttons"];

struct Shared {
    stop: AtomicBool,
    shown: Mutex<Shown>,
}

impl Board {
    /// Starts the thread; the splash is on its way when this returns.
    ///
    /// `latest` gives the newest snapshot, and `send` takes a command; both are called on the board's thread and must not
    /// block (look at a status behind a lock, try to send on a bounded one).
    ///
    /// # Errors
    /// The thread could not be started. Missing parts are no error: they are warned of once and tried again.
    pub fn start(
        wiring: &Wiring,
        latest: impl FnMut() -> Snapshot + Send + 'static,
        send: impl FnMut(Command) + Send + 'static,
    ) -> io::Result<Self> {
        let (backend, why) = backend::choose(wiring);
        tracing::info!(%backend, why, "the board's backend");
        let sim = SimBoard::new();
        let dark = Shown { frame: Frame::dark(), lamps: Lamps::default(), light: Light::Bright, missing: Vec::new() };
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), shown: Mutex::new(dark) });
        let worker = Worker {
            parts: backend::parts(backend, wiring, &sim),
            buttons: None,
            clock: Clock::start(),
            desk: Desk::new(wiring.rest, Duration::ZERO),
            drawn: None,
            refreshed: Duration::ZERO,
            latest: Box::new(latest),
            send: Box::new(send),
            shared: Arc::clone(&shared),
        };
        let thread = thread::Builder::new().name("board".to_owned()).spawn(move || {
            stand_back();
            worker.run();
        })?;
        Ok(Self { shared, thread: Some(thread), backend, sim })
    }

    /// What can be seen now, for the web page and the terminal.
    #[must_use]
    pub fn shown(&self) -> Shown {
        let shown = self.shared.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Nothing of it is seen to any more.
        let lost = self.thread.as_ref().is_some_and(JoinHandle::is_finished);
        if lost { Shown { missing: PARTS.to_vec(), ..shown } } else { shown }
    }

    /// Backend and parts in a few words, `missing` first where one does not answer.
    #[must_use]
    pub fn parts(&self) -> String {
        match self.shown().missing.as_slice() {
            [] => format!("backend {}, all parts answer", self.backend),
            missing => format!("missing: {} (backend {})", missing.join(", "), self.backend),
        }
    }

    /// The backend in use.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        self.backend
    }

    /// Presses a button of the simulated board; without effect on a real one.
    pub fn press(&self, button: Button, held: Duration) {
        self.sim.press(button, held);
    }

    /// Presses both buttons of the simulated board together; without effect on a real one.
    pub fn press_both(&self, held: Duration) {
        self.sim.press_both(held);
    }

    /// The simulated board, which is dark unless the backend is `Sim`.
    #[must_use]
    pub const fn sim(&self) -> &SimBoard {
        &self.sim
    }

    /// Draws the last picture, which stays on the panel, makes the lamps dark and ends the thread.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if self.thread.take().map(JoinHandle::join).is_some_and(|end| end.is_err()) {
            tracing::error!("the board's thread has panicked");
        }
    }
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Board").field("backend", &self.backend).finish_non_exhaustive()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.end();
    }
}

/// Lets requests go first where there is but one processor: a picture can come a moment later, a token cannot. Where the system
/// does not allow it, all stays as it is.
fn stand_back() {
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::debug!(%error, "the board's thread keeps its priority");
    }
}

/// A tenth of the processor's time at least, where others want all of it: enough for pictures and lamps.
const NICE: i32 = 10;

struct Worker {
    parts: Parts,
    /// The buttons' state; none while the port is away.
    buttons: Option<Buttons>,
    clock: Clock,
    desk: Desk,
    drawn: Option<Drawn>,
    refreshed: Duration,
    latest: Box<dyn FnMut() -> Snapshot + Send>,
    send: Box<dyn FnMut(Command) + Send>,
    shared: Arc<Shared>,
}

/// What the picture was made of, so that it is drawn anew only when that changes.
struct Drawn {
    snapshot: Snapshot,
    page: Page,
    frame: Frame,
}

impl Worker {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let snapshot = (self.latest)();
            self.desk.notice(&snapshot, self.clock.now());
            self.show(&snapshot);
            self.watch_buttons(&snapshot);
        }
        let last = Snapshot { stage: Stage::Stopped, ..(self.latest)() };
        self.desk.notice(&last, self.clock.now());
        self.show(&last);
    }

    fn show(&mut self, snapshot: &Snapshot) {
        let at = self.clock.now();
        let view = self.desk.view(snapshot, at);
        let frame = self.picture(snapshot, view.page);
        let lamps = lamps(snapshot, at);
        let shown = Shown { frame: frame.clone(), lamps, light: view.light, missing: self.missing() };
        *self.shared.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        let reached = self.send_picture(&frame, view, at);
        self.desk.saw(view, snapshot, reached, self.clock.now());
        self.parts.lamps.with(at, |port| port.light(lamps));
    }

    /// By their names, as far as the last tries tell.
    fn missing(&self) -> Vec<&'static str> {
        let Parts { screen, lamps, buttons } = &self.parts;
        let missing = [screen.is_missing(), lamps.is_missing(), buttons.is_missing()];
        PARTS.into_iter().zip(missing).filter(|(_, missing)| *missing).map(|(part, _)| part).collect()
    }

    fn picture(&mut self, snapshot: &Snapshot, page: Page) -> Frame {
        if let Some(drawn) = self.drawn.as_ref().filter(|drawn| drawn.page == page && drawn.snapshot == *snapshot) {
            return drawn.frame.clone();
        }
        let frame = render(snapshot, page);
        self.drawn = Some(Drawn { snapshot: snapshot.clone(), page, frame: frame.clone() });
        frame
    }

    /// Whether the panel has it.
    fn send_picture(&mut self, frame: &Frame, view: View, at: Duration) -> bool {
        // One that is dark shows nothing wrong, and setting it up would light it.
        let stale = at.saturating_sub(self.refreshed) >= REFRESH && view.light != Light::Off;
        if stale {
            self.refreshed = at;
        }
        let shifted = frame.shifted(view.shift.0, view.shift.1);
        let sent = self.parts.screen.with(at, |screen| {
            if stale {
                screen.doubt();
            }
            screen.show(&shifted, view.light)
        });
        sent.is_some()
    }

    /// Waits for at most a tick, so that lamps and picture go on.
    fn watch_buttons(&mut self, snapshot: &Snapshot) {
        let at = self.clock.now();
        if self.buttons.is_none() {
            self.buttons = self.parts.buttons.with(at, |port| port.pressed()).map(Buttons::new);
        }
        let Some(buttons) = &mut self.buttons else { return thread::sleep(TICK) };
        let timeout = buttons.idle_for().map_or(TICK, |soon| soon.min(TICK));
        let clock = self.clock;
        // Levels are read after the edges: an edge that comes in between is one that the levels tell too.
        let looked = self.parts.buttons.with(at, |port| Ok((port.wait(clock, timeout)?, port.pressed()?)));
        let Some((edges, levels)) = looked else {
            self.buttons = None;
            return self.desk.buttons_lost();
        };
        let mut presses = Vec::new();
        for edge in edges {
            let came = buttons.edge(edge);
            presses.extend(came.into_iter().map(|press| (press, buttons.down(press))));
        }
        let came = buttons.levels(levels, clock.now());
        presses.extend(came.into_iter().map(|press| (press, buttons.down(press))));
        for (press, down) in presses {
            self.act(press, down, snapshot);
        }
    }

    fn act(&mut self, press: Press, down: Duration, snapshot: &Snapshot) {
        if let Press::Stuck(button) = press {
            tracing::warn!(?button, "a button does not come up; it is left out until it does");
        }
        if let Some(command) = self.desk.press(press, down, snapshot, self.clock.now()) {
            (self.send)(command);
        }
    }
}
