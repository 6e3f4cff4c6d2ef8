//! Both real programs on loopback, as a user would run them: identities by `cerebrum-server pki`'s own code, key files,
//! settings files, child processes. Ends only what it started.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cerebrum_common::keys::{KeyFile, Secret};
use cerebrum_common::pki::{Authority, IDENTITY_DAYS, Role};
use cerebrum_common::tls::{ClientFiles, IdentityFiles};

use crate::client::Client;

/// How long a program may take until it serves; generous, since machines are shared.
const READY: Duration = Duration::from_secs(60);

/// Pause between two looks at a log.
const POLL: Duration = Duration::from_millis(10);

/// A running program and what it has logged.
#[derive(Debug)]
pub struct Program {
    child: Child,
    log: Arc<Log>,
}

/// Lines of a program's standard error, as they come.
#[derive(Debug, Default)]
pub struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Log {
    /// Collects the lines of `source` until it ends, whatever bytes are in them.
    pub fn of(source: impl Read + Send + 'static) -> Arc<Self> {
        let log = Arc::new(Self::default());
        let sink = log.clone();
        std::thread::spawn(move || {
            let lines = BufReader::new(source).split(b'\n').map_while(Result::ok);
            lines.for_each(|line| sink.push(String::from_utf8_lossy(&line).into_owned()));
        });
        log
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a line satisfies `wanted`, and returns it.
    ///
    /// # Errors
    /// The whole log when none does within `limit`.
    pub fn wait_for(&self, limit: Duration, wanted: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        let until = Instant::now() + limit;
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = lines.iter().find(|line| wanted(line)) {
                return Ok(line.clone());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no such line within {limit:?} in:\n{}", lines.join("\n"));
            }
            lines = self.grown.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// As [`Self::wait_for`], while the test's own tasks go on (closing a socket is one of them).
    ///
    /// # Errors
    /// As [`Self::wait_for`].
    pub async fn heard(&self, limit: Duration, wanted: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        let until = Instant::now() + limit;
        loop {
            match self.wait_for(Duration::ZERO, &wanted) {
                Err(_) if Instant::now() < until => tokio::time::sleep(POLL).await,
                found => return found,
            }
        }
    }

    fn push(&self, line: String) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        self.grown.notify_all();
    }
}

impl Program {
    /// Starts `name` (from the folder of this build's binaries) with `--config`, and waits until it says that it is
    /// ready.
    ///
    /// # Errors
    /// When it cannot be started, or ends, or is not ready in time; with its log.
    pub fn start(name: &str, arguments: &[&str], config: &Path) -> anyhow::Result<Self> {
        let mut program = Self::spawn(name, arguments, config)?;
        if let Err(error) = program.log.wait_for(READY, |line| line.contains("ready on ")) {
            program.kill();
            return Err(error.context(format!("{name} did not get ready")));
        }
        Ok(program)
    }

    /// As [`Self::start`], without waiting.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(name: &str, arguments: &[&str], config: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(binary(name)?)
            .args(arguments)
            .arg("--config")
            .arg(config)
            // The programs of the original read these; a developer's own must not reach a test.
            .env_remove("VPS_ENDPOINT")
            .env_remove("VPS_API_KEY")
            .env_remove("CEREBRUM_HOST")
            .env_remove("CEREBRUM_PORT")
            .env_remove("CEREBRUM_API_KEY")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let log = Log::of(child.stderr.take().context("no standard error")?);
        Ok(Self { child, log })
    }

    /// What it has logged.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory in bytes, now.
    ///
    /// # Errors
    /// When it has ended.
    pub fn rss(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib << 10)
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        // Both fail only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Asks it to end, as systemd would, and waits for its exit code.
    ///
    /// # Errors
    /// When it does not end within `limit`.
    pub fn terminate(&mut self, limit: Duration) -> anyhow::Result<Option<i32>> {
        self.signal("TERM")?;
        self.wait(limit)
    }

    /// Sends it a signal by its name, such as `STOP`.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status()?;
        anyhow::ensure!(status.success(), "kill -{name} failed");
        Ok(())
    }

    /// Waits for its exit code.
    ///
    /// # Errors
    /// When it does not end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<Option<i32>> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            std::thread::sleep(Duration::from_millis(5)); // there is no portable way to wait for a child with a limit
        }
        bail!("still running after {limit:?}; its log:\n{}", self.log.lines().join("\n"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The path of a program of this build: beside the running one, or one folder up from a test.
///
/// # Errors
/// When it is not built.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not built: run `cargo build --workspace --bins` (make test does)"))
}

/// A free loopback port: free now, so that a program started at once gets it.
///
/// # Errors
/// When there is none.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Files and addresses of a server and an appliance that know each other.
#[derive(Debug)]
pub struct Site {
    folder: tempfile::TempDir,
    /// The authority both ends trust.
    pub authority: Authority,
    /// The key the appliance shows the server.
    pub server_key: Secret,
    /// A key the appliance accepts.
    pub client_key: Secret,
    /// Where the server listens.
    pub server: SocketAddr,
    /// Where the appliance listens.
    pub appliance: SocketAddr,
}

impl Site {
    /// Makes identities, keys and addresses.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::open(folder.path())?;
        let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        authority.issue("server", Role::Server, &hosts, IDENTITY_DAYS)?.save(folder.path(), "server")?;
        authority.issue("appliance", Role::Client, &[], IDENTITY_DAYS)?.save(folder.path(), "appliance")?;
        let server_key = add_key(&folder.path().join("server-keys.toml"), "appliance")?;
        std::fs::write(folder.path().join("server.secret"), server_key.expose())?;
        let client_key = add_key(&folder.path().join("appliance-keys.toml"), "test client")?;
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (server, appliance) = (loopback(free_port()?), loopback(free_port()?));
        Ok(Self { folder, authority, server_key, client_key, server, appliance })
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file beside the others and returns its path.
    ///
    /// # Errors
    /// The system's complaint.
    pub fn write(&self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content)?;
        Ok(path)
    }

    /// Settings of the server with the bundled model under the names the appliance asks for, and `more` lines.
    pub fn server_settings(&self, more: &str) -> String {
        format!(
            "listen = \"{}\"\nkeys_file = \"server-keys.toml\"\nmodels_dir = {:?}\ndefault_model = \"{MODEL}\"\nthreads = 1\n{more}\n\
             [tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\nclient_ca = \"ca.pem\"\n\
             [aliases]\nqwen_7b = \"{MODEL}\"\ncodellama_7b = \"{MODEL}\"\n\
             [guards]\nmax_cpu_percent = 100\nmin_free_ram_mib = 0\n",
            self.server,
            models_folder().display().to_string(),
        )
    }

    /// Settings of the appliance, and `more` lines at the top level.
    pub fn appliance_settings(&self, more: &str) -> String {
        format!(
            "listen = \"{}\"\nkeys_file = \"appliance-keys.toml\"\n{more}\n\
             [[upstream]]\nname = \"vps\"\nurl = \"https://localhost:{}\"\nkey_file = \"server.secret\"\n\
             ca = \"ca.pem\"\ncertificate = \"appliance.pem\"\nkey = \"appliance.key\"\n",
            self.appliance,
            self.server.port(),
        )
    }

    /// A client that speaks to the server as the appliance does, past the appliance.
    pub fn direct_client(&self) -> Client {
        let at = |name: &str| self.folder().join(name);
        let identity = IdentityFiles { certificate: at("appliance.pem"), key: at("appliance.key") };
        let files = ClientFiles { ca: at("ca.pem"), identity: Some(identity) };
        Client::tls(self.server, Some(self.server_key.expose()), files)
    }

    /// Starts the server.
    ///
    /// # Errors
    /// As [`Program::start`].
    pub fn start_server(&self, more: &str) -> anyhow::Result<Program> {
        let config = self.write("cerebrum-server.toml", &self.server_settings(more))?;
        Program::start("cerebrum-server", &["serve"], &config)
    }

    /// Starts the appliance with the server behind `proxy`; `more` are settings at the top level.
    ///
    /// # Errors
    /// As [`Program::start`].
    pub fn start_appliance_behind(&self, proxy: SocketAddr, more: &str) -> anyhow::Result<Program> {
        let url = |port| format!("https://localhost:{port}");
        let text = self.appliance_settings(more).replace(&url(self.server.port()), &url(proxy.port()));
        Program::start("cerebrumd", &[], &self.write("cerebrum.toml", &text)?)
    }

    /// Starts the appliance over the upstream at `url`, without TLS; `more` are settings after its listening address.
    ///
    /// # Errors
    /// As [`Program::start`].
    pub fn start_appliance_over(&self, url: &str, more: &str) -> anyhow::Result<Program> {
        let text = format!("listen = \"{}\"\n{more}\n[[upstream]]\nurl = \"{url}\"\n", self.appliance);
        Program::start("cerebrumd", &[], &self.write("cerebrum.toml", &text)?)
    }

    /// Starts the appliance.
    ///
    /// # Errors
    /// As [`Program::start`].
    pub fn start_appliance(&self, more: &str) -> anyhow::Result<Program> {
        let config = self.write("cerebrum.toml", &self.appliance_settings(more))?;
        Program::start("cerebrumd", &[], &config)
    }
}

/// The bundled model's name.
pub const MODEL: &str = "cerebrum-tiny";

/// The folder with the bundled model.
pub fn models_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

fn add_key(path: &Path, name: &str) -> anyhow::Result<Secret> {
    let mut file = KeyFile::default();
    let secret = file.add(name);
    file.write(path)?;
    Ok(secret)
}
