//! The scripted upstream in a process of its own, so that its work is not the load generator's.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use cerebrum_tests::client::Client;
use cerebrum_tests::scripted::{Script, ScriptedUpstream};
use http::{Method, StatusCode};

/// The process and where it listens.
#[derive(Debug)]
pub(crate) struct Upstream {
    child: Child,
    address: SocketAddr,
}

impl Upstream {
    /// Starts it.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("upstream")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the scripted upstream")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse().with_context(|| format!("the upstream said {line:?}"))?;
        Ok(Self { child, address })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does from now on.
    pub(crate) async fn follow(&self, script: &Script) -> anyhow::Result<()> {
        let body = serde_json::to_vec(script)?.into();
        let answer = Client::plain(self.address, None).whole(Method::PUT, "/script", body).await?;
        anyhow::ensure!(answer.status == StatusCode::OK, "the script was refused: {:?}", answer.body);
        Ok(())
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Serves until standard input ends, as it does when the benchmark is gone.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let upstream = ScriptedUpstream::start(Script::default())?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", upstream.address())?;
    out.flush()?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}
