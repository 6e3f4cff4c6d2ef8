//! When each key was last used: a small file of times beside the key file, or in the program's state folder, so that the key
//! file itself is written by nobody but who adds and revokes. Losing it loses nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Times of last use, to the second, by the keys' hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastUse {
    /// SHA-256 of the key in hexadecimal, and the time.
    #[serde(default)]
    last_used: BTreeMap<String, String>,
}

/// Where the last use of the keys in `key_file` is kept.
pub fn path(key_file: &Path, state: Option<&Path>) -> PathBuf {
    let mut name = key_file.file_name().unwrap_or_default().to_owned();
    name.push(".used");
    match state {
        Some(folder) => folder.join(name),
        None => key_file.with_file_name(name),
    }
}

impl LastUse {
    /// Reads `path`. What is not there, or cannot be read, tells of no use: nothing depends on it but a person's overview.
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        toml::from_str(&text).unwrap_or_default()
    }

    /// Writes `path` whole or not at all, readable by its owner only.
    ///
    /// # Errors
    /// The system's complaint.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut text =
            String::from("# When API keys were last used, by their SHA-256; `key list` shows it.\n[last_used]\n");
        for (key, at) in &self.last_used {
            text.push_str(&format!("{key} = \"{at}\"\n"));
        }
        crate::settings::write_private(path, text.as_bytes())
    }

    /// Takes over what `other` knows better.
    #[must_use]
    pub fn or_later(mut self, other: Self) -> Self {
        for (key, at) in other.last_used {
            // Times of one format and zone are in the order of their letters.
            let entry = self.last_used.entry(key).or_default();
            *entry = std::mem::take(entry).max(at);
        }
        self
    }

    /// When the key of that hash was last used, as RFC 3339 in UTC.
    pub fn of(&self, sha256: &str) -> Option<&str> {
        self.last_used.get(sha256).map(String::as_str)
    }

    /// What a list of keys says of that.
    pub fn told(&self, sha256: &str) -> String {
        match self.of(sha256) {
            Some(at) => format!("last used {at}"),
            None => "no use on record".to_owned(),
        }
    }

    /// The same in seconds since 1970.
    pub(crate) fn seconds(&self, sha256: &str) -> Option<i64> {
        Some(self.of(sha256)?.parse::<Timestamp>().ok()?.as_second())
    }

    /// Notes a use, in seconds since 1970.
    pub(crate) fn note(&mut self, sha256: String, seconds: i64) {
        if let Ok(at) = Timestamp::from_second(seconds) {
            self.last_used.insert(sha256, at.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_and_the_later_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        let file = path(&folder.path().join("keys.toml"), None);
        assert!(file.ends_with("keys.toml.used"));
        assert_eq!(path(Path::new("/etc/x/keys.toml"), Some(Path::new("/s"))), Path::new("/s/keys.toml.used"));
        let mut used = LastUse::default();
        used.note("ab".into(), 1_800_000_000);
        used.write(&file).unwrap();
        let mut later = LastUse::read(&file);
        assert_eq!((&later, later.seconds("ab")), (&used, Some(1_800_000_000)));
        assert_eq!(later.told("ab"), "last used 2027-01-15T08:00:00Z");
        later.note("ab".into(), 1_800_000_001);
        assert_eq!(used.clone().or_later(later.clone()), later);
        assert_eq!(later.clone().or_later(used), later);
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.toml.used");
        assert_eq!(LastUse::read(&file), LastUse::default());
        std::fs::write(&file, "last_used = 7").unwrap();
        assert_eq!(LastUse::read(&file).told("ab"), "no use on record");
    }
}
