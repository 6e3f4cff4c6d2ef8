//! Presses on the board on their way to whoever carries them out: a bounded channel, and one task that takes from it.

use cerebrum_board::Command;
use cerebrum_common::lifecycle::Tasks;
use tokio::sync::mpsc;

/// Commands on their way; a person presses slower than they are carried out.
const COMMANDS: usize = 8;

/// What the board's presses will come out of.
#[derive(Debug)]
pub struct Presses(mpsc::Receiver<Command>);

/// What takes a press from the board's thread, which never waits, and what they come out of.
pub fn channel() -> (impl Fn(Command) + Send + 'static, Presses) {
    let (commands, pressed) = mpsc::channel(COMMANDS);
    // A full channel means that the daemon is stuck; more presses would not help it.
    let send = move |command| {
        if commands.try_send(command).is_err() {
            tracing::warn!(?command, "a press on the board is lost");
        }
    };
    (send, Presses(pressed))
}

impl Presses {
    /// Has each of them carried out, one after the other, until `tasks` stop.
    pub fn carry_out(mut self, tasks: &Tasks, mut act: impl FnMut(Command, &Tasks) + Send + 'static) {
        let own = tasks.clone();
        tasks.spawn(async move {
            while let Some(Some(command)) = own.until_stopping(self.0.recv()).await {
                act(command, &own);
            }
        });
    }
}
