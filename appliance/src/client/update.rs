//! `cerebrum update`, on the board: looks at an update, installs it, lets it prove itself.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::update::{Machine, UpdateError};

use super::cli::{Update, UpdateCommand};
use super::console::Console;
use super::failure::Failure;

/// How long a system may take to become healthy. An emulated board on a busy machine needs some minutes.
const SETTLE: Duration = Duration::from_secs(600);
/// Pause between two looks, and how long one may take.
const LOOK: Duration = Duration::from_secs(2);
/// Written by the image's own units when the settings are right.
const PROVISIONED: &str = "/run/cerebrum/provisioned";
/// The daemon's settings on the image.
const SETTINGS: &str = "/run/cerebrum/cerebrum.toml";

/// Runs the command.
pub(super) fn run(arguments: &Update, console: &mut Console) -> Result<ExitCode, Failure> {
    let machine = Machine::this()?;
    match (&arguments.command, &arguments.bundle) {
        (Some(UpdateCommand::Check(bundle)), _) => {
            let manifest = machine.check(&bundle.bundle, bundle.allow_older)?;
            console.line(&format!("version {} can be installed; {} runs", manifest.version, machine.version))?;
        }
        (Some(UpdateCommand::Stage(bundle)), _) => stage(&machine, &bundle.bundle, bundle.allow_older, console)?,
        (Some(UpdateCommand::Try), _) => start_anew(machine.try_other().map(|slot| slot.name())?, console)?,
        (Some(UpdateCommand::Rollback), _) => start_anew(machine.roll_back().map(|slot| slot.name())?, console)?,
        (Some(UpdateCommand::Confirm), _) => machine.confirm()?,
        (Some(UpdateCommand::Settle), _) => return settle(&machine, console),
        (Some(UpdateCommand::Status), _) | (None, None) => status(&machine, console)?,
        (None, Some(bundle)) => {
            stage(&machine, bundle, false, console)?;
            start_anew(machine.try_other().map(|slot| slot.name())?, console)?;
        }
    }
    Ok(ExitCode::SUCCESS)
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
    ))
}

fn stage(machine: &Machine, bundle: &Path, allow_older: bool, console: &mut Console) -> Result<(), Failure> {
    let mut shown = 0;
    let manifest = machine.stage(bundle, allow_older, |share| {
        let percent = (share * 10.0) as u32 * 10;
        if percent > shown {
            shown = percent;
            console.note(&format!("{percent} %"));
        }
    })?;
    console.line(&format!("version {} is in slot {}", manifest.version, machine.running.other().name()))
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
fn settle(machine: &Machine, console: &mut Console) -> Result<ExitCode, Failure> {
    let trial = machine.is_on_trial()?;
    let until = Instant::now() + SETTLE;
    while Instant::now() < until {
        if healthy() {
            machine.confirm()?;
            console.note(&format!("slot {} is healthy", machine.running.name()));
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(LOOK);
    }
    if trial {
        console.note("this system does not get healthy: going back to the other one");
        reboot()?;
    }
    Ok(ExitCode::FAILURE)
}

/// The daemon answers; or it cannot, because a person has to mend the settings, and the panel says so.
fn healthy() -> bool {
    if !Path::new(PROVISIONED).exists() {
        return is_active("cerebrum-setup.service");
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
