//! The first load of a model's file on this machine: in a process of its own.
//!
//! llama.cpp ends the process where it meets what it did not expect, and a file from anywhere may hold that. So the program starts
//! itself once more with `child`, which loads the file, computes with it and measures what suits it; only a file that came through
//! is loaded here. What came of it is remembered in `fits`, per file, machine and settings, so this happens once.
//!
//! Runs on the model's thread, where waiting is allowed.

mod child;
mod fits;

pub use child::{Request, carry_out};

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cerebrum_engine::llama::{Fit, Options};
use cerebrum_engine::{LoadControl, LoadError};

use fits::Fits;

/// Tries files out and remembers what came of it. Clones share what they know.
#[derive(Clone, Debug)]
pub struct Trials {
    program: PathBuf,
    fits: Arc<Fits>,
}

impl Trials {
    /// By this program; remembered in a file of `state`, where there is such a folder, over the program's end.
    pub fn new(state: Option<&Path>) -> std::io::Result<Self> {
        Ok(Self { program: std::env::current_exe()?, fits: Arc::new(Fits::of(state)) })
    }

    /// The options with what suits this file here. Tries the file out if that is not known.
    ///
    /// # Errors
    /// [`LoadError`]: the child's, or [`LoadError::Rejected`] when it did not survive.
    pub fn fitted(&self, options: Options, control: &LoadControl) -> Result<Options, LoadError> {
        // Without a process, and with the better words: a file that contradicts itself.
        options.check()?;
        let key = fits::key(&options, control.limits());
        if let Some(fit) = key.as_ref().and_then(|key| self.fits.find(key)) {
            return Ok(options.fitted(fit));
        }
        let begun = Instant::now();
        let fit = self.tried(&options, control)?;
        tracing::info!(file = %options.path.display(), threads = fit.threads, batch_threads = fit.batch_threads,
            chunk = fit.chunk, ms = begun.elapsed().as_millis() as u64, "tried out");
        if let Some(key) = key {
            self.fits.remember(key, fit);
        }
        Ok(options.fitted(fit))
    }

    fn tried(&self, options: &Options, control: &LoadControl) -> Result<Fit, LoadError> {
        let failed =
            |reason: String| LoadError::Thread { reason: format!("the file could not be tried out: {reason}") };
        let mut child = Command::new(&self.program)
            .args(child::arguments(options, control.limits()))
            // Its backtrace is made by a debugger, if there is one, and takes long.
            .env("GGML_NO_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let status = ended(&mut child, control);
        let said = text(child.stdout.take());
        match status.map_err(|error| failed(error.to_string()))? {
            None if control.is_cancelled() => Err(LoadError::Cancelled),
            None => Err(rejected(&options.path, format!("it took longer than {} s to try out", LONGEST.as_secs()))),
            Some(status) if status.success() => child::fit(&said).ok_or_else(|| failed(format!("it said {said:?}"))),
            Some(status) => Err(child::error(&options.path, &said).unwrap_or_else(|| {
                let last = text(child.stderr.take());
                rejected(&options.path, died(status, &last))
            })),
        }
    }
}

// Waits for the end, unless nobody wants to know any more or it takes too long; then there is no status.
fn ended(child: &mut Child, control: &LoadControl) -> std::io::Result<Option<ExitStatus>> {
    let until = Instant::now() + LONGEST;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if control.is_cancelled() || Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

fn died(status: ExitStatus, said: &str) -> String {
    let how = status.signal().map_or_else(|| status.to_string(), |signal| format!("signal {signal}"));
    let words = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("without a word").trim();
    // The place in the source, without where that was when this program was built.
    let words = words.rsplit_once("llama.cpp/").map_or(words, |(_, words)| words);
    format!("llama.cpp did not survive it, {how}: {words}")
}

fn rejected(path: &Path, reason: String) -> LoadError {
    LoadError::Rejected { path: path.to_owned(), reason }
}

// What it wrote, if that is not too much: it is foreign.
fn text(from: Option<impl Read>) -> String {
    let mut text = Vec::new();
    if let Some(from) = from {
        drop(from.take(MOST_TEXT).read_to_end(&mut text));
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Larger files than any machine here has memory for are read in this time from a slow disk.
const LONGEST: Duration = Duration::from_secs(15 * 60);
const LOOK: Duration = Duration::from_millis(5);
/// Less than a pipe holds, so that nobody waits for a reader.
const MOST_TEXT: u64 = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_the_words_there_are() {
        let aborted = ExitStatus::from_raw(6);
        assert_eq!(
            died(aborted, "\n  /x/llama.cpp/src/y.cpp:1: GGML_ASSERT(n > 0) failed\nmore"),
            "llama.cpp did not survive it, signal 6: src/y.cpp:1: GGML_ASSERT(n > 0) failed"
        );
        assert!(died(ExitStatus::from_raw(256), "").ends_with("exit status: 1: without a word"));
    }
}
