//! A program of the system that a press on the board starts. Owns its end: one that hangs is killed, and neither it nor the
//! daemon's end waits for the other.

use std::sync::Arc;
use std::time::Duration;

use cerebrum_common::lifecycle::Tasks;
use tokio::process::Command;
use tokio::sync::Semaphore;

/// How long one may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How long one that runs while the daemon stops has left: what switches the machine off stops the daemon, too.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// A program and its arguments, or nothing.
#[derive(Debug)]
pub struct SystemCommand {
    setting: &'static str,
    command: Vec<String>,
    /// One at a time.
    place: Arc<Semaphore>,
}

impl SystemCommand {
    /// What `board.{setting}` names; nothing when empty.
    pub fn new(setting: &'static str, command: Vec<String>) -> Self {
        Self { setting, command, place: Arc::new(Semaphore::new(1)) }
    }

    /// Whether there is anything to start.
    pub fn is_there(&self) -> bool {
        !self.command.is_empty()
    }

    /// Starts it, unless it still runs from the last time. What comes of it stands in the log.
    pub fn start(&self, tasks: &Tasks) {
        let setting = self.setting;
        let Some((program, arguments)) = self.command.split_first() else {
            return tracing::warn!("board.{setting}: found nothing, so nothing is done");
        };
        let Ok(place) = self.place.clone().try_acquire_owned() else {
            return tracing::warn!("board.{setting} is still running");
        };
        let mut command = Command::new(program);
        command.args(arguments).kill_on_drop(true);
        let own = tasks.clone();
        tasks.spawn(async move {
            run(setting, command, LIMIT, &own).await;
            drop(place);
        });
    }
}

/// Runs it to its end, or kills it when `limit` is over or the daemon stops.
async fn run(setting: &str, mut command: Command, limit: Duration, tasks: &Tasks) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return tracing::error!(%error, "board.{setting} cannot be started"),
    };
    let ended = match tasks.until_stopping(tokio::time::timeout(limit, child.wait())).await {
        Some(ended) => ended,
        None => tokio::time::timeout(LAST_MOMENT, child.wait()).await,
    };
    match ended {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => tracing::error!(%status, "board.{setting} failed"),
        Ok(Err(error)) => tracing::error!(%error, "board.{setting}"),
        Err(_) => {
            tracing::error!("board.{setting} does not end, and is killed");
            child.kill().await.unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    async fn appears(path: &Path) {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn one_that_hangs_holds_up_neither_another_nor_the_end() {
        let (folder, tasks) = (tempfile::tempdir().unwrap(), Tasks::new());
        let file = |name: &str| folder.path().join(name);
        let hanging = SystemCommand::new("factory_reset", shell(&format!("touch {:?}; exec sleep 1000", file("a"))));
        hanging.start(&tasks);
        appears(&file("a")).await;
        std::fs::remove_file(file("a")).unwrap();
        hanging.start(&tasks);
        SystemCommand::new("power_off", shell(&format!("touch {:?}", file("b")))).start(&tasks);
        appears(&file("b")).await;
        assert!(tasks.drain(Duration::from_secs(600)).await);
        assert!(!file("a").exists(), "it was started twice");
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed() {
        let (folder, tasks) = (tempfile::tempdir().unwrap(), Tasks::new());
        let file = folder.path().join("pid");
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("echo $$ > {file:?}; exec sleep 1000"));
        run("power_off", command, Duration::from_secs(2), &tasks).await;
        let pid = std::fs::read_to_string(file).unwrap();
        assert!(!Path::new("/proc").join(pid.trim()).exists());
    }
}
