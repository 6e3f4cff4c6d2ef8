//! `cerebrumd`: the appliance's daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use cerebrum_appliance::daemon;
use cerebrum_common::program;
use clap::Parser;

/// Takes prompts from the LAN, prepares them and streams the answers of an inference server.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The settings file.
    #[arg(long, default_value = "/etc/cerebrum/cerebrum.toml")]
    config: PathBuf,
    /// Only check the settings: 0 when they are right, 64 when not.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    match program::arguments::<Arguments>() {
        Ok(Arguments { config, check }) => program::serve("cerebrumd", &config, check, daemon::run),
        Err(code) => code,
    }
}
