//! `cerebrum-server`: the inference server, and what is needed before it can run: identities, keys and models.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use cerebrum_common::program;
use cerebrum_server::{daemon, http, identities, kernels, keyring, models, trial};
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
    /// Manage the models that are served.
    Models(models::Request),
    /// Try a model's file out; what the server does before it loads one for the first time.
    #[command(hide = true)]
    Trial(trial::Request),
    /// Render a conversation by a model's template; what the server does for each.
    #[command(hide = true)]
    Template,
    /// Say which kernels this build computes with.
    Kernels,
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

const NAME: &str = "cerebrum-server";

fn main() -> ExitCode {
    let stays = kernels::choose();
    let arguments = match program::arguments::<Arguments>() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    if let Some(error) = stays {
        program::complain(NAME, 1, &format_args!("going on with slower kernels: {error}"));
    }
    match arguments.command.unwrap_or(Command::Serve(arguments.serve)) {
        Command::Serve(Serve { config, check }) => program::serve(NAME, &config, check, daemon::run),
        Command::Pki(request) => told(identities::make(&request)),
        Command::Key(request) => told(keyring::carry_out(&request)),
        Command::Models(request) => told(models::carry_out(request)),
        Command::Kernels => told(Ok(kernels::told())),
        Command::Trial(request) => answered(trial::carry_out(request)),
        Command::Template => answered(http::render_template()),
    }
}

// Both kinds of answer are for the program that asked, and go where it reads them.
fn answered(result: Result<String, String>) -> ExitCode {
    let (text, code) = match result {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(text) => (text, ExitCode::FAILURE),
    };
    // Whoever asked has gone: nobody to tell.
    drop(std::io::stdout().write_all(text.as_bytes()));
    code
}

fn told(result: anyhow::Result<String>) -> ExitCode {
    match result.and_then(|text| Ok(std::io::stdout().write_all(text.as_bytes())?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => program::complain(NAME, 1, &format_args!("{error:#}")),
    }
}
