//! The board in the daemon: it gets a snapshot of the status and nothing else, and its presses come back as commands, which one
//! task carries out. Programs of the system run beside it, so that none holds up the next press.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cerebrum_board::backend::choose;
use cerebrum_board::{Backend, Board, Command, Offers, Snapshot, Stage, Update, Wiring};
use cerebrum_common::lifecycle::Tasks;
use tokio::time::Instant;

use crate::display;
use crate::gateway::stops::Stops;
use crate::pairing::Pairing;
use crate::presses;
use crate::status;
use crate::system_command::SystemCommand;
use crate::update::notice::Notice;
use crate::upstream::Upstream;

/// What the settings say of the board.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where its parts are; no board when absent.
    pub wiring: Option<Wiring>,
    /// The name people reach the appliance by.
    pub name: String,
    /// Program and arguments that switch the machine off; nothing when empty. Unsaid it is systemd's, but on a simulated board
    /// nothing: that is a developer's machine.
    pub power_off: Option<Vec<String>>,
    /// Program and arguments that forget everything; nothing when empty.
    pub factory_reset: Vec<String>,
    /// Program and arguments that install or start the update that is shown; nothing when empty.
    pub apply_update: Vec<String>,
    /// Where updates leave word of themselves.
    pub update_file: Option<PathBuf>,
}

/// What commands work on.
#[derive(Debug)]
pub struct Inside {
    /// The status that is shown.
    pub board: status::Board,
    /// Who asks for a key.
    pub pairing: Arc<Pairing>,
    /// Requests that can be stopped.
    pub stops: Arc<Stops>,
    /// Servers that can be probed.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The port of the HTTP interface.
    pub port: u16,
}

/// Starts the board's thread and the task that carries out its commands; `None` when the settings want no board.
///
/// # Errors
/// The thread could not be started. Missing parts are no error.
pub fn start(settings: Settings, inside: Arc<Inside>, tasks: &Tasks) -> std::io::Result<Option<Arc<Board>>> {
    let Some(wiring) = settings.wiring.clone() else { return Ok(None) };
    let programs = Programs::new(&settings, choose(&wiring).0);
    let (send, pressed) = presses::channel();
    let shown = inside.clone();
    let (stage, name, offers) = (tasks.clone(), settings.name.clone(), programs.offers());
    let latest = move || Snapshot { offers, ..shown.snapshot(&name, &stage) };
    let board = Arc::new(Board::start(&wiring, latest, send)?);
    if let Some(file) = settings.update_file.clone() {
        tasks.spawn(watch_update(file, inside.board.clone(), tasks.clone()));
    }
    pressed.carry_out(tasks, move |command, tasks| carry_out(command, &inside, &programs, tasks));
    Ok(Some(board))
}

/// The programs that buttons start.
#[derive(Debug)]
struct Programs {
    power_off: SystemCommand,
    factory_reset: SystemCommand,
    apply_update: SystemCommand,
}

impl Programs {
    fn new(settings: &Settings, backend: Backend) -> Self {
        let usual: &[&str] = if backend == Backend::Sim { &[] } else { &["systemctl", "poweroff"] };
        let power_off = settings.power_off.clone();
        let power_off = power_off.unwrap_or_else(|| usual.iter().map(|&word| word.to_owned()).collect());
        Self {
            power_off: SystemCommand::new("power_off", power_off),
            factory_reset: SystemCommand::new("factory_reset", settings.factory_reset.clone()),
            apply_update: SystemCommand::new("apply_update", settings.apply_update.clone()),
        }
    }

    fn offers(&self) -> Offers {
        Offers {
            power_off: self.power_off.is_there(),
            factory_reset: self.factory_reset.is_there(),
            apply_update: self.apply_update.is_there(),
        }
    }
}

impl Inside {
    fn snapshot(&self, name: &str, tasks: &Tasks) -> Snapshot {
        let now = Instant::now();
        let snapshot = self.board.look(|status| display::snapshot(status, self.port, now));
        Snapshot {
            name: name.to_owned(),
            stage: stage(tasks.is_stopping(), snapshot.uptime),
            // Finer than what is shown it would have the page drawn anew 25 times a second.
            uptime: Duration::from_secs(snapshot.uptime.as_secs()),
            pairing: self.pairing.attempts().shown(now),
            ..snapshot
        }
    }
}

/// Pause between two looks for an update.
const UPDATE_EVERY: Duration = Duration::from_secs(1);

async fn watch_update(file: PathBuf, board: status::Board, tasks: Tasks) {
    let mut told = None;
    loop {
        let update = Notice::read(&file).map(Update::from);
        if update != told {
            told.clone_from(&update);
            board.tell(status::Event::Update(update));
        }
        if tasks.until_stopping(tokio::time::sleep(UPDATE_EVERY)).await.is_none() {
            return;
        }
    }
}

/// How long the splash stays. The daemon serves within milliseconds of its start, and nobody could read it otherwise.
const SPLASH: Duration = Duration::from_millis(1500);

fn stage(stopping: bool, uptime: Duration) -> Stage {
    match (stopping, uptime < SPLASH) {
        (true, _) => Stage::Draining,
        (false, true) => Stage::Starting,
        (false, false) => Stage::Ready,
    }
}

fn carry_out(command: Command, inside: &Inside, programs: &Programs, tasks: &Tasks) {
    tracing::info!(?command, "pressed on the board");
    match command {
        Command::StopRequest { id } => inside.stops.stop(id, "by a press on the appliance's button"),
        Command::ProbeUpstreams => inside.upstreams.iter().for_each(|upstream| upstream.probe_now()),
        Command::GrantPairing { id } => inside.pairing.decide(id, true),
        Command::RefusePairing { id } => inside.pairing.decide(id, false),
        Command::DismissError => inside.board.tell(status::Event::Dismissed),
        Command::ApplyUpdate => programs.apply_update.start(tasks),
        Command::PowerOff => programs.power_off.start(tasks),
        Command::FactoryReset => programs.factory_reset.start(tasks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_splash_comes_first_and_goes_by_itself() {
        assert_eq!(stage(false, Duration::ZERO), Stage::Starting);
        assert_eq!(stage(false, SPLASH), Stage::Ready);
        assert_eq!(stage(true, Duration::ZERO), Stage::Draining);
    }

    #[test]
    fn a_simulated_board_never_switches_its_machine_off_unasked() {
        let told = Settings { power_off: Some(vec!["off".to_owned()]), ..Settings::default() };
        let offered = |settings: &Settings, backend| Programs::new(settings, backend).offers().power_off;
        assert!(!offered(&Settings::default(), Backend::Sim));
        assert!(offered(&Settings::default(), Backend::Pi) && offered(&told, Backend::Sim));
        let never = Settings { power_off: Some(Vec::new()), ..Settings::default() };
        assert!(!offered(&never, Backend::Cdev));
    }
}
