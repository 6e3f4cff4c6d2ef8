//! The panel alone: shows one sentence while the daemon cannot run, because its settings are missing or wrong. The image uses
//! it so; the buttons do what needs no settings, switching off and the factory reset.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use cerebrum_board::{Board, Cause, Command, Fault, Offers, Snapshot, Stage, Wiring};
use cerebrum_common::lifecycle::{Tasks, notify_ready, shutdown_signal};
use tokio::time::Instant;

use crate::presses;
use crate::provision::daemon::{FACTORY_RESET, POWER_OFF};
use crate::system_command::SystemCommand;

/// The longest sentence that is worth showing; a panel has 128 by 64 pixels.
const SHOWN: usize = 400;

/// Shows what `file` says until a signal says stop; without a board it only waits for that.
///
/// # Errors
/// A file that cannot be read.
pub async fn run(file: &Path, wiring: Option<Wiring>) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let message: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect();
    tracing::warn!("{message}");
    let started = Instant::now();
    let fault = Fault { cause: Cause::Settings, message };
    let latest = move || Snapshot {
        stage: Stage::Halted,
        uptime: Duration::from_secs(started.elapsed().as_secs()),
        error: Some(fault.clone()),
        offers: Offers { power_off: true, factory_reset: true, apply_update: false },
        ..Snapshot::default()
    };
    let (send, pressed) = presses::channel();
    let board = wiring.map(|wiring| Board::start(&wiring, latest, send)).transpose()?;
    let tasks = Tasks::new();
    let words = |program: [&str; 2]| program.map(str::to_owned).to_vec();
    let power_off = SystemCommand::new("power_off", words(POWER_OFF));
    let factory_reset = SystemCommand::new("factory_reset", words(FACTORY_RESET));
    pressed.carry_out(&tasks, move |command, tasks| match command {
        Command::PowerOff => power_off.start(tasks),
        Command::FactoryReset => factory_reset.start(tasks),
        _ => {}
    });
    notify_ready();
    shutdown_signal().await?;
    tasks.drain(Duration::ZERO).await;
    drop(board);
    Ok(())
}
