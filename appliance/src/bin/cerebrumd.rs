//! `cerebrumd`: the appliance's daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use cerebrum_appliance::settings::Settings;
use cerebrum_appliance::{daemon, report};
use cerebrum_common::program::{self, Settings as _};
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
    /// Only try the board: light one lamp after the other, draw a test pattern, tell what answered and what was pressed.
    #[arg(long)]
    check_board: bool,
    /// Only show on the panel what this file says, until a signal says stop. Of the settings only `[board]` counts then.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

const NAME: &str = "cerebrumd";

/// How long each lamp is lit, for a person to look at; the test pattern stays for four of them.
const LOOK: Duration = Duration::from_millis(1500);

fn main() -> ExitCode {
    match program::arguments::<Arguments>() {
        Ok(Arguments { config, check_board: true, .. }) => check_board(&config),
        Ok(Arguments { report: Some(file), config, .. }) => show_report(&file, &config),
        Ok(Arguments { config, check, .. }) => program::serve(NAME, &config, check, daemon::run),
        Err(code) => code,
    }
}

fn show_report(file: &Path, config: &Path) -> ExitCode {
    if let Err(error) = telemetry::start("info") {
        return program::complain(NAME, program::WRONG_USE, &error);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from);
    match runtime.and_then(|runtime| runtime.block_on(report::run(file, Settings::wiring(config)))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => program::complain(NAME, 1, &format_args!("{error:#}")),
    }
}

#[expect(clippy::print_stdout, reason = "the report is this command's answer")]
fn check_board(config: &Path) -> ExitCode {
    let settings = match Settings::read(config) {
        Ok(settings) => settings,
        Err(error) => return program::complain(NAME, program::WRONG_USE, &error),
    };
    let Some(wiring) = settings.board.wiring else {
        return program::complain(NAME, program::WRONG_USE, &"board.backend: found \"off\", expected a board to try");
    };
    let report = cerebrum_board::check(&wiring, LOOK, |now| println!("{now}"));
    println!("{report}");
    if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
