//! Emulated boards: what the tests of the daemon on a bare kernel and those of the whole image share.

pub mod trace;

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;

/// Runs a test to its end; its word is whether all was good.
pub fn main(test: impl Future<Output = anyhow::Result<bool>>) -> ExitCode {
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")
        .and_then(|runtime| runtime.block_on(test));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("the test itself failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// One line for people, at once.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A reader that went away is no failure.
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

/// How many cases were good, and of how many. Each is tried whatever became of the ones before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Good ones.
    pub good: u32,
    /// All that were tried.
    pub all: u32,
}

impl Tally {
    /// Counts one, and says how it went.
    pub fn count(&mut self, what: &str, began: Instant, outcome: anyhow::Result<()>) {
        self.all += 1;
        self.good += u32::from(outcome.is_ok());
        let word = if outcome.is_ok() { "ok    " } else { "FAILED" };
        say(&format!("{word} {:5.1} s  {what}", began.elapsed().as_secs_f32()));
        if let Err(error) = outcome {
            say(&format!("       {error:#}"));
        }
    }
}
