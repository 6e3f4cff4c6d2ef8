//! First boot and every boot: `cerebrum.toml` of the boot partition becomes what the image's units go by.
//!
//! Owns the reading of that one file and everything made of it in `/run`. The file holds the daemon's settings and, beside
//! them, the tables that only the image knows (network, Wi-Fi, SSH, time, WireGuard, clients). It is read at every start and
//! is the only source; nothing is asked, and nothing of it is changed. What is wrong is written beside it and told to the
//! panel; tables that are right count even when others are wrong, so that a person can still get in.

pub(crate) mod daemon;
mod render;
mod system;

use std::io;
use std::path::{Path, PathBuf};

use cerebrum_common::keys::{KeyFile, KeyFileError, Secret};
use cerebrum_common::settings::{Problem, SettingsError, write_private};

use sha2::{Digest, Sha256};

use crate::update::bundle::hex;
use system::System;

/// The settings file on the boot partition.
pub const FILE: &str = "cerebrum.toml";
/// What was wrong with it at the last start.
pub const ERRORS: &str = "cerebrum.toml.errors.txt";

/// Where things are; the machine's own places, or a test's.
#[derive(Clone, Debug)]
pub struct Places {
    /// The boot partition, which a person can write with any computer.
    pub boot: PathBuf,
    /// The data partition.
    pub data: PathBuf,
    /// What lasts until the next start.
    pub run: PathBuf,
}

impl Places {
    /// Those of the image.
    pub fn of_the_image() -> Self {
        Self { boot: "/boot".into(), data: "/data".into(), run: "/run".into() }
    }

    fn own(&self) -> PathBuf {
        self.run.join("cerebrum")
    }

    fn keys(&self) -> PathBuf {
        self.data.join("cerebrum/keys.toml")
    }

    fn provisioned(&self) -> PathBuf {
        self.own().join("provisioned")
    }

    /// Names of the clients that the file named last.
    fn named(&self) -> PathBuf {
        self.data.join("system/clients.json")
    }

    /// SHA-256 of the file that a healthy system took.
    fn right(&self) -> PathBuf {
        self.data.join("system/settings.sha256")
    }
}

/// Notes that the file as it is now was right, for a system of another version to go by.
///
/// # Errors
/// A place that cannot be written.
pub fn remember(places: &Places) -> io::Result<()> {
    match places.provisioned().exists() {
        true => std::fs::write(places.right(), sum(places)?),
        false => Ok(()),
    }
}

/// Whether a healthy system took the file as it is now.
pub fn were_right(places: &Places) -> bool {
    let known = std::fs::read_to_string(places.right());
    known.is_ok_and(|known| sum(places).is_ok_and(|sum| sum == known))
}

fn sum(places: &Places) -> io::Result<String> {
    Ok(hex(&Sha256::digest(std::fs::read(places.boot.join(FILE))?)))
}

/// Why nothing could be made of the file, other than by what it says.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// A place cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The place.
        path: PathBuf,
        /// The system's complaint.
        source: io::Error,
    },
    /// The file of client keys.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
}

/// Reads the file and makes everything of it; returns what is wrong with it.
///
/// # Errors
/// [`ProvisionError`]: a place that cannot be written.
pub fn provision(places: &Places) -> Result<Vec<Problem>, ProvisionError> {
    let own = places.own();
    let fresh = |name: &str| -> Result<(), ProvisionError> {
        let path = own.join(name);
        at(&path, std::fs::create_dir_all(&path))
    };
    for folder in ["firewall", "secrets", "ssh"] {
        fresh(folder)?;
    }
    private_folder(&own.join("secrets"))?;
    let problems = match read(&places.boot) {
        Err(problems) => problems,
        Ok(text) => apply(&text, places)?,
    };
    report(&problems, places)?;
    Ok(problems)
}

/// Forgets what was granted and learnt: keys, sessions, the machine's identity. `cerebrum.toml` stays as it is.
///
/// # Errors
/// [`ProvisionError::Io`].
pub fn reset(places: &Places) -> Result<(), ProvisionError> {
    for folder in ["cerebrum", "system"] {
        let path = places.data.join(folder);
        if path.is_dir() {
            for entry in at(&path, std::fs::read_dir(&path))? {
                let entry = at(&path, entry)?.path();
                let removed =
                    if entry.is_dir() { std::fs::remove_dir_all(&entry) } else { std::fs::remove_file(&entry) };
                // Some are mounted elsewhere and cannot go while the system runs; they hold nothing a person has given.
                if let Err(error) = removed {
                    tracing::warn!(%error, "{} stays", entry.display());
                }
            }
        }
    }
    Ok(())
}

/// The file's text, whatever the editor that wrote it has put before or between.
fn read(boot: &Path) -> Result<String, Vec<Problem>> {
    let problem = |sentence: &str| vec![Problem { key: FILE.to_owned(), sentence: sentence.to_owned() }];
    let bytes = match std::fs::read(boot.join(FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let hidden = format!("{FILE}.txt");
            return Err(if boot.join(&hidden).exists() {
                problem(&format!("found {hidden}, expected {FILE}: take the .txt away"))
            } else {
                problem(&format!("found no such file on the boot partition, expected one as {FILE}.example shows"))
            });
        }
        Err(error) => return Err(problem(&format!("found {error}, expected a readable file"))),
    };
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(problem("found UTF-16, expected UTF-8: save it anew with that encoding"));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| problem(&format!("found bytes that are not UTF-8 ({error}), expected UTF-8")))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned())
}

fn apply(text: &str, places: &Places) -> Result<Vec<Problem>, ProvisionError> {
    let mut table = match text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(error) => return Ok(vec![syntax(text, &error)]),
    };
    let (system, mut problems) = system::take(&mut table, &places.boot);
    for (path, content) in render::files(&system) {
        let path = places.run.join(path);
        at(&path, write_shared(&path, &content))?;
    }
    // A file that cannot be read, or a full disk, is a person's to mend: the panel says so.
    if let Err(error) = grant(&system, places) {
        let sentence =
            format!("found {error}, expected the keys of known clients: a factory reset makes the file anew");
        problems.push(Problem { key: "client keys".to_owned(), sentence });
    }
    match daemon::settle(table, &system, places)? {
        Ok(()) if problems.is_empty() => {
            let path = places.provisioned();
            at(&path, std::fs::write(&path, ""))?;
        }
        Ok(()) => {}
        Err(SettingsError { problems: more, .. }) => problems.extend(more),
    }
    Ok(problems)
}

/// Where the file is no TOML. The line itself is not shown, since it may hold a secret: the panel is seen, and so is the file of
/// errors.
fn syntax(text: &str, error: &toml::de::Error) -> Problem {
    let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or(text));
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let message = error.message().replace('\n', ", ");
    Problem { key: "syntax".to_owned(), sentence: format!("line {line}, column {column}: {message}") }
}

/// The clients that the file names may call, and those that it named before may no more. Keys that were made by pairing stay.
fn grant(system: &System, places: &Places) -> Result<(), ProvisionError> {
    let path = places.keys();
    let mut keys = KeyFile::read(&path)?;
    let before = keys.clone();
    let named = places.named();
    let known: Vec<String> =
        std::fs::read(&named).ok().and_then(|known| serde_json::from_slice(&known).ok()).unwrap_or_default();
    let names: Vec<&str> = system.clients.iter().map(|client| client.name.as_str()).collect();
    keys.keys.retain(|key| names.contains(&key.name.as_str()) || !known.contains(&key.name));
    for client in &system.clients {
        keys.set(&client.name, &Secret::new(client.key.clone()));
    }
    if known != names {
        at(&named, write_private(&named, serde_json::json!(names).to_string().as_bytes()))?;
    }
    if keys == before && path.exists() {
        return Ok(());
    }
    keys.write(&path)?;
    Ok(())
}

/// Tells the person: beside the file, and to the panel.
fn report(problems: &[Problem], places: &Places) -> Result<(), ProvisionError> {
    let path = places.own().join("problem.txt");
    if let Some(first) = problems.first() {
        let all = match problems.len() {
            1 => String::new(),
            all => format!("{all} mistakes, all in {ERRORS}. "),
        };
        // What is wrong with the file itself names it already.
        let file = if first.key == FILE { String::new() } else { format!("{FILE}: ") };
        let text = format!("{all}{file}{first}");
        at(&path, std::fs::write(&path, text))?;
    }
    let beside = places.boot.join(ERRORS);
    let wanted = (!problems.is_empty()).then(|| errors(problems));
    if std::fs::read_to_string(&beside).ok() == wanted {
        return Ok(());
    }
    // The partition may be harmed, full or write-protected: that must not keep the appliance from its work.
    if let Err(error) = writable(&places.boot, || match &wanted {
        Some(text) => std::fs::write(&beside, text).and_then(|()| std::fs::File::open(&beside)?.sync_all()),
        None => std::fs::remove_file(&beside),
    }) {
        tracing::warn!(%error, "{} cannot be written", beside.display());
    }
    Ok(())
}

fn errors(problems: &[Problem]) -> String {
    let mut text = format!("What is wrong with {FILE}. The appliance reads it anew when it starts.\r\n\r\n");
    for problem in problems {
        text.push_str(&format!("{problem}\r\n").replace("\r\n", "\n").replace('\n', "\r\n"));
    }
    text
}

/// The boot partition is mounted read-only, since a cut while it is written could harm it: writable for this moment only.
fn writable(boot: &Path, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let remount = |how: &str| std::process::Command::new("mount").args(["-o", how]).arg(boot).status();
    let mounted = std::fs::read_to_string("/proc/self/mounts")?
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .any(|place| Path::new(place) == boot);
    if mounted {
        remount("remount,rw")?;
    }
    let written = write();
    if mounted {
        remount("remount,ro")?;
    }
    written
}

/// Files that other users' services read; secrets are not among them.
fn write_shared(path: &Path, content: &render::Content) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match content {
        render::Content::Public(text) => std::fs::write(path, text),
        render::Content::Private(text) => write_private(path, text.as_bytes()),
    }
}

fn private_folder(path: &Path) -> Result<(), ProvisionError> {
    use std::os::unix::fs::PermissionsExt;
    at(path, std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)))
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, ProvisionError> {
    result.map_err(|source| ProvisionError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
