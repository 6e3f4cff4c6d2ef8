//! What a line of the REPL means. Pure.

use super::settings::Setting;

/// The answer to `:help`.
pub(super) const HELP: &str = "\
A line is a prompt, and its answer streams; these lines are commands:

  :lang [NAME]     language of the code; `-` leaves it to the appliance
  :model [NAME]    model; `-` leaves it to the appliance
  :tokens [N]      most tokens to generate, 1 to 32768; `-` for the default
  :temp [N]        temperature, 0 (always the likeliest token) to 2; `-` for the default
  :multi           a prompt of several lines, up to a line with only `:done`
  :history         your inputs, numbered (arrow keys and Ctrl-R bring them back)
  :history clear   forget them, in the history file too
  :clear           clear the screen; history and settings stay
  :help            this list
  :exit, :quit     leave, like Ctrl-D

Without a value, a setting is shown. Every setting goes with each following request.
Ctrl-C stops a running generation (the appliance stops too), or clears the line.
A prompt that begins with a colon needs a space before it.
";

/// A line, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Nothing but white space.
    Empty,
    /// To be completed.
    Prompt(String),
    /// To be obeyed.
    Command(Command),
}

/// What can be commanded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Show(Setting),
    Set(Setting, String),
    Reset(Setting),
    Multi,
    History,
    ForgetHistory,
    Clear,
    Exit,
}

/// Understands `line`.
///
/// # Errors
/// A sentence about a command that does not exist or takes no such value.
pub(super) fn parse(line: &str) -> Result<Line, String> {
    if line.trim().is_empty() {
        return Ok(Line::Empty);
    }
    let Some(command) = line.strip_prefix(':') else { return Ok(Line::Prompt(line.to_owned())) };
    let (name, value) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    self::command(name, value.trim()).map(Line::Command)
}

fn command(name: &str, value: &str) -> Result<Command, String> {
    if let Some(setting) = Setting::from_name(name) {
        return Ok(match value {
            "" => Command::Show(setting),
            "-" => Command::Reset(setting),
            value => Command::Set(setting, value.to_owned()),
        });
    }
    match (name, value) {
        ("help" | "h" | "?", "") => Ok(Command::Help),
        ("multi", "") => Ok(Command::Multi),
        ("history", "") => Ok(Command::History),
        ("history", "clear") => Ok(Command::ForgetHistory),
        ("clear", "") => Ok(Command::Clear),
        ("exit" | "quit" | "q", "") => Ok(Command::Exit),
        ("done", "") => Err("found :done without :multi before it".to_owned()),
        ("history", _) => Err(format!(":history: found {value:?}, expected nothing or clear")),
        ("help" | "multi" | "clear" | "exit" | "quit", _) => Err(format!(":{name}: found {value:?}, expected nothing")),
        _ => Err(format!("there is no command :{name}; :help lists them")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_prompts_unless_they_begin_with_a_colon() {
        assert_eq!(parse("  \t"), Ok(Line::Empty));
        assert_eq!(parse("def f():"), Ok(Line::Prompt("def f():".into())));
        assert_eq!(parse(" :x"), Ok(Line::Prompt(" :x".into())));
    }

    #[test]
    fn every_documented_command_exists() {
        for line in HELP.lines().filter_map(|line| line.strip_prefix("  :")) {
            let name = line.split([' ', ',']).next().unwrap();
            assert!(matches!(parse(&format!(":{name}")), Ok(Line::Command(_))), "{name}");
        }
        assert_eq!(parse(":quit"), Ok(Line::Command(Command::Exit)));
        assert_eq!(parse(":history clear"), Ok(Line::Command(Command::ForgetHistory)));
    }

    #[test]
    fn settings_are_shown_set_and_reset() {
        assert_eq!(parse(":model"), Ok(Line::Command(Command::Show(Setting::Model))));
        assert_eq!(parse(":model  m1 "), Ok(Line::Command(Command::Set(Setting::Model, "m1".into()))));
        assert_eq!(parse(":temp -"), Ok(Line::Command(Command::Reset(Setting::Temp))));
    }

    #[test]
    fn mistakes_get_a_sentence() {
        assert_eq!(parse(":modle x"), Err("there is no command :modle; :help lists them".into()));
        assert_eq!(parse(":clear all"), Err(":clear: found \"all\", expected nothing".into()));
        assert_eq!(parse(":done"), Err("found :done without :multi before it".into()));
    }
}
