//! `cerebrum pair`: asks an appliance for a key, shows the code that its panel shows too, and keeps the key once a person has
//! pressed the button.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cerebrum_common::settings::{environment, write_private};
use serde::Deserialize;

use super::cli::Pair;
use super::config;
use super::console::Console;
use super::failure::Failure;
use super::interrupt::unless_interrupted;
use super::server::Server;

/// What the appliance says to the first question.
#[derive(Debug, Deserialize)]
pub struct Begun {
    /// What its panel shows.
    pub code: String,
    /// Number of the attempt.
    pub id: u64,
    /// Fetches the key.
    pub claim: String,
    /// How long a person has to decide.
    pub expires_in_seconds: u64,
}

/// What has been decided.
#[derive(Debug, Deserialize)]
pub struct Decision {
    /// `waiting`, `granted`, `refused`, `expired` or `failed`.
    pub state: String,
    /// The key.
    pub key: Option<String>,
}

/// Runs the command.
pub(super) async fn run(arguments: &Pair, server: &Server, console: &mut Console) -> Result<ExitCode, Failure> {
    let name = arguments.name.clone().unwrap_or_else(own_name);
    let begun = unless_interrupted(server.pair(&name)).await?;
    console.note(&format!(
        "The appliance's panel shows {name:?} and a code. If the code is\n\n    {}\n\npress the first button there \
         shortly (hold it to refuse). {} seconds are left.",
        begun.code, begun.expires_in_seconds
    ));
    let key = loop {
        let decision = unless_interrupted(server.decision(&begun)).await?;
        match (decision.state.as_str(), decision.key) {
            ("waiting", _) => {}
            ("granted", Some(key)) => break key,
            (state, _) => return Err(Failure::NotPaired(sentence(state))),
        }
    };
    if arguments.print {
        console.line(&key)?;
        return Ok(ExitCode::SUCCESS);
    }
    let folder = config::home("XDG_CONFIG_HOME", ".config")
        .ok_or_else(|| Failure::Usage("found no HOME to keep the key in: use --print".to_owned()))?;
    keep(&folder, server, &key)
        .map_err(|source| Failure::Input { what: folder.display().to_string(), source })?
        .into_iter()
        .for_each(|line| console.note(&line));
    Ok(ExitCode::SUCCESS)
}

fn sentence(state: &str) -> &'static str {
    match state {
        "refused" => "it was refused at the appliance",
        "expired" => "nobody pressed the button in time: run this again",
        "failed" => "the appliance could not make a key: its log says why",
        _ => "the appliance answered with something of a later version",
    }
}

/// Writes the key into a file of its own, and settings that name it where there are none yet; a person's own settings are
/// never rewritten.
fn keep(folder: &Path, server: &Server, key: &str) -> std::io::Result<Vec<String>> {
    std::fs::create_dir_all(folder)?;
    let key_file = folder.join("key");
    write_private(&key_file, format!("{key}\n").as_bytes())?;
    let settings = folder.join("client.toml");
    let mut said = vec![format!("Paired. The key is in {}.", key_file.display())];
    if settings.exists() {
        said.push(format!("{} stays as it is; it needs: key_file = {key_file:?}", settings.display()));
    } else {
        let text = format!("url = {:?}\nkey_file = {key_file:?}\n", server.url());
        write_private(&settings, text.as_bytes())?;
        said.push(format!("{} names it, and the appliance.", settings.display()));
    }
    Ok(said)
}

/// This machine's name, as a person knows it.
fn own_name() -> String {
    let host = std::fs::read_to_string(PathBuf::from("/proc/sys/kernel/hostname")).ok();
    let host = host.or_else(|| environment("HOSTNAME")).map(|name| name.trim().to_owned());
    host.filter(|name| !name.is_empty()).unwrap_or_else(|| "a computer".to_owned())
}
