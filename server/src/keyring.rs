//! `cerebrum-server key`: makes the keys that callers need, and lists them. Only their hashes are kept.

use std::path::{Path, PathBuf};

use anyhow::bail;
use cerebrum_common::keys::KeyFile;
use clap::Subcommand;

/// What to do with the key file.
#[derive(Debug, Subcommand)]
pub enum Request {
    /// Make a key, keep its hash and print it: the only time it is shown.
    Add {
        /// What to call it; appears in the log.
        name: String,
        /// The key file, `keys_file` in the settings.
        #[arg(long, default_value = "/etc/cerebrum/server-keys.toml")]
        file: PathBuf,
    },
    /// List the keys' names, and when each was last used.
    List {
        /// The key file, `keys_file` in the settings.
        #[arg(long, default_value = "/etc/cerebrum/server-keys.toml")]
        file: PathBuf,
        /// Where the server keeps when keys were used, `state_dir` in the settings.
        #[arg(long, default_value = "/var/lib/cerebrum")]
        state_dir: PathBuf,
    },
}

/// Does it; the answer is what to print.
///
/// # Errors
/// A key of that name, or a file that cannot be read or written.
pub fn carry_out(request: &Request) -> anyhow::Result<String> {
    match request {
        Request::Add { name, file } => add(name, file),
        Request::List { file, state_dir } => {
            let lines = KeyFile::read(file)?.told(file, Some(state_dir));
            Ok(lines.into_iter().map(|line| line + "\n").collect())
        }
    }
}

fn add(name: &str, path: &Path) -> anyhow::Result<String> {
    let mut file = KeyFile::read(path)?;
    if file.keys.iter().any(|key| key.name == name) {
        bail!("{}: found a key named {name:?} already; choose another name", path.display());
    }
    let secret = file.add(name);
    file.write(path)?;
    Ok(format!("{}\n", secret.expose()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_printed_once_kept_as_hash_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.toml");
        let add = || carry_out(&Request::Add { name: "appliance".into(), file: file.clone() });
        let printed = add().unwrap();
        let kept = std::fs::read_to_string(&file).unwrap();
        assert!(printed.starts_with("cbr_") && !kept.contains(printed.trim()));
        assert!(add().unwrap_err().to_string().contains("already"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), kept);
        let state_dir = folder.path().join("state");
        let list = carry_out(&Request::List { file, state_dir }).unwrap();
        assert_eq!(list, "appliance  no use on record\n");
    }
}
