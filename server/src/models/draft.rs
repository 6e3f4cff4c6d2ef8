//! A model's file in the making: written under another name, hashed on the way, renamed when it is what it should be.
//!
//! Whoever holds a [`Draft`] holds the lock of its file, so two processes cannot write one model. Dropping it removes the file,
//! unless it may be continued later. The final name never belongs to anything but whole, checked weights.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cerebrum_engine::gguf::Header;
use sha2::{Digest, Sha256};

use super::manifest::hex;
use super::{Folder, ModelError, Name};

/// A file in the making.
#[derive(Debug)]
pub struct Draft {
    name: Name,
    path: PathBuf,
    file: File,
    hash: Sha256,
    bytes: u64,
    keep: bool,
    installed: bool,
}

impl Draft {
    /// Begins, or finds, the draft of `target`. What is in it already counts only after [`resume`](Self::resume).
    ///
    /// # Errors
    /// [`ModelError::Busy`] when another process has it; a folder that cannot be written.
    pub fn open(folder: &Folder, name: &Name, target: &Path) -> Result<Self, ModelError> {
        let path = folder.draft(target);
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(ModelError::writing(&path, 0))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(ModelError::Busy { name: name.to_string() }),
                Err(TryLockError::Error(error)) => return Err(ModelError::io(&path)(error)),
            }
            // Between opening and locking, its holder may have given it its final name: then this is no draft any more.
            if is_at(&file, &path) {
                let (hash, name) = (Sha256::new(), name.clone());
                return Ok(Self { name, path, file, hash, bytes: 0, keep: false, installed: false });
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the file stays when this is dropped, to be resumed.
    pub fn keep(&mut self, keep: bool) {
        self.keep = keep;
    }

    /// Goes on after what an earlier draft has left; says how many bytes that is.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn resume(&mut self) -> Result<u64, ModelError> {
        let failed = ModelError::io(&self.path);
        let mut read = || -> std::io::Result<(Sha256, u64)> {
            let mut hash = Sha256::new();
            self.file.seek(SeekFrom::Start(0))?;
            let bytes = for_each_block(&mut self.file, |block| hash.update(block))?;
            Ok((hash, bytes))
        };
        (self.hash, self.bytes) = read().map_err(failed)?;
        Ok(self.bytes)
    }

    /// Throws away what is there.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn restart(&mut self) -> Result<(), ModelError> {
        let failed = ModelError::io(&self.path);
        self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0))).map_err(failed)?;
        (self.hash, self.bytes) = (Sha256::new(), 0);
        Ok(())
    }

    /// Appends.
    ///
    /// # Errors
    /// [`ModelError::Full`], after which the file will not stay; or another error of writing.
    pub fn write(&mut self, block: &[u8]) -> Result<(), ModelError> {
        if let Err(error) = self.file.write_all(block) {
            let error = ModelError::writing(&self.path, self.bytes)(error);
            // Whoever needs the space next shall find it.
            self.keep &= !matches!(error, ModelError::Full { .. });
            return Err(error);
        }
        self.hash.update(block);
        self.bytes += block.len() as u64;
        Ok(())
    }

    /// SHA-256 of what is there, in hexadecimal. If one is expected and it is another, the file will not stay.
    ///
    /// # Errors
    /// [`ModelError::Hash`].
    pub fn checked(&mut self, expected: Option<&str>) -> Result<String, ModelError> {
        let found = hex(&self.hash.clone().finalize());
        match expected.filter(|expected| !expected.eq_ignore_ascii_case(&found)) {
            None => Ok(found),
            Some(expected) => {
                self.keep = false;
                Err(ModelError::Hash { name: self.name.to_string(), found, expected: expected.to_owned() })
            }
        }
    }

    /// Checks the header of what is there, gives it its final name, and makes that last.
    ///
    /// # Errors
    /// [`ModelError::Gguf`], or the system's refusal.
    pub fn install(mut self, target: &Path) -> Result<(), ModelError> {
        self.keep = false;
        self.file.sync_all().map_err(ModelError::writing(&self.path, self.bytes))?;
        Header::of(&self.path).map_err(|reason| ModelError::Gguf { name: self.name.to_string(), reason })?;
        self.rename(target)
    }

    /// As [`install`](Self::install) of something that is no GGUF.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn rename(mut self, target: &Path) -> Result<(), ModelError> {
        let failed = || ModelError::io(target);
        std::fs::rename(&self.path, target).map_err(failed())?;
        self.installed = true;
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.keep && !self.installed {
            // Still locked: nobody else can have begun to write it.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let number = |file: std::io::Result<std::fs::Metadata>| file.ok().map(|file| (file.dev(), file.ino()));
    number(file.metadata()).is_some_and(|own| number(std::fs::metadata(path)) == Some(own))
}

/// Reads to the end in blocks; says how many bytes there were.
pub(super) fn for_each_block(from: &mut impl Read, mut each: impl FnMut(&[u8])) -> std::io::Result<u64> {
    let mut block = vec![0; BLOCK];
    let mut bytes = 0;
    loop {
        match from.read(&mut block)? {
            0 => return Ok(bytes),
            read => {
                each(&block[..read]);
                bytes += read as u64;
            }
        }
    }
}

/// Refuses what does not fit into the folder before anything is written.
///
/// # Errors
/// [`ModelError::NoRoom`].
pub(super) fn has_room(folder: &Folder, needed: u64) -> Result<(), ModelError> {
    let free = cerebrum_common::fetch::room(folder.path());
    match needed <= free {
        true => Ok(()),
        false => Err(ModelError::NoRoom { folder: folder.path().to_owned(), needed, free }),
    }
}

/// Read and written at a time.
pub(super) const BLOCK: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> (tempfile::TempDir, Folder, Name, PathBuf) {
        let temporary = tempfile::tempdir().unwrap();
        let (folder, name) = (Folder::new(temporary.path()), "a".parse().unwrap());
        let target = folder.gguf(&name);
        (temporary, folder, name, target)
    }

    fn files(folder: &Folder) -> Vec<String> {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn one_process_at_a_time_and_nothing_stays_of_what_was_given_up() {
        let (_temporary, folder, name, target) = site();
        let mut draft = Draft::open(&folder, &name, &target).unwrap();
        draft.write(b"some").unwrap();
        assert!(matches!(Draft::open(&folder, &name, &target), Err(ModelError::Busy { .. })));
        drop(draft);
        assert_eq!(files(&folder), [""; 0]);
        assert!(Draft::open(&folder, &name, &target).is_ok());
    }

    #[test]
    fn what_was_kept_is_gone_on_with() {
        let (_temporary, folder, name, target) = site();
        let mut draft = Draft::open(&folder, &name, &target).unwrap();
        draft.keep(true);
        draft.write(b"one ").unwrap();
        drop(draft);
        let mut draft = Draft::open(&folder, &name, &target).unwrap();
        assert_eq!(draft.resume().unwrap(), 4);
        draft.write(b"two").unwrap();
        let whole = hex(&Sha256::digest(b"one two"));
        assert_eq!(draft.checked(Some(&whole.to_uppercase())).unwrap(), whole);
        draft.restart().unwrap();
        draft.write(b"3").unwrap();
        draft.keep(true);
        assert!(matches!(draft.checked(Some(&whole)), Err(ModelError::Hash { .. })));
        drop(draft);
        assert_eq!(files(&folder), [""; 0], "wrong bytes are not kept");
    }

    #[test]
    fn only_gguf_gets_a_models_name() {
        let (_temporary, folder, name, target) = site();
        let mut draft = Draft::open(&folder, &name, &target).unwrap();
        draft.write(b"GGUF and nothing else").unwrap();
        assert!(matches!(draft.install(&target), Err(ModelError::Gguf { .. })));
        assert_eq!(files(&folder), [""; 0]);
    }

    #[test]
    fn more_than_there_is_room_for_is_refused_at_once() {
        let (_temporary, folder, ..) = site();
        assert!(has_room(&folder, 1).is_ok());
        let Err(error) = has_room(&folder, u64::MAX) else { panic!("a disk of 16 EiB") };
        assert!(error.to_string().contains("17592186044416 MiB are needed"), "{error}");
    }
}
