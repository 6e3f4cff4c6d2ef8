//! The keys a program accepts while it runs: they follow their file, so that a key that was added or revoked counts without
//! a restart.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use http::HeaderMap;

use crate::keys::{Client, Denied, KeyFile, KeyFileError, Keys, KnownKey, Secret};
use crate::lifecycle::Tasks;

/// How often the file is looked at.
const REFRESH: Duration = Duration::from_secs(2);

/// The keys accepted now.
#[derive(Debug)]
pub struct Keyring {
    file: Option<PathBuf>,
    /// Accepted whatever the file says.
    fixed: Vec<KnownKey>,
    current: RwLock<Keys>,
    /// What the file looked like when it was read; held while it is read or written.
    seen: Mutex<Option<Stamp>>,
    /// Whether the file could be used the last time.
    sound: AtomicBool,
}

/// Time of the last change, and length in bytes.
type Stamp = (SystemTime, u64);

impl Keyring {
    /// Everybody may call.
    pub fn open() -> Self {
        Self {
            file: None,
            fixed: Vec::new(),
            current: RwLock::new(Keys::Open),
            seen: Mutex::new(None),
            sound: true.into(),
        }
    }

    /// The keys of `file`, and `fixed` ones beside them.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn new(file: Option<PathBuf>, fixed: Vec<KnownKey>) -> Result<Self, KeyFileError> {
        let stamp = file.as_deref().and_then(stamp);
        let ring = Self {
            file,
            fixed,
            current: RwLock::new(Keys::Known(Vec::new())),
            seen: Mutex::new(stamp),
            sound: true.into(),
        };
        ring.read()?;
        Ok(ring)
    }

    /// Whether nobody can be let in.
    pub fn is_empty(&self) -> bool {
        self.count() == Some(0)
    }

    /// How many keys are accepted; none where everybody may call.
    pub fn count(&self) -> Option<usize> {
        match &*self.current.read().unwrap_or_else(PoisonError::into_inner) {
            Keys::Known(known) => Some(known.len()),
            Keys::Open => None,
        }
    }

    /// Who calls.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Client, Denied> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).authenticate(headers)
    }

    /// Makes a key under `name`, or under that name and a number where there is one already. It counts at once.
    ///
    /// # Errors
    /// [`KeyFileError`]; `None` where no file is named that could keep it.
    pub fn grant(&self, name: &str) -> Option<Result<Secret, KeyFileError>> {
        let file = self.file.as_deref()?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let granted = KeyFile::read(file).and_then(|mut keys| {
            let taken = |name: &str| keys.keys.iter().any(|key| key.name == name);
            let numbered = (2..).map(|number| format!("{name} {number}"));
            let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken(name));
            let secret = keys.add(&free.unwrap_or_default());
            keys.write(file)?;
            Ok(secret)
        });
        *seen = stamp(file);
        self.sound.store(granted.is_ok(), Ordering::Relaxed);
        Some(granted.and_then(|secret| self.read().map(|()| secret)))
    }

    /// Reads the file again if it changed; true when it did.
    ///
    /// # Errors
    /// [`KeyFileError`] once for each change that cannot be used; the keys in use stay.
    pub fn refresh(&self) -> Result<bool, KeyFileError> {
        let Some(file) = &self.file else { return Ok(false) };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(file);
        if *seen == now {
            return Ok(false);
        }
        *seen = now;
        self.read().map(|()| true)
    }

    /// Whether the file could be read, and written where it had to be, the last time that was tried.
    pub fn is_sound(&self) -> bool {
        self.sound.load(Ordering::Relaxed)
    }

    fn read(&self) -> Result<(), KeyFileError> {
        let read = self.read_file();
        self.sound.store(read.is_ok(), Ordering::Relaxed);
        read
    }

    fn read_file(&self) -> Result<(), KeyFileError> {
        let mut known = match &self.file {
            None => Vec::new(),
            Some(file) => {
                let keys = KeyFile::read(file)?;
                keys.known().map_err(|message| KeyFileError::Format { path: file.clone(), message })?
            }
        };
        known.extend(self.fixed.iter().cloned());
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Keys::Known(known);
        Ok(())
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(file).ok()?;
    Some((file.modified().ok()?, file.len()))
}

/// Follows the file until the program stops.
pub async fn keep_fresh(ring: Arc<Keyring>, tasks: Tasks) {
    while tasks.until_stopping(tokio::time::sleep(REFRESH)).await.is_some() {
        match ring.refresh() {
            Ok(true) => tracing::info!("keys read anew"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the new key file cannot be used, the old keys stay"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(secret: &Secret) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", secret.expose().parse().unwrap());
        headers
    }

    #[test]
    fn keys_come_and_go_with_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let fixed = Secret::random();
        let ring = Keyring::new(Some(path.clone()), vec![KnownKey::new("fixed", &fixed)]).unwrap();
        assert!(ring.authenticate(&shown(&fixed)).is_ok() && !ring.refresh().unwrap());

        let mut file = KeyFile::default();
        let laptop = file.add("laptop");
        file.write(&path).unwrap();
        assert!(ring.refresh().unwrap());
        assert_eq!(&*ring.authenticate(&shown(&laptop)).unwrap().name, "laptop");

        std::fs::write(&path, "[[key]]\nname = 7").unwrap();
        assert!(ring.refresh().is_err() && !ring.refresh().unwrap() && !ring.is_sound());
        assert!(ring.authenticate(&shown(&laptop)).is_ok(), "the old keys stay");

        std::fs::remove_file(&path).unwrap();
        assert!(ring.refresh().unwrap() && ring.is_sound());
        assert_eq!(ring.authenticate(&shown(&laptop)), Err(Denied::Wrong));
        assert!(ring.authenticate(&shown(&fixed)).is_ok());
    }

    #[test]
    fn a_granted_key_counts_at_once_and_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let ring = Keyring::new(Some(path.clone()), Vec::new()).unwrap();
        assert!(ring.is_empty());
        let names: Vec<_> =
            (0..3).map(|_| ring.authenticate(&shown(&ring.grant("laptop").unwrap().unwrap())).unwrap().name).collect();
        assert_eq!(names, ["laptop".into(), "laptop 2".into(), "laptop 3".into()]);
        assert!(!ring.refresh().unwrap(), "its own change is none");
        assert_eq!(KeyFile::read(&path).unwrap().keys.len(), 3);
        assert!(Keyring::open().grant("laptop").is_none());
    }
}
