//! API keys: random, shown once, kept as SHA-256 only, compared in constant time.
//!
//! A key has 160 random bits, so one plain hash is enough: there is nothing to guess that salting or stretching would
//! slow down.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use http::HeaderMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::key_use::{self, LastUse};

/// A key in the clear: printed once, held by clients.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes over a key read from a file, the environment or a header.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// A new random key, `cbr_` and 40 hexadecimal digits.
    pub fn random() -> Self {
        let (a, b) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        // Hashing two version 4 UUIDs (122 random bits each) leaves no fixed bits in the result.
        let digest = Sha256::new().chain_update(a.as_bytes()).chain_update(b.as_bytes()).finalize();
        Self(format!("cbr_{}", hex(&digest[..20])))
    }

    /// The key itself, for a header or a person's eyes.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Who called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The key's name, or `open` where no key is needed.
    pub name: std::sync::Arc<str>,
    /// What the key file says of what it may take.
    pub allowance: Allowance,
}

/// What a key may take; nothing said is nothing limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    /// Requests at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_progress: Option<u32>,
    /// Requests a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute, read and written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u32>,
}

impl Allowance {
    /// This one's words, and `usual` ones where it is silent.
    #[must_use]
    pub fn or(self, usual: Self) -> Self {
        Self {
            in_progress: self.in_progress.or(usual.in_progress),
            requests_per_minute: self.requests_per_minute.or(usual.requests_per_minute),
            tokens_per_minute: self.tokens_per_minute.or(usual.tokens_per_minute),
        }
    }

    /// Its words by their names.
    fn entries(self) -> impl Iterator<Item = (&'static str, u32)> {
        let all = [
            ("in_progress", self.in_progress),
            ("requests_per_minute", self.requests_per_minute),
            ("tokens_per_minute", self.tokens_per_minute),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }
}

/// What a program accepts.
#[derive(Clone, Debug)]
pub enum Keys {
    /// Everybody may call.
    Open,
    /// One of these keys is needed.
    Known(Vec<KnownKey>),
}

/// One accepted key.
#[derive(Clone, Debug)]
pub struct KnownKey {
    name: std::sync::Arc<str>,
    digest: [u8; 32],
    allowance: Allowance,
    /// When it last let somebody in, in seconds since 1970; 0 as long as it has not.
    used: std::sync::Arc<AtomicI64>,
}

impl KnownKey {
    /// The key `secret`, known as `name`.
    pub fn new(name: &str, secret: &Secret) -> Self {
        Self::of(name, secret.digest(), Allowance::default())
    }

    fn of(name: &str, digest: [u8; 32], allowance: Allowance) -> Self {
        Self { name: name.into(), digest, allowance, used: std::sync::Arc::default() }
    }

    /// Its hash, as in the file.
    pub(crate) fn sha256(&self) -> String {
        hex(&self.digest)
    }

    /// When it last let somebody in, in seconds since 1970; none when it has not.
    pub(crate) fn used(&self) -> Option<i64> {
        Some(self.used.load(Ordering::Relaxed)).filter(|&seconds| seconds != 0)
    }

    /// It was used then.
    pub(crate) fn was_used(&self, seconds: i64) {
        self.used.store(seconds, Ordering::Relaxed);
    }
}

/// Why a caller is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No key was sent.
    Missing,
    /// The key sent is not known.
    Wrong,
}

impl Keys {
    /// Who calls, judged by `X-API-Key` or `Authorization: Bearer`.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Client, Denied> {
        match self {
            Self::Open => Ok(Client { name: "open".into(), allowance: Allowance::default() }),
            Self::Known(known) => {
                let sent = presented(headers).ok_or(Denied::Missing)?.digest();
                // Every entry is compared, so that the time taken tells neither which matched nor how far.
                let mut found = None;
                for key in known {
                    if bool::from(key.digest.ct_eq(&sent)) {
                        found = Some(key);
                    }
                }
                let client = |key: &KnownKey| {
                    key.was_used(Timestamp::now().as_second());
                    Client { name: key.name.clone(), allowance: key.allowance }
                };
                found.map(client).ok_or(Denied::Wrong)
            }
        }
    }
}

impl Keys {
    /// The keys that are needed; none where everybody may call.
    pub(crate) fn known(&self) -> &[KnownKey] {
        match self {
            Self::Open => &[],
            Self::Known(known) => known,
        }
    }

    /// Takes over from `before` when the same keys were used.
    pub(crate) fn recall(&self, before: &Self) {
        for key in self.known() {
            let same = before.known().iter().find(|old| old.digest == key.digest);
            same.and_then(KnownKey::used).into_iter().for_each(|seconds| key.was_used(seconds));
        }
    }
}

fn presented(headers: &HeaderMap) -> Option<Secret> {
    // Some clients send the one header empty where they were told to use the other.
    if let Some(key) = headers.get("x-api-key").filter(|key| !key.as_bytes().trim_ascii().is_empty()) {
        return key.to_str().ok().map(Secret::new);
    }
    let (scheme, key) = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Secret::new(key.trim()))
}

/// The file that holds the hashes: TOML, one `[[key]]` each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// The entries, in the order of their making.
    #[serde(default, rename = "key")]
    pub keys: Vec<KeyEntry>,
}

/// One key at rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// What a person calls it.
    pub name: String,
    /// SHA-256 of the key, in hexadecimal.
    pub sha256: String,
    /// What it may take, other than the settings say.
    #[serde(default)]
    pub allowance: Allowance,
}

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's complaint.
        source: std::io::Error,
    },
    /// It is not what [`KeyFile`] describes.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found and expected.
        message: String,
    },
}

impl KeyFile {
    /// Reads `path`; a file that does not exist holds no keys.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(KeyFileError::Io { path: path.into(), source }),
        };
        let format = |message: String| KeyFileError::Format { path: path.into(), message };
        let file: Self = toml::from_str(&text).map_err(|error| format(error.to_string()))?;
        file.known().map_err(format)?;
        Ok(file)
    }

    /// Writes `path` whole or not at all, readable by its owner only.
    ///
    /// # Errors
    /// [`KeyFileError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), KeyFileError> {
        let mut text =
            String::from("# API keys, as SHA-256. Made by `cerebrum key add`; the keys themselves are not kept.\n");
        for key in &self.keys {
            text.push_str(&format!("\n[[key]]\nname = {}\nsha256 = \"{}\"\n", toml_string(&key.name), key.sha256));
            if key.allowance != Allowance::default() {
                let entries = key.allowance.entries().map(|(name, value)| format!("{name} = {value}"));
                text.push_str(&format!("allowance = {{ {} }}\n", entries.collect::<Vec<_>>().join(", ")));
            }
        }
        crate::settings::write_private(path, text.as_bytes())
            .map_err(|source| KeyFileError::Io { path: path.into(), source })
    }

    /// Adds a new random key under `name` and returns it: the only time it is seen.
    pub fn add(&mut self, name: &str) -> Secret {
        let secret = Secret::random();
        let (name, sha256) = (name.to_owned(), hex(&secret.digest()));
        self.keys.push(KeyEntry { name, sha256, allowance: Allowance::default() });
        secret
    }

    /// Lets `secret` be the key of `name`, whatever was before.
    pub fn set(&mut self, name: &str, secret: &Secret) {
        let sha256 = hex(&secret.digest());
        match self.keys.iter_mut().find(|key| key.name == name) {
            Some(key) => key.sha256 = sha256,
            None => {
                self.keys.push(KeyEntry { name: name.to_owned(), sha256, allowance: Allowance::default() });
            }
        }
    }

    /// A line for each entry: its name, and when it was last used, as the file beside `path` tells, or the one in `state`.
    pub fn told(&self, path: &Path, state: Option<&Path>) -> Vec<String> {
        let beside = LastUse::read(&key_use::path(path, None));
        let uses =
            beside.or_later(state.map(|state| LastUse::read(&key_use::path(path, Some(state)))).unwrap_or_default());
        let width = self.keys.iter().map(|key| key.name.chars().count()).max().unwrap_or(0);
        self.keys.iter().map(|key| format!("{:width$}  {}", key.name, uses.told(&key.sha256))).collect()
    }

    /// The entries in the form that judges callers.
    ///
    /// # Errors
    /// A sentence naming the entry whose hash is not 64 hexadecimal digits.
    pub fn known(&self) -> Result<Vec<KnownKey>, String> {
        self.keys
            .iter()
            .map(|entry| match unhex(&entry.sha256) {
                Some(digest) if !entry.allowance.entries().any(|(_, value)| value == 0) => {
                    Ok(KnownKey::of(&entry.name, digest, entry.allowance))
                }
                Some(_) => Err(format!(
                    "key {:?}: found an allowance of 0, expected 1 or more (revoke a key that may do nothing)",
                    entry.name
                )),
                None => Err(format!(
                    "key {:?}: found sha256 {:?}, expected 64 hexadecimal digits",
                    entry.name, entry.sha256
                )),
            })
            .collect()
    }
}

fn toml_string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn a_key_made_here_is_known_by_either_header_and_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let mut file = KeyFile::read(&path).unwrap();
        let secret = file.add("laptop \"of\" A");
        file.write(&path).unwrap();
        assert!(!std::fs::read_to_string(&path).unwrap().contains(secret.expose()));

        let keys = Keys::Known(KeyFile::read(&path).unwrap().known().unwrap());
        let client = keys.authenticate(&headers("x-api-key", secret.expose())).unwrap();
        assert_eq!(&*client.name, "laptop \"of\" A");
        assert!(keys.authenticate(&headers("authorization", &format!("bearer {}", secret.expose()))).is_ok());
        let mut both = headers("authorization", &format!("Bearer {}", secret.expose()));
        both.insert("x-api-key", "".parse().unwrap());
        assert!(keys.authenticate(&both).is_ok());
        assert_eq!(keys.authenticate(&HeaderMap::new()), Err(Denied::Missing));
        assert_eq!(keys.authenticate(&headers("x-api-key", "cbr_00")), Err(Denied::Wrong));
        // Keys are compared as they are: upper and lower case differ.
        assert_eq!(keys.authenticate(&headers("x-api-key", &secret.expose().to_uppercase())), Err(Denied::Wrong));
        assert_eq!(keys.authenticate(&headers("authorization", "Basic eDp5")), Err(Denied::Missing));
    }

    #[test]
    fn keys_differ_and_never_show_in_debug() {
        let (a, b) = (Secret::random(), Secret::random());
        assert_ne!(a, b);
        assert_eq!(a.expose().len(), 44);
        assert_eq!(format!("{a:?}"), "<secret>");
    }

    #[test]
    fn a_keys_allowance_stays_when_the_file_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let mut file = KeyFile::default();
        let secret = file.add("a");
        file.keys[0].allowance.requests_per_minute = Some(6);
        file.write(&path).unwrap();
        let mut again = KeyFile::read(&path).unwrap();
        again.add("b");
        again.write(&path).unwrap();
        let keys = Keys::Known(KeyFile::read(&path).unwrap().known().unwrap());
        let client = keys.authenticate(&headers("x-api-key", secret.expose())).unwrap();
        assert_eq!(client.allowance, Allowance { requests_per_minute: Some(6), ..Allowance::default() });
        again.keys[0].allowance.in_progress = Some(0);
        assert!(again.known().unwrap_err().contains("allowance of 0"));
    }

    #[test]
    fn a_damaged_file_is_named_not_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        for text in ["[[key]]\nname=\"a\"\nsha256=\"12\"\n", "[[key]]\nname=3\n", "not toml"] {
            std::fs::write(&path, text).unwrap();
            let error = KeyFile::read(&path).unwrap_err().to_string();
            assert!(error.contains("keys.toml"), "{error}");
        }
    }
}
