//! `cerebrum-server`: the inference server, and the two things needed before it can run: identities and keys.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use cerebrum_common::telemetry;
use cerebrum_server::settings::Settings;
use cerebrum_server::{daemon, identities, keyring};
use clap::{Args, Parser, Subcommand};

/// Generates code with llama.cpp models for Cerebrum appliances.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Serve requests (what happens without a command, too).
    Serve(Serve),
    /// Make a certificate authority and the identities of server and appliance, or renew the identities.
    Pki(identities::Request),
    /// Manage the keys that callers need.
    #[command(subcommand)]
    Key(keyring::Request),
}

#[derive(Args)]
struct Serve {
    /// The settings file.
    #[arg(long, default_value = "/etc/cerebrum/cerebrum-server.toml")]
    config: PathBuf,
    /// Only check the settings: 0 when they are right, 64 when not.
    #[arg(long)]
    check: bool,
}

/// Exit code for wrong settings (EX_USAGE).
const WRONG_SETTINGS: u8 = 64;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command.unwrap_or(Command::Serve(arguments.serve)) {
        Command::Serve(serve) => start(&serve),
        Command::Pki(request) => told(identities::make(&request)),
        Command::Key(request) => told(keyring::carry_out(&request)),
    }
}

fn start(serve: &Serve) -> ExitCode {
    let settings = match Settings::read(&serve.config) {
        Ok(settings) => settings,
        Err(error) => return complain(WRONG_SETTINGS, &error),
    };
    if let Err(error) = telemetry::start(&settings.log) {
        return complain(WRONG_SETTINGS, &error);
    }
    if serve.check {
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

/// One thread serves everybody: a request costs it microseconds, and each model computes on its own threads.
fn run(settings: Settings) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(daemon::run(settings))
}

fn told(result: anyhow::Result<String>) -> ExitCode {
    match result.and_then(|text| Ok(std::io::stdout().write_all(text.as_bytes())?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(1, &format_args!("{error:#}")),
    }
}

#[expect(clippy::print_stderr, reason = "the log does not run here")]
fn complain(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("cerebrum-server: {error}");
    ExitCode::from(code)
}
