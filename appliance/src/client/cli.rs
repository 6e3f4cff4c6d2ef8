//! What can be typed after `cerebrum`: names, help and the checks of single values. Never reads a file or a socket.

use std::path::PathBuf;

use cerebrum_common::wire::Text;
use cerebrum_common::wire::native::{Generate, Limits, TokenLimit};
use clap::{Args, Parser, Subcommand};

const AFTER_HELP: &str = "\
Which appliance: --url, else CEREBRUM_URL, else `url` in the settings file, else http://127.0.0.1:7000.
Which key: --key-file, else CEREBRUM_API_KEY, else `key_file` or `key` in the settings file.
The settings file is ~/.config/cerebrum/client.toml and may hold: url, key_file or key, ca.

Exit codes: 0 fine, 1 failure (one sentence on standard error), 64 wrong usage, 130 stopped by Ctrl-C.

Examples:
  cerebrum complete \"Write a function that parses ISO dates\"
  cerebrum complete -f app.py \"Refactor this to use async/await\" > new.py
  git diff | cerebrum complete \"Write a commit message\"
  cerebrum repl --language rust";

/// Gets code from a Cerebrum appliance on the local network
#[derive(Debug, Parser)]
#[command(name = "cerebrum", version, propagate_version = true, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    /// Which appliance, and how to reach it.
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which appliance, and how to reach it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// The appliance's address, such as `http://cerebrum.local:7000`
    #[arg(long, global = true, value_name = "URL")]
    pub url: Option<String>,
    /// A file that holds the API key and nothing else
    #[arg(long, global = true, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// The CA of the appliance's certificate, in PEM (needed for https://)
    #[arg(long, global = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Another settings file than ~/.config/cerebrum/client.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Complete one prompt: from an argument, a file or standard input
    Complete(Complete),
    /// Ask one prompt after the other, with line editing and history
    Repl(Repl),
    /// Tell whether the appliance and its inference server are well (exit code 1 when no server is available)
    Health(Report),
    /// List the models
    Models(Report),
    /// Show what was served so far
    Stats(Report),
    /// Tell what the appliance would make of a prompt, without sending it to a model
    Prepare(Prepare),
    /// Ask the appliance for a key; a person allows it with a press on its button
    Pair(Pair),
    /// Show the appliance's panel and lamps, live, until Ctrl-C
    Board(Board),
    /// Find out why no answer comes, and how to mend it (on the appliance itself it looks deeper)
    Doctor(Doctor),
    /// Print a script that completes this program's arguments in a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, for `man -l -`
    Man,
    /// Make, list and revoke API keys in the appliance's key file
    #[command(subcommand)]
    Key(Key),
    /// Make the image's settings from cerebrum.toml on its boot partition; its own unit does so at every start
    Provision(Provision),
    /// Install a newer system, on the board: into the slot that is not running, tried before it stays
    Update(Update),
}

/// `cerebrum update`: on the image only. A bundle alone is staged and tried; nothing at all tells where things stand.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Update {
    /// The update bundle to install and start: a file, or an http(s) URL
    pub bundle: Option<String>,
    /// Also one that is older than the running system
    #[arg(long, requires = "bundle")]
    pub allow_older: bool,
    /// One step of it.
    #[command(subcommand)]
    pub command: Option<UpdateCommand>,
}

/// One step of an update.
#[derive(Debug, Subcommand)]
pub enum UpdateCommand {
    /// Tell whether a bundle is whole, signed and newer; write nothing
    Check(Bundle),
    /// Write a bundle into the slot that is not running
    Stage(Bundle),
    /// Start the staged system; without a sign of health the board comes back to this one by itself
    Try,
    /// Keep the running system
    Confirm,
    /// Start the other system, which was healthy before
    Rollback,
    /// Which slot runs, and which goes first
    Status,
    /// Do what the panel offers: install what was checked, or start what is staged; the image's own unit does so after a press
    Apply,
    /// Confirm the running system once it is healthy; the image's own unit does so at every start
    Settle {
        /// For how long it may be unhealthy
        #[arg(long, value_name = "SECONDS", default_value_t = 600)]
        within: u64,
    },
}

/// A bundle, and how old it may be.
#[derive(Args, Debug)]
pub struct Bundle {
    /// The update bundle: a file, or an http(s) URL
    pub bundle: String,
    /// Also one that is older than the running system
    #[arg(long)]
    pub allow_older: bool,
}

/// `cerebrum provision`: on the image only.
#[derive(Args, Debug)]
pub struct Provision {
    /// The boot partition, which holds cerebrum.toml
    #[arg(long, value_name = "FOLDER", default_value = "/boot")]
    pub boot: PathBuf,
    /// The data partition
    #[arg(long, value_name = "FOLDER", default_value = "/data")]
    pub data: PathBuf,
    /// What lasts until the next start
    #[arg(long, value_name = "FOLDER", default_value = "/run")]
    pub run: PathBuf,
    /// Forget keys, sessions and the machine's identity instead
    #[arg(long)]
    pub reset: bool,
}

/// `cerebrum complete`.
#[derive(Args, Debug)]
#[command(after_help = COMPLETE_HELP)]
pub struct Complete {
    /// The prompt, or the instruction for what --file or standard input holds; `-` reads standard input
    pub prompt: Option<String>,
    /// A file with the code or prompt; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Wait for the whole answer instead of showing tokens as they come
    #[arg(long)]
    pub no_stream: bool,
    /// Print the whole answer as one JSON document (does not stream)
    #[arg(long)]
    pub json: bool,
    /// Stream, and print every event (token, progress, done, error) as one line of JSON
    #[arg(long, conflicts_with_all = ["json", "no_stream"])]
    pub json_lines: bool,
    /// Report on standard error how much of the prompt has been read, also when that is no terminal
    #[arg(long)]
    pub progress: bool,
    /// How to generate.
    #[command(flatten)]
    pub parameters: Parameters,
}

const COMPLETE_HELP: &str = "\
With --file (or piped input) and an instruction, the file's content goes first, then a blank line and the instruction, marked as one: \
that is where the appliance looks for it.

Standard output gets the answer and nothing else. Progress and the final summary go to standard error, and only when \
that is a terminal. Ctrl-C closes the connection, which stops the generation. A stream that ends without its last \
event is an error (exit code 1): what was printed is incomplete.";

/// `cerebrum repl`.
#[derive(Args, Debug)]
#[command(after_help = REPL_HELP)]
pub struct Repl {
    /// The settings to start with; `:help` tells how to change them.
    #[command(flatten)]
    pub parameters: Parameters,
}

const REPL_HELP: &str = "\
Every line is a prompt; lines that begin with `:` are commands, `:help` lists them. Ctrl-C stops a generation, Ctrl-D \
leaves. The history is kept in ~/.local/state/cerebrum/history, readable by you only.

When standard input is not a terminal, its lines are taken as if typed, without prompts or history file; the exit code \
is then 1 if any of them failed.";

/// A report's form.
#[derive(Args, Clone, Copy, Debug)]
pub struct Report {
    /// Print the appliance's answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `cerebrum key`: works on the file, on the machine where it lies.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key and print it: this once, since only its hash is kept
    Add(NamedKey),
    /// List the keys' names, and when each was last used
    List(KeyFileArgument),
    /// Take a key away
    Revoke(NamedKey),
}

/// One key of a file.
#[derive(Args, Debug)]
pub struct NamedKey {
    /// Whose key: a person, a machine, an editor
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub name: String,
    /// The file.
    #[command(flatten)]
    pub file: KeyFileArgument,
}

/// A file of API keys.
#[derive(Args, Debug)]
pub struct KeyFileArgument {
    /// The appliance's file of key hashes [default: /etc/cerebrum/keys.toml, on the image /data/cerebrum/keys.toml]
    #[arg(long, value_name = "FILE", hide_default_value = true,
        default_value_os_t = there(["/run/cerebrum/cerebrum.toml", "/data/cerebrum/keys.toml", "/etc/cerebrum/keys.toml"]))]
    pub file: PathBuf,
}

/// Where things are on the image, if `sign` is there, else where they are elsewhere.
fn there([sign, image, elsewhere]: [&str; 3]) -> PathBuf {
    if std::path::Path::new(sign).exists() { image.into() } else { elsewhere.into() }
}

/// `cerebrum prepare`.
#[derive(Args, Debug)]
pub struct Prepare {
    /// The prompt, or the instruction for what --file or standard input holds; `-` reads standard input
    pub prompt: Option<String>,
    /// A file with the code or prompt; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Language of the code [default: found by the appliance]
    #[arg(short, long, value_parser = name)]
    pub language: Option<String>,
    /// Another profile than the appliance's own: off, classic, smart
    #[arg(long, value_parser = name)]
    pub profile: Option<String>,
    /// Print the account and the prepared prompt as JSON
    #[arg(long)]
    pub json: bool,
}

/// `cerebrum pair`.
#[derive(Args, Debug)]
pub struct Pair {
    /// The appliance's address, as --url: `cerebrum.local` is enough
    pub address: Option<String>,
    /// The name that the panel shows and the key gets [default: this machine's]
    #[arg(long)]
    pub name: Option<String>,
    /// Print the key instead of keeping it in ~/.config/cerebrum
    #[arg(long)]
    pub print: bool,
}

/// `cerebrum board`.
#[derive(Args, Debug)]
pub struct Board {
    /// One picture instead of a live one (as it is when the output is no terminal)
    #[arg(long)]
    pub once: bool,
}

/// `cerebrum doctor`.
#[derive(Args, Debug)]
pub struct Doctor {
    /// The daemon's settings, looked at where they are there [default: /etc/cerebrum/cerebrum.toml, on the image
    /// /run/cerebrum/cerebrum.toml]
    #[arg(long, value_name = "FILE", hide_default_value = true,
        default_value_os_t = there(["/run/cerebrum/cerebrum.toml", "/run/cerebrum/cerebrum.toml", "/etc/cerebrum/cerebrum.toml"]))]
    pub daemon: PathBuf,
    /// Also ask a model for one token, which may have to be loaded first
    #[arg(long)]
    pub generate: bool,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

/// How to generate; what is absent is left to the appliance.
#[derive(Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Generation")]
pub struct Parameters {
    /// Language of the code [default: found by the appliance]
    #[arg(short, long, value_parser = name)]
    pub language: Option<String>,
    /// Model by name [default: chosen by the language]
    #[arg(short, long, value_parser = name)]
    pub model: Option<String>,
    /// Most tokens to generate [default: 512]
    #[arg(short = 'n', long, value_name = "N", value_parser = tokens)]
    pub max_tokens: Option<u64>,
    /// 0 always takes the likeliest token, up to 2 [default: 0.2]
    #[arg(short, long, value_name = "N", value_parser = temperature)]
    pub temperature: Option<f32>,
    /// The same seed gives the same answer
    #[arg(long, value_name = "N")]
    pub seed: Option<u32>,
    /// End the answer before this text (may be repeated)
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
}

impl Parameters {
    /// The request for `prompt`.
    pub fn request(&self, prompt: String, progress: bool) -> Generate {
        Generate {
            prompt: Some(prompt.into()),
            language: self.language.clone(),
            model: self.model.clone(),
            max_tokens: self.max_tokens.map(TokenLimit::AtMost),
            temperature: self.temperature,
            seed: self.seed.map(i64::from),
            stop: self.stop.iter().map(|text| Text::from(text.as_str())).collect(),
            progress,
            ..Generate::default()
        }
    }
}

/// A name of a model or language.
pub(super) fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("found {text:?}, expected one word"));
    }
    Ok(text.to_owned())
}

/// A number of tokens.
pub(super) fn tokens(text: &str) -> Result<u64, String> {
    let most = u64::from(Limits::default().max_tokens_cap);
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("found {text:?}, expected a whole number from 1 to {most}")),
    }
}

/// A temperature.
pub(super) fn temperature(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(number) if (0.0..=2.0).contains(&number) => Ok(number),
        _ => Err(format!("found {text:?}, expected a number from 0 to 2")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn values_are_judged_with_a_sentence() {
        assert_eq!(tokens("64"), Ok(64));
        for text in ["0", "32769", "-1", "many", ""] {
            assert_eq!(tokens(text), Err(format!("found {text:?}, expected a whole number from 1 to 32768")));
        }
        assert_eq!(temperature("0.7"), Ok(0.7));
        for text in ["2.1", "-0.1", "NaN", "hot"] {
            assert_eq!(temperature(text), Err(format!("found {text:?}, expected a number from 0 to 2")));
        }
        assert!(name("qwen_7b").is_ok() && name("two words").is_err() && name("").is_err());
    }
}
