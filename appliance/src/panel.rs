//! The board in the daemon: it gets a snapshot of the status and nothing else, and its presses come back as commands on a
//! bounded channel, which one task carries out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cerebrum_board::{Board, Command, Snapshot, Stage, Update, Wiring};
use cerebrum_common::keyring::Keyring;
use cerebrum_common::lifecycle::Tasks;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::display;
use crate::gateway::stops::Stops;
use crate::pairing::{Pairing, Standing};
use crate::status;
use crate::update::notice::Notice;
use crate::upstream::Upstream;

/// Commands on their way; a person presses slower than they are carried out.
const COMMANDS: usize = 8;

/// What the settings say of the board.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where its parts are; no board when absent.
    pub wiring: Option<Wiring>,
    /// The name people reach the appliance by.
    pub name: String,
    /// Program and arguments that switch the machine off.
    pub power_off: Vec<String>,
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
    /// Where keys are made.
    pub keys: Arc<Keyring>,
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
    let (commands, mut pressed) = mpsc::channel(COMMANDS);
    let shown = inside.clone();
    let (stage, name) = (tasks.clone(), settings.name.clone());
    let latest = move || shown.snapshot(&name, &stage);
    // A full channel means that the daemon is stuck; more presses would not help it.
    let send = move |command| {
        if commands.try_send(command).is_err() {
            tracing::warn!(?command, "a press on the board is lost");
        }
    };
    let board = Arc::new(Board::start(&wiring, latest, send)?);
    if let Some(file) = settings.update_file.clone() {
        tasks.spawn(watch_update(file, inside.board.clone(), tasks.clone()));
    }
    let own = tasks.clone();
    tasks.spawn(async move {
        while let Some(Some(command)) = own.until_stopping(pressed.recv()).await {
            carry_out(command, &inside, &settings, &own).await;
        }
    });
    Ok(Some(board))
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

async fn carry_out(command: Command, inside: &Inside, settings: &Settings, tasks: &Tasks) {
    tracing::info!(?command, "pressed on the board");
    match command {
        Command::StopRequest { id } => inside.stops.stop(id, "by a press on the appliance's button"),
        Command::ProbeUpstreams => inside.upstreams.iter().for_each(|upstream| upstream.probe_now()),
        Command::GrantPairing { id } => grant(inside, id),
        Command::RefusePairing { id } => inside.pairing.decide(id, Standing::Refused),
        Command::DismissError => inside.board.tell(status::Event::Dismissed),
        Command::ApplyUpdate => run("apply_update", &settings.apply_update, tasks).await,
        Command::PowerOff => run("power_off", &settings.power_off, tasks).await,
        Command::FactoryReset => run("factory_reset", &settings.factory_reset, tasks).await,
    }
}

/// Makes the key only now: an attempt that nobody allows leaves nothing behind.
fn grant(inside: &Inside, id: u64) {
    let Some(client) = inside.pairing.attempts().waiting(id, Instant::now()) else { return };
    let standing = match inside.keys.grant(&client) {
        Some(Ok(key)) => Standing::Granted(key),
        Some(Err(error)) => {
            tracing::error!(%error, "no key could be made for a client that was allowed one");
            Standing::Failed
        }
        None => Standing::Failed,
    };
    inside.pairing.decide(id, standing);
}

/// How long a command of the system may take.
const COMMAND: Duration = Duration::from_secs(60);

async fn run(setting: &'static str, command: &[String], tasks: &Tasks) {
    let Some((program, arguments)) = command.split_first() else {
        return tracing::warn!("board.{setting}: found nothing, so nothing is done");
    };
    let mut process = std::process::Command::new(program);
    process.args(arguments);
    let ended = tokio::task::spawn_blocking(move || process.status());
    match tasks.until_stopping(tokio::time::timeout(COMMAND, ended)).await {
        Some(Ok(Ok(Ok(status)))) if status.success() => {}
        Some(Ok(Ok(Ok(status)))) => tracing::error!(%status, "board.{setting} failed"),
        Some(Ok(Ok(Err(error)))) => tracing::error!(%error, program, "board.{setting} cannot be started"),
        Some(Ok(Err(error))) => tracing::error!(%error, "board.{setting}"),
        Some(Err(_)) => tracing::error!("board.{setting} does not end"),
        // Switching off stops this daemon, too.
        None => {}
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
}
