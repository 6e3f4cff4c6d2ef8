//! What a package installs beside the program: completions for shells, and the manual page.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::cli::Cli;
use super::console::Console;
use super::failure::Failure;

/// `cerebrum completions`.
pub(super) fn completions(shell: Shell, console: &mut Console) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cerebrum", &mut script);
    console.answer(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// `cerebrum man`: the program, and each of its commands.
pub(super) fn page(console: &mut Console) -> Result<ExitCode, Failure> {
    let mut command = Cli::command();
    command.build();
    let mut pages = Vec::new();
    let mut draw = |command: &clap::Command| clap_mangen::Man::new(command.clone()).render(&mut pages);
    let drawn = draw(&command).and_then(|()| command.get_subcommands().try_for_each(draw));
    drawn.map_err(Failure::Output)?;
    console.answer(&String::from_utf8_lossy(&pages))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_page_and_its_completion() {
        let command = Cli::command();
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Cli::command(), "cerebrum", &mut script);
        let script = String::from_utf8(script).unwrap();
        for sub in command.get_subcommands() {
            assert!(script.contains(&format!("cerebrum,{})", sub.get_name())), "{}", sub.get_name());
        }
    }
}
