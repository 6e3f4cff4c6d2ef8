//! The command-line client: asks an appliance for code and shows the answer as it comes.
//!
//! - [`cli`]: what can be typed; [`config`]: which appliance is meant, and with what key.
//! - [`server`]: one connection per question; dropping it stops the generation. [`answer`]: what comes back.
//! - `complete`, `reports`, `key`, `prepare`, `pair`, `board`, `doctor`, `repl`, `provision`, `update`, `manual`: the commands.
//!   `console`: the only writer to standard output and error.
//! - [`failure`]: every way to fail, its sentence and its exit code.
//!
//! It never retries by itself (a generation costs minutes) and never keeps a prompt, except in the REPL's own history.
//! Data comes from arguments, files, standard input and the appliance; it goes to standard output.

pub mod answer;
mod board;
pub mod cli;
mod complete;
pub mod config;
mod console;
mod cure;
mod doctor;
pub mod failure;
mod figures;
mod input;
mod interrupt;
mod key;
mod manual;
pub mod pair;
mod prepare;
mod provision;
mod repl;
mod reports;
pub mod server;
mod update;
mod view;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use console::Console;
use failure::{Failure, USAGE};

/// The whole program.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    let mut console = Console::standard();
    match run(cli, &mut console) {
        Ok(code) => code,
        Err(failure) => {
            console.finish(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Help and version are answers; anything else is wrong usage. An output that is closed already needs neither.
fn explain(error: &clap::Error) -> ExitCode {
    match error.print() {
        Ok(()) if error.use_stderr() => ExitCode::from(USAGE),
        _ => ExitCode::SUCCESS,
    }
}

/// Which appliance is meant; `pair` takes its address as a word of its own, too.
fn connection(cli: &Cli) -> Result<cli::Connection, Failure> {
    let Command::Pair(cli::Pair { address: Some(address), .. }) = &cli.command else {
        return Ok(cli.connection.clone());
    };
    match &cli.connection.url {
        Some(url) if url != address => {
            Err(Failure::Usage(format!("found {address} and --url {url}, expected one address of an appliance")))
        }
        _ => Ok(cli::Connection { url: Some(address.clone()), ..cli.connection.clone() }),
    }
}

fn run(cli: Cli, console: &mut Console) -> Result<ExitCode, Failure> {
    // Those that need no appliance.
    match &cli.command {
        Command::Key(_) if cli.connection.key_file.is_some() => {
            let told =
                "found --key-file, which names a client's own key; expected --file, the appliance's file of keys";
            return Err(Failure::Usage(told.to_owned()));
        }
        Command::Key(command) => return key::run(command, console).map(|()| ExitCode::SUCCESS),
        Command::Provision(places) => return provision::run(places, console).map(|()| ExitCode::SUCCESS),
        Command::Update(arguments) => return update::run(arguments, console),
        Command::Completions { shell } => return manual::completions(*shell, console),
        Command::Man => return manual::page(console),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    if let Command::Doctor(arguments) = &cli.command {
        return runtime.block_on(doctor::run(arguments, &cli.connection, console));
    }
    let server = config::server(&connection(&cli)?)?;
    let result = match &cli.command {
        Command::Complete(arguments) => complete::run(arguments, &server, console, &runtime),
        Command::Repl(arguments) => repl::run(arguments, &server, console, &runtime),
        Command::Health(report) => runtime.block_on(reports::health(*report, &server, console)),
        Command::Models(report) => runtime.block_on(reports::models(*report, &server, console)),
        Command::Stats(report) => runtime.block_on(reports::stats(*report, &server, console)),
        Command::Prepare(arguments) => runtime.block_on(prepare::run(arguments, &server, console)),
        Command::Pair(arguments) => runtime.block_on(pair::run(arguments, &server, console)),
        Command::Board(arguments) => runtime.block_on(board::run(arguments, &server, console)),
        _ => Ok(ExitCode::SUCCESS),
    };
    // A name lookup that hangs must not hold up the end of the program.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn meant(words: &[&str]) -> Result<Option<String>, String> {
        let cli = Cli::parse_from([&["cerebrum"], words].concat());
        connection(&cli).map(|connection| connection.url).map_err(|failure| failure.to_string())
    }

    #[test]
    fn an_address_to_pair_with_is_as_good_as_a_url() {
        let address = Ok(Some("cerebrum.local".to_owned()));
        assert_eq!(meant(&["pair", "cerebrum.local"]), address);
        assert_eq!(meant(&["pair", "--url", "cerebrum.local"]), address);
        assert_eq!(meant(&["pair", "cerebrum.local", "--url", "cerebrum.local"]), address);
        let both = meant(&["pair", "cerebrum.local", "--url", "http://box"]).unwrap_err();
        assert!(both.contains("found cerebrum.local and --url http://box, expected one address"), "{both}");
        assert_eq!(meant(&["pair"]), Ok(None));
    }
}
