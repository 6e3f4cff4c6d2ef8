//! `cerebrumd`: the appliance's daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use cerebrum_appliance::daemon;
use cerebrum_appliance::settings::Settings;
use cerebrum_common::telemetry;
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

/// Exit code for wrong settings or arguments (EX_USAGE).
const WRONG_SETTINGS: u8 = 64;

#[expect(clippy::print_stderr, reason = "the log does not run yet when settings are wrong")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let settings = match Settings::read(&arguments.config) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("cerebrumd: {error}");
            return ExitCode::from(WRONG_SETTINGS);
        }
    };
    if let Err(error) = telemetry::start(&settings.log) {
        eprintln!("cerebrumd: {error}");
        return ExitCode::from(WRONG_SETTINGS);
    }
    if arguments.check {
        return ExitCode::SUCCESS;
    }
    match run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One thread serves everybody: a request costs microseconds of it, and what takes longer goes to another thread.
fn run(settings: Settings) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(daemon::run(settings))
}
