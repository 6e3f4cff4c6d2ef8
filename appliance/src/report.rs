//! The panel alone: shows one sentence while the daemon cannot run, because its settings are missing or wrong.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use cerebrum_board::{Board, Cause, Fault, Snapshot, Stage, Wiring};
use cerebrum_common::lifecycle::{notify_ready, shutdown_signal};
use tokio::time::Instant;

/// The longest sentence that is worth showing; a panel has 128 by 64 pixels.
const SHOWN: usize = 400;

/// Shows what `file` says, with the wiring of a board that is not told otherwise, until a signal says stop.
///
/// # Errors
/// A file that cannot be read.
pub async fn run(file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let message: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect();
    tracing::warn!("{message}");
    let started = Instant::now();
    let fault = Fault { cause: Cause::Settings, message };
    let latest = move || Snapshot {
        stage: Stage::Ready,
        uptime: Duration::from_secs(started.elapsed().as_secs()),
        error: Some(fault.clone()),
        ..Snapshot::default()
    };
    let board = Board::start(&Wiring::default(), latest, |_| {})?;
    notify_ready();
    shutdown_signal().await?;
    drop(board);
    Ok(())
}
