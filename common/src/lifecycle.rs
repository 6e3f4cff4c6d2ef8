//! Tasks and their end: everything that runs in the background is started here, told to stop here, and waited for here.

use std::future::Future;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one program. Clones share the same set.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
    ending: CancellationToken,
    aborting: CancellationToken,
}

/// How long streams have to say goodbye once the grace is over.
const FAREWELL: Duration = Duration::from_secs(1);

impl Tasks {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `task` until it ends, or until the grace of [`Self::drain`] is over.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let aborting = self.aborting.clone();
        #[expect(clippy::disallowed_methods, reason = "this is the one place that starts tasks")]
        let handle = tokio::spawn(self.tracker.track_future(async move {
            aborting.run_until_cancelled(task).await;
        }));
        drop(handle); // the tracker waits for it
    }

    /// Resolves when the program shall take no new work.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// Whether the program is on its way out.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Resolves when the grace for work in progress is over: streams end with an error in band.
    pub fn ending(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        self.ending.clone().cancelled_owned()
    }

    /// Runs `future` unless the program stops first.
    pub async fn until_stopping<F: Future>(&self, future: F) -> Option<F::Output> {
        self.stopping.run_until_cancelled(future).await
    }

    /// Says stop, waits up to `grace` for what is in progress, lets what is left say why it ends, then drops it. True when all ended by itself.
    pub async fn drain(&self, grace: Duration) -> bool {
        self.stopping.cancel();
        self.tracker.close();
        let in_time = tokio::time::timeout(grace, self.tracker.wait()).await.is_ok();
        self.ending.cancel();
        tokio::time::timeout(FAREWELL, self.tracker.wait()).await.unwrap_or_default();
        self.aborting.cancel();
        self.tracker.wait().await;
        in_time
    }
}

/// Resolves at SIGTERM or SIGINT, with the signal's name.
///
/// # Errors
/// When the handlers cannot be installed.
pub async fn shutdown_signal() -> std::io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// Tells systemd that requests are being served; does nothing when not started by it.
pub fn notify_ready() {
    notify(&[sd_notify::NotifyState::Ready]);
}

/// Tells systemd that the program is draining.
pub fn notify_stopping() {
    notify(&[sd_notify::NotifyState::Stopping]);
}

/// Tells systemd's watchdog that the program is well.
pub(crate) fn notify_alive() {
    notify(&[sd_notify::NotifyState::Watchdog]);
}

/// Asks systemd to keep the listening socket for the program's next start, in place of one that it may have kept for another
/// address.
pub(crate) fn notify_kept(socket: BorrowedFd<'_>) {
    use sd_notify::NotifyState::{FdName, FdStore, FdStoreRemove};
    const NAME: &str = "listener";
    notify(&[FdStoreRemove, FdName(NAME)]);
    if let Err(error) = sd_notify::notify_with_fds(&[FdStore, FdName(NAME)], &[socket]) {
        tracing::warn!(%error, "systemd was not asked to keep the listening socket");
    }
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd was not told of the program's state");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn drain_waits_for_what_ends_and_drops_what_does_not() {
        let tasks = Tasks::new();
        tasks.spawn(tokio::time::sleep(Duration::from_secs(1)));
        assert!(tasks.drain(Duration::from_secs(5)).await);

        let tasks = Tasks::new();
        tasks.spawn(std::future::pending());
        assert!(!tasks.drain(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn stopping_is_seen_by_every_clone() {
        let tasks = Tasks::new();
        let clone = tasks.clone();
        assert!(!clone.is_stopping());
        assert!(tasks.drain(Duration::ZERO).await);
        clone.stopping().await;
        assert_eq!(clone.until_stopping(std::future::pending::<()>()).await, None);
    }
}
