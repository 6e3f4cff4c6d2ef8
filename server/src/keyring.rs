//! `cerebrum-server key`: makes the keys that callers need. Only their hashes are kept.

use std::path::PathBuf;

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
}

/// Does it; the answer is what to print.
///
/// # Errors
/// A key of that name, or a file that cannot be read or written.
pub fn carry_out(request: &Request) -> anyhow::Result<String> {
    let Request::Add { name, file: path } = request;
    let mut file = KeyFile::read(path)?;
    if file.keys.iter().any(|key| key.name == *name) {
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
    }
}
