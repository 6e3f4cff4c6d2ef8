//! `cerebrum update`, on the board: looks at an update, installs it, lets it prove itself.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cerebrum_common::fetch::{self, Patience};

use crate::provision::{self, Places};
use crate::update::fetch::{fetch, forget};
use crate::update::notice::{Notice, Stage};
use crate::update::{Machine, UpdateError};

use super::cli::{Update, UpdateCommand};
use super::console::Console;
use super::failure::Failure;

/// Pause between two looks, and how long one may take.
const LOOK: Duration = Duration::from_secs(2);
/// Written by the image's own units when the settings are right.
const PROVISIONED: &str = "/run/cerebrum/provisioned";
/// The daemon's settings on the image.
const SETTINGS: &str = "/run/cerebrum/cerebrum.toml";
/// What is fetched from the web, until it is installed.
const FETCHED: &str = "/data/system/update";
/// Held by whoever changes slots.
const LOCK: &str = "/run/cerebrum/update.lock";
/// What the panel is told.
const NOTICE: &str = "/run/cerebrum/update.toml";

/// Runs the command.
pub(super) fn run(arguments: &Update, console: &mut Console) -> Result<ExitCode, Failure> {
    let machine = Machine::this()?;
    let _alone = match &arguments.command {
        Some(UpdateCommand::Status | UpdateCommand::Check(_)) => None,
        None if arguments.bundle.is_none() => None,
        Some(UpdateCommand::Settle { .. }) => Some(alone(true)?),
        _ => Some(alone(false)?),
    };
    let mut work = Work { machine: &machine, console };
    match (&arguments.command, &arguments.bundle) {
        (Some(UpdateCommand::Check(bundle)), _) => work.check(&bundle.bundle, bundle.allow_older)?,
        (Some(UpdateCommand::Stage(bundle)), _) => work.stage(&bundle.bundle, bundle.allow_older)?,
        (Some(UpdateCommand::Try), _) => start_anew(machine.try_other().map(|slot| slot.name())?, console)?,
        (Some(UpdateCommand::Rollback), _) => start_anew(machine.roll_back().map(|slot| slot.name())?, console)?,
        (Some(UpdateCommand::Confirm), _) => machine.confirm()?,
        (Some(UpdateCommand::Apply), _) => work.apply()?,
        (Some(UpdateCommand::Settle { within }), _) => {
            return settle(&machine, Duration::from_secs(*within), console);
        }
        (Some(UpdateCommand::Status), _) | (None, None) => status(&machine, console)?,
        (None, Some(bundle)) => {
            work.stage(bundle, arguments.allow_older)?;
            start_anew(machine.try_other().map(|slot| slot.name())?, console)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Two commands that write the boot loader's state or a slot would undo each other's work.
fn alone(wait: bool) -> Result<File, Failure> {
    let trouble = |source| Failure::Input { what: LOCK.into(), source };
    let lock = File::create(LOCK).map_err(trouble)?;
    if wait {
        lock.lock().map_err(trouble)?;
    } else if let Err(error) = lock.try_lock() {
        return Err(match error {
            TryLockError::WouldBlock => Failure::Missing(
                "another update command is at work, or this system has just started and is not confirmed yet: wait some minutes"
                    .to_owned(),
            ),
            TryLockError::Error(source) => trouble(source),
        });
    }
    Ok(lock)
}

fn status(machine: &Machine, console: &mut Console) -> Result<(), Failure> {
    let state = machine.state()?;
    let running = machine.running;
    let trial = if machine.is_on_trial()? { ", on trial" } else { "" };
    console.line(&format!("slot {} runs, version {}{trial}", running.name(), machine.version))?;
    let other = running.other();
    console.line(&format!(
        "slot {} goes first; tries left: {} {}, {} {}",
        state.first.name(),
        running.name(),
        state.left(running),
        other.name(),
        state.left(other)
    ))?;
    if let Some(version) = machine.staged()? {
        console.line(&format!("version {version} is in slot {}, not started yet", other.name()))?;
    }
    if let Some(version) = machine.failed()? {
        console.line(&format!("version {version} is in slot {}, was started and did not get well", other.name()))?;
    }
    Ok(())
}

/// An update's way from where it comes from into the other slot, told to the console and the panel.
struct Work<'a> {
    machine: &'a Machine,
    console: &'a mut Console,
}

impl Work<'_> {
    fn check(&mut self, source: &str, allow_older: bool) -> Result<(), Failure> {
        let path = self.bring(source)?;
        tell(source, Stage::Checking, 0);
        let manifest = self.good(source, self.machine.check(&path, allow_older))?;
        tell_of(manifest.version.numbers(), Some(source), Stage::Available, 0);
        self.console.line(&format!("version {} can be installed; {} runs", manifest.version, self.machine.version))
    }

    fn stage(&mut self, source: &str, allow_older: bool) -> Result<(), Failure> {
        let path = self.bring(source)?;
        tell(source, Stage::Checking, 0);
        let mut steps = Steps::new("installed");
        let staged = self.machine.stage(&path, allow_older, |share| {
            steps.reach((share * 100.0) as u8, self.console, |percent| tell(source, Stage::Installing, percent));
        });
        let manifest = self.good(source, staged)?;
        if fetch::url(source).is_some() {
            forget(Path::new(FETCHED));
        }
        tell_of(manifest.version.numbers(), Some(source), Stage::RestartNeeded, 0);
        self.console.line(&format!("version {} is in slot {}", manifest.version, self.machine.running.other().name()))
    }

    /// What a press on the panel's page asks for.
    fn apply(&mut self) -> Result<(), Failure> {
        if self.machine.staged()?.is_none() {
            let source = Notice::read(Path::new(NOTICE)).and_then(|notice| notice.source);
            let source = source.ok_or_else(|| Failure::Missing(format!("found no update in {NOTICE} to install")))?;
            self.stage(&source, false)?;
        }
        start_anew(self.machine.try_other().map(|slot| slot.name())?, self.console)
    }

    /// The file, fetched first where it is a URL.
    fn bring(&mut self, source: &str) -> Result<PathBuf, Failure> {
        let Some(url) = fetch::url(source) else { return Ok(source.into()) };
        let mut steps = Steps::new("fetched");
        let fetched = fetch(&url, Path::new(FETCHED), Patience::default(), |done, total| {
            let percent = done.saturating_mul(100) / total.unwrap_or(u64::MAX).max(1);
            steps.reach(percent as u8, self.console, |percent| tell(source, Stage::Fetching, percent));
        });
        // What came of a file that was cut off is not bad: the next attempt goes on with it.
        fetched.map_err(|error| {
            tell(source, Stage::Failed, 0);
            error.into()
        })
    }

    /// Bytes that are no good update are not kept for the next attempt.
    fn good<T>(&self, source: &str, outcome: Result<T, UpdateError>) -> Result<T, Failure> {
        outcome.map_err(|error| {
            if fetch::url(source).is_some() && matches!(error, UpdateError::Bundle(_)) {
                forget(Path::new(FETCHED));
            }
            tell(source, Stage::Failed, 0);
            error.into()
        })
    }
}

/// Tells the panel of an update whose version is not known yet: it is as it was told before, or as the file is called.
fn tell(source: &str, stage: Stage, percent: u8) {
    let known = Notice::read(Path::new(NOTICE)).filter(|known| known.source.as_deref() == Some(source));
    let name = source.rsplit('/').next().unwrap_or(source);
    let named = || name.trim_end_matches(".update").trim_start_matches("cerebrum-cm4-").into();
    tell_of(known.map_or_else(named, |known| known.version), Some(source), stage, percent);
}

/// Tells the panel; without its panel the update is the same.
fn tell_of(version: String, source: Option<&str>, stage: Stage, percent: u8) {
    let notice = Notice { version, source: source.map(str::to_owned), stage, percent };
    drop(notice.write(Path::new(NOTICE)));
}

/// Per cents, each told once; every tenth to people.
struct Steps {
    what: &'static str,
    reached: Option<u8>,
}

impl Steps {
    const fn new(what: &'static str) -> Self {
        Self { what, reached: None }
    }

    fn reach(&mut self, percent: u8, console: &mut Console, tell: impl FnOnce(u8)) {
        if self.reached.is_some_and(|reached| percent <= reached) {
            return;
        }
        tell(percent);
        if percent / 10 > self.reached.unwrap_or(0) / 10 {
            console.note(&format!("{} {} %", self.what, percent / 10 * 10));
        }
        self.reached = Some(percent);
    }
}

fn start_anew(slot: &str, console: &mut Console) -> Result<(), Failure> {
    console.line(&format!("starting slot {slot}; without a sign of health it comes back here by itself"))?;
    reboot()
}

fn reboot() -> Result<(), Failure> {
    let started = std::process::Command::new("systemctl").args(["--no-block", "reboot"]).status();
    match started {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::Missing(format!("systemctl reboot: {status}"))),
        Err(source) => Err(Failure::Input { what: "systemctl".into(), source }),
    }
}

/// Confirms the running system once it is healthy. One on trial that is not in time is left for the other; one that was
/// healthy before stays, since the other would hardly do better, and a person can still reach it.
fn settle(machine: &Machine, within: Duration, console: &mut Console) -> Result<ExitCode, Failure> {
    let trial = machine.is_on_trial()?;
    if let Some(version) = machine.staged()? {
        tell_of(version, None, Stage::RestartNeeded, 0);
    }
    let until = Instant::now() + within;
    while Instant::now() < until {
        if healthy(trial) {
            machine.confirm()?;
            drop(provision::remember(&Places::of_the_image()));
            console.note(&format!("slot {} is healthy", machine.running.name()));
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(LOOK);
    }
    if trial {
        console.note("this system does not get healthy: going back to the other one");
        machine.give_up()?;
        reboot()?;
    }
    Ok(ExitCode::FAILURE)
}

/// The daemon answers; or it cannot, because a person has to mend the settings, and the panel says so. A system on trial that
/// refuses the very settings which the one before took is not well.
fn healthy(trial: bool) -> bool {
    if !Path::new(PROVISIONED).exists() {
        let were_right = provision::were_right(&Places::of_the_image());
        return !(trial && were_right) && is_active("cerebrum-setup.service");
    }
    is_active("cerebrumd.service") && answers().unwrap_or(false)
}

fn is_active(unit: &str) -> bool {
    let asked = std::process::Command::new("systemctl").args(["--quiet", "is-active", unit]).status();
    asked.is_ok_and(|status| status.success())
}

/// Any answer to a first request: with TLS it is a complaint, and comes from the same loop.
fn answers() -> std::io::Result<bool> {
    let settings = std::fs::read_to_string(SETTINGS)?;
    let table: toml::Table = settings.parse().unwrap_or_default();
    let listens =
        table.get("listen").and_then(toml::Value::as_str).and_then(|listen| listen.parse::<SocketAddr>().ok());
    let listens = listens.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7000)));
    let address =
        if listens.ip().is_unspecified() { SocketAddr::from((Ipv4Addr::LOCALHOST, listens.port())) } else { listens };
    let mut stream = TcpStream::connect_timeout(&address, LOOK)?;
    stream.set_read_timeout(Some(LOOK))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    let read = stream.read(&mut head)?;
    Ok(table.contains_key("tls") || head[..read].starts_with(b"HTTP/1.1 200"))
}

impl From<UpdateError> for Failure {
    fn from(error: UpdateError) -> Self {
        Self::Missing(error.to_string())
    }
}
