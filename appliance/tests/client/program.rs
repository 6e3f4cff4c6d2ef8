//! The real program, with a home folder of its own and nothing of the tester's environment.

use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// A home folder to run in.
pub(crate) struct Home(pub(crate) TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// `cerebrum`, asking `url`.
    pub(crate) fn command(&self, url: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cerebrum"));
        command.args(arguments).env_clear().env("HOME", self.0.path()).env("CEREBRUM_URL", url);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, url: &str, arguments: &[&str]) -> Ended {
        Ended::from(self.command(url, arguments).output().unwrap())
    }

    /// As [`Self::run`], with `input` piped in.
    pub(crate) fn run_with(&self, url: &str, arguments: &[&str], input: &str) -> Ended {
        let mut child = self.command(url, arguments).stdin(Stdio::piped()).spawn().unwrap();
        // A program that wants no more input may have closed it.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        Ended::from(child.wait_with_output().unwrap())
    }

    /// Writes a file there and gives its path.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Reads exactly `text` from the program's output; blocks until that much was written.
pub(crate) fn expect_output(child: &mut Child, text: &str) {
    let mut bytes = vec![0; text.len()];
    child.stdout.as_mut().unwrap().read_exact(&mut bytes).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), text);
}

/// Ctrl-C, as a terminal sends it.
pub(crate) fn interrupt(child: &Child) {
    let status = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap();
    assert!(status.success());
}
