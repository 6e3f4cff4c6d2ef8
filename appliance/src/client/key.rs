//! `cerebrum key`: the appliance's file of key hashes. Works on the file alone; a key is shown once and kept nowhere.

use cerebrum_common::keys::KeyFile;

use super::cli::{Key, KeyFileArgument, NamedKey};
use super::console::Console;
use super::failure::Failure;

/// Runs the command.
pub(super) fn run(command: &Key, console: &mut Console) -> Result<(), Failure> {
    match command {
        Key::Add(key) => add(key, console),
        Key::List(file) => list(file, console),
        Key::Revoke(key) => revoke(key, console),
    }
}

fn add(NamedKey { name, file }: &NamedKey, console: &mut Console) -> Result<(), Failure> {
    if name.chars().any(char::is_control) {
        return Err(Failure::Usage(format!("found the name {name:?}, expected one without control characters")));
    }
    let mut keys = KeyFile::read(&file.file)?;
    if keys.keys.iter().any(|key| key.name == *name) {
        let sentence = format!("there is a key named {name:?} already: revoke it first, or take another name");
        return Err(Failure::Usage(sentence));
    }
    let secret = keys.add(name);
    keys.write(&file.file)?;
    console.line(secret.expose())?;
    console.remark("This key is shown once and kept nowhere: put it where its user finds it.");
    Ok(())
}

fn list(file: &KeyFileArgument, console: &mut Console) -> Result<(), Failure> {
    let keys = KeyFile::read(&file.file)?;
    if keys.keys.is_empty() {
        console.note(&format!("no keys in {}", file.file.display()));
    }
    keys.told(&file.file, None).iter().try_for_each(|line| console.line(line))
}

fn revoke(NamedKey { name, file }: &NamedKey, console: &mut Console) -> Result<(), Failure> {
    let mut keys = KeyFile::read(&file.file)?;
    let before = keys.keys.len();
    keys.keys.retain(|key| key.name != *name);
    if keys.keys.len() == before {
        return Err(Failure::Missing(format!("there is no key named {name:?} in {}", file.file.display())));
    }
    keys.write(&file.file)?;
    console.remark(&format!("{name:?} is revoked; a running appliance goes by it within seconds."));
    Ok(())
}
