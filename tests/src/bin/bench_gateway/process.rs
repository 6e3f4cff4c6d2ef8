//! Started programs: their memory, and their end.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a program may take until it serves; generous, since machines are shared.
const READY: Duration = Duration::from_secs(30);

/// Pause between two attempts to connect: the resolution of [`Process::ready`].
const POLL: Duration = Duration::from_micros(200);

/// A running program.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    started: Instant,
}

/// Resident memory in MiB, with that of its children.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) now: f64,
    /// At most, since the start.
    pub(crate) peak: f64,
}

impl Process {
    /// Starts `command`; what it says goes to `log`, as it would go to the journal.
    pub(crate) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let log = std::fs::File::create(log)?;
        let started = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        Ok(Self { child, started })
    }

    /// Time from its start to its first answer of 200 to `GET /health`.
    pub(crate) async fn ready(&mut self, address: SocketAddr) -> anyhow::Result<Duration> {
        while self.started.elapsed() < READY {
            if healthy(address).await {
                return Ok(self.started.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status} before it served");
            }
            tokio::time::sleep(POLL).await; // there is nothing to wait on before the port is open
        }
        bail!("it did not serve within {READY:?}")
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let mut sum = Memory::default();
        for pid in children.split_whitespace().chain([pid.to_string().as_str()]) {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            sum.now += mebibytes(&status, "VmRSS:")?;
            sum.peak += mebibytes(&status, "VmHWM:")?;
        }
        Ok(sum)
    }
}

impl Drop for Process {
    /// As systemd would: nginx's master takes its workers with it only when asked.
    fn drop(&mut self) {
        drop(Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status());
        drop(self.child.wait());
    }
}

fn mebibytes(status: &str, field: &str) -> anyhow::Result<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such memory figure")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

async fn healthy(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        std::io::Result::Ok(&head == b"HTTP/1.1 200")
    };
    ask.await.unwrap_or(false)
}
