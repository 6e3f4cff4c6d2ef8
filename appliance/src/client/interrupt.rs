//! Ctrl-C while something is going on: the work is dropped, and with it its connection.

use tokio::signal::unix::{SignalKind, signal};

use super::failure::Failure;

/// Runs `work` to its end or to Ctrl-C. The first call makes Ctrl-C this program's business until it ends.
pub(super) async fn unless_interrupted<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut interrupts = signal(SignalKind::interrupt()).map_err(Failure::Runtime)?;
    tokio::select! {
        biased;
        _ = interrupts.recv() => Err(Failure::Interrupted),
        result = work => result,
    }
}
