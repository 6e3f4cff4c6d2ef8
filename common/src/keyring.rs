//! The keys a program accepts while it runs: they follow their file, so that a key that was added or revoked counts without
//! a restart. When they were last used is written now and then, away from requests (see [`key_use`]).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use http::HeaderMap;

use crate::key_use::{self, LastUse};
use crate::keys::{Client, Denied, KeyFile, KeyFileError, Keys, KnownKey, Secret};
use crate::lifecycle::Tasks;

/// How often the file is looked at.
const REFRESH: Duration = Duration::from_secs(2);

/// How many looks at the file lie between two writings of when keys were used: a minute, which spares flash memory.
const LOOKS: u32 = 30;

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
    /// Where the keys' last use is kept, and what was written there.
    uses: Option<PathBuf>,
    written: Mutex<LastUse>,
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
            uses: None,
            written: Mutex::default(),
        }
    }

    /// The keys of `file`, and `fixed` ones beside them.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn new(file: Option<PathBuf>, fixed: Vec<KnownKey>) -> Result<Self, KeyFileError> {
        let stamp = file.as_deref().and_then(stamp);
        let uses = file.as_deref().map(|file| key_use::path(file, None));
        let ring = Self {
            file,
            fixed,
            written: Mutex::new(uses.as_deref().map(LastUse::read).unwrap_or_default()),
            uses,
            current: RwLock::new(Keys::Known(Vec::new())),
            seen: Mutex::new(stamp),
            sound: true.into(),
        };
        ring.read()?;
        Ok(ring)
    }

    /// Keeps the keys' last use in a state folder, instead of beside their file.
    #[must_use]
    pub fn with_uses_in(self, state: &Path) -> Self {
        let Some(file) = &self.file else { return self };
        let uses = key_use::path(file, Some(state));
        let ring = Self { written: Mutex::new(LastUse::read(&uses)), uses: Some(uses), ..self };
        ring.recall(&ring.current.read().unwrap_or_else(PoisonError::into_inner));
        ring
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
        let known = Keys::Known(known);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        self.recall(&known);
        known.recall(&current);
        *current = known;
        Ok(())
    }

    /// Tells `keys` what is written of their last use.
    fn recall(&self, keys: &Keys) {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys.known() {
            written.seconds(&key.sha256()).into_iter().for_each(|seconds| key.was_used(seconds));
        }
    }

    /// Writes when keys were last used, if that has changed; not for the thread that serves, since it waits for the disk.
    ///
    /// # Errors
    /// The system's complaint; nothing depends on it.
    pub fn write_uses(&self) -> std::io::Result<()> {
        let Some(path) = &self.uses else { return Ok(()) };
        let mut uses = LastUse::default();
        for key in self.current.read().unwrap_or_else(PoisonError::into_inner).known() {
            key.used().into_iter().for_each(|seconds| uses.note(key.sha256(), seconds));
        }
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written != uses {
            uses.write(path)?;
            *written = uses;
        }
        Ok(())
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(file).ok()?;
    Some((file.modified().ok()?, file.len()))
}

/// Follows the file until the program stops, and writes now and then, and at the end, when keys were used.
pub async fn keep_fresh(ring: Arc<Keyring>, tasks: Tasks) {
    let (mut looks, mut complained) = (0, false);
    while tasks.until_stopping(tokio::time::sleep(REFRESH)).await.is_some() {
        match ring.refresh() {
            Ok(true) => tracing::info!("keys read anew"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the new key file cannot be used, the old keys stay"),
        }
        looks += 1;
        if looks % LOOKS == 0 {
            write_uses(&ring, &mut complained).await;
        }
    }
    write_uses(&ring, &mut complained).await;
}

async fn write_uses(ring: &Arc<Keyring>, complained: &mut bool) {
    let ring = ring.clone();
    let written = tokio::task::spawn_blocking(move || ring.write_uses()).await;
    if let Ok(Err(error)) = written
        && !std::mem::replace(complained, true)
    {
        tracing::info!(%error, "when keys were last used cannot be kept; all else goes on");
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
    fn the_last_use_of_a_key_outlives_changes_and_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let mut file = KeyFile::default();
        let (laptop, _desktop) = (file.add("laptop"), file.add("desktop"));
        file.write(&path).unwrap();
        let uses = key_use::path(&path, None);
        let told = |name: &str| {
            let key = KeyFile::read(&path).unwrap().keys.into_iter().find(|key| key.name == name).unwrap();
            LastUse::read(&uses).of(&key.sha256).map(str::to_owned)
        };
        let ring = Keyring::new(Some(path.clone()), Vec::new()).unwrap();
        ring.write_uses().unwrap();
        assert!(!uses.exists(), "nothing has been used");
        assert!(ring.authenticate(&shown(&laptop)).is_ok());
        file.add("tablet");
        file.write(&path).unwrap();
        assert!(ring.refresh().unwrap());
        ring.write_uses().unwrap();
        let first = told("laptop").unwrap();
        assert_eq!((told("desktop"), told("tablet")), (None, None));

        let ring = Keyring::new(Some(path.clone()), Vec::new()).unwrap();
        ring.write_uses().unwrap();
        assert_eq!(told("laptop").as_ref(), Some(&first));
        // Where it cannot be written, nothing else suffers.
        let elsewhere = folder.path().join("state");
        let ring = ring.with_uses_in(&elsewhere);
        std::fs::create_dir_all(elsewhere.join("keys.toml.used")).unwrap();
        assert!(ring.authenticate(&shown(&laptop)).is_ok());
        assert!(ring.write_uses().is_err() && ring.authenticate(&shown(&laptop)).is_ok());
        std::fs::remove_dir(elsewhere.join("keys.toml.used")).unwrap();
        ring.write_uses().unwrap();
        assert!(elsewhere.join("keys.toml.used").is_file());
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
