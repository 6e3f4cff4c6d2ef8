//! The daemon's part of `cerebrum.toml`: checked by the daemon's own reader, then written for it with its secrets where only
//! systemd hands them out.

use std::path::{Path, PathBuf};

use cerebrum_common::program::Settings as _;
use cerebrum_common::settings::{Problem, SettingsError};
use toml::{Table, Value};

use super::system::System;
use super::{FILE, Places, ProvisionError, at};
use crate::settings::Settings;

/// Where systemd shows the daemon what `LoadCredential=secret:…` names.
const CREDENTIALS: &str = "/run/credentials/cerebrumd.service";
/// Files that an `[[upstream]]` may name, and those of `[tls]`.
const UPSTREAM_FILES: [&str; 4] = ["key_file", "ca", "certificate", "key"];
const TLS_FILES: [&str; 3] = ["certificate", "key", "client_ca"];

/// Checks the settings as they lie on the boot partition, and writes the daemon's file. The inner error is what is wrong.
pub(super) fn settle(
    mut table: Table,
    system: &System,
    places: &Places,
) -> Result<Result<(), SettingsError>, ProvisionError> {
    table.insert("name".to_owned(), format!("{}.local", system.name).into());
    table.insert("keys_file".to_owned(), places.keys().display().to_string().into());
    // The image's own systemd-resolved answers to the name, also when the daemon is not well, and announces the service.
    table.entry("mdns").or_insert_with(|| Table::from_iter([("enabled".to_owned(), false.into())]).into());
    board(&mut table);
    // For the panel, which says what is wrong with the rest: world-readable, since there is no secret in it.
    let wiring = Table::from_iter(table.get("board").map(|board| ("board".to_owned(), board.clone())));
    let path = places.own().join("board.toml");
    at(&path, std::fs::write(&path, wiring.to_string()))?;
    // A static file of its own would be the same reader's; only the place differs from where relative paths start.
    let checked = Settings::from_text(&table.to_string(), FILE, &places.boot).and_then(usable);
    if let Err(error) = checked {
        return Ok(Err(error));
    }
    let mut files = Vec::new();
    for upstream in table.get_mut("upstream").and_then(Value::as_array_mut).into_iter().flatten() {
        move_files(upstream, &UPSTREAM_FILES, &mut files);
    }
    if let Some(tls) = table.get_mut("tls") {
        move_files(tls, &TLS_FILES, &mut files);
    }
    for (file, name) in files {
        let (from, to) = (places.boot.join(&file), places.own().join("secrets").join(name));
        let content = at(&from, std::fs::read(&from))?;
        at(&to, cerebrum_common::settings::write_private(&to, &content))?;
    }
    let path = places.own().join(FILE);
    at(&path, std::fs::write(&path, table.to_string()))?;
    Ok(Ok(()))
}

/// Certificates and keys must be usable, not only named.
fn usable(settings: Settings) -> Result<(), SettingsError> {
    let problems: Vec<Problem> = settings
        .tls_files()
        .into_iter()
        .filter_map(Result::err)
        .map(|error| Problem { key: "tls".to_owned(), sentence: error.to_string() })
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(SettingsError { origin: FILE.to_owned(), problems }) }
}

/// Switches the image off.
pub(crate) const POWER_OFF: [&str; 2] = ["touch", "/run/cerebrumd/power-off"];
/// Has the image forget everything.
pub(crate) const FACTORY_RESET: [&str; 2] = ["touch", "/run/cerebrumd/reset"];
/// Installs or starts the image's update.
const APPLY_UPDATE: [&str; 2] = ["touch", "/run/cerebrumd/update"];

/// What a press on the board starts. The daemon has no right to do it: it asks the image's own units.
fn board(table: &mut Table) {
    let board = table.entry("board").or_insert_with(|| Table::new().into());
    let Some(board) = board.as_table_mut() else { return };
    for (key, program) in [("power_off", POWER_OFF), ("factory_reset", FACTORY_RESET), ("apply_update", APPLY_UPDATE)] {
        board.entry(key).or_insert_with(|| program.map(Value::from).to_vec().into());
    }
    board.entry("update_file").or_insert_with(|| "/run/cerebrum/update.toml".into());
}

/// Replaces the names of files by where the daemon will find them; notes which is to become which.
fn move_files(section: &mut Value, keys: &[&str], files: &mut Vec<(PathBuf, String)>) {
    let Some(section) = section.as_table_mut() else { return };
    for key in keys {
        let Some(Value::String(path)) = section.get_mut(*key) else { continue };
        let name = plain(Path::new(path.as_str()));
        files.push((path.as_str().into(), name.clone()));
        *path = format!("{CREDENTIALS}/secret_{name}");
    }
}

/// A file's path as one name, which no other path has.
fn plain(path: &Path) -> String {
    let text = path.display().to_string();
    text.chars()
        .map(|character| {
            if character.is_ascii_alphanumeric() || character == '.' {
                character.to_string()
            } else {
                format!("_{:x}", u32::from(character))
            }
        })
        .collect()
}
