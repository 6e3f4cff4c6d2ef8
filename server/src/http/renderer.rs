//! Where chat templates are rendered: in a process of their own, whose memory and time have limits.
//!
//! A template is a program from the same file as the weights, and may come from anywhere. Its steps are counted, but a step may double a
//! text, and forty of them fill any memory; looking at it beforehand tells nothing, since it may wait for a certain message or day. So
//! the program starts itself once more for each conversation, which takes a few milliseconds, and what goes wrong there is an answer.

use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::template::{Sheet, run};

/// Renders the templates of models. Clones share the places.
#[derive(Clone, Debug)]
pub enum Renderer {
    /// In this process: for templates that are trusted.
    Here,
    /// In a process of this program, so many at a time.
    Apart(PathBuf, Arc<Semaphore>),
}

impl Renderer {
    /// In processes of this program.
    ///
    /// # Errors
    /// The program's own file cannot be found.
    pub fn apart() -> std::io::Result<Self> {
        Ok(Self::Apart(std::env::current_exe()?, Arc::new(Semaphore::new(PLACES))))
    }

    pub(super) async fn render<T: AsRef<str> + Serialize>(&self, sheet: &Sheet<T>) -> Result<String, String> {
        let Self::Apart(program, places) = self else { return run(sheet) };
        let failed = |reason: &str| format!("messages: the model's chat template failed ({reason})");
        let _place = places.acquire().await.map_err(|error| failed(&error.to_string()))?;
        let sheet = serde_json::to_vec(sheet).map_err(|error| failed(&error.to_string()))?;
        match tokio::time::timeout(WITHIN, told(program, &sheet)).await {
            Err(_) => Err(failed("it takes too long")),
            Ok(Err(error)) => Err(failed(&error.to_string())),
            Ok(Ok((text, Some(0)))) => Ok(text),
            Ok(Ok((words, Some(1)))) => Err(words),
            Ok(Ok(_)) => Err(failed(&format!("it takes more than {} MiB or {} s", MEMORY >> 20, WITHIN.as_secs()))),
        }
    }
}

// What the other process wrote, and with which code it ended; none where it did not survive.
async fn told(program: &PathBuf, sheet: &[u8]) -> std::io::Result<(String, Option<i32>)> {
    let mut child = Command::new(program)
        .arg("template")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    if let Some(mut stdin) = stdin {
        stdin.write_all(sheet).await?;
    }
    let mut text = Vec::new();
    if let Some(stdout) = stdout {
        stdout.take(TEXT).read_to_end(&mut text).await?;
    }
    let status = child.wait().await?;
    Ok((String::from_utf8_lossy(&text).into_owned(), status.code()))
}

/// The other process: reads what is to be rendered, renders it within its limits.
///
/// # Errors
/// What the template says against it.
pub fn carry_out() -> Result<String, String> {
    let bounded = bound().and_then(|()| {
        let mut sheet = Vec::new();
        std::io::stdin().lock().read_to_end(&mut sheet)?;
        Ok(sheet)
    });
    let sheet: Sheet<String> = serde_json::from_slice(&bounded.map_err(|error| error.to_string())?)
        .map_err(|error| format!("messages: {error}"))?;
    run(&sheet)
}

// Beyond what the program has by itself. No image of the memory is to be left on the disk: there are people's words in it.
fn bound() -> std::io::Result<()> {
    let pages = std::fs::read_to_string("/proc/self/statm")?;
    let own = pages.split(' ').next().and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE;
    rlimit::setrlimit(rlimit::Resource::AS, own + MEMORY, own + MEMORY)?;
    rlimit::setrlimit(rlimit::Resource::CORE, 0, 0)?;
    rlimit::setrlimit(rlimit::Resource::CPU, WITHIN.as_secs(), WITHIN.as_secs())
}

/// A conversation of 4 MB in a dozen forms.
const MEMORY: u64 = 256 << 20;
/// The most of a page's size that is in use; too much only makes the bound wider.
const PAGE: u64 = 16 << 10;
const TEXT: u64 = 64 << 20;
/// A template takes milliseconds; also what a full machine takes to start a process.
const WITHIN: Duration = Duration::from_secs(10);
/// Each may take its memory.
const PLACES: usize = 2;
