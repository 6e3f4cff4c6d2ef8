//! Updates of the image: a signed bundle goes into the slot that is not running, is tried, and stays only if it gets healthy.
//!
//! Owns the order of things, which is what makes a power cut harmless at any moment: the other slot is barred before the
//! first byte of it is written, is read back and compared before it may be tried, and the running slot stays what the boot
//! loader goes back to until the new one has said that it is well. `state` is what the boot loader goes by, `bundle` the file,
//! `fetch` how it comes from the web, `notice` what the panel is told.

pub mod bundle;
pub mod fetch;
pub mod notice;
pub mod state;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use bundle::{BundleError, Manifest, Version, hex};
use state::{Slot, State, TRIES};

/// The machine that this system is for.
const COMPATIBLE: &str = "cerebrum-cm4";
/// How often a new system may be started before the old one is.
const TRIAL: u32 = 2;
/// Bytes written at a time.
const CHUNK: usize = 64 << 10;

/// The machine's disk and what is known of the running system; or a test's.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The whole disk.
    pub disk: PathBuf,
    /// The slot that runs.
    pub running: Slot,
    /// Its version.
    pub version: Version,
    /// Who may sign updates.
    pub keys: Vec<[u8; 32]>,
}

/// Why an update does not happen.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The disk, or a file.
    #[error("{what}: {source}")]
    Io {
        /// What was worked on.
        what: String,
        /// The system's complaint.
        source: io::Error,
    },
    /// This is no image of ours, or not a whole one.
    #[error("{0}")]
    NotAnImage(String),
    /// It is for another machine.
    #[error("the update is for {found:?}, this is {COMPATIBLE:?}")]
    OtherMachine {
        /// What it is for.
        found: String,
    },
    /// It is older than what runs.
    #[error("the update is {found}, older than the running {running}: --allow-older installs it nevertheless")]
    Older {
        /// Its version.
        found: Version,
        /// What runs.
        running: Version,
    },
    /// The running system has not said that it is well, and the other slot is what it would go back to.
    #[error("this system is on trial, and slot {} is what it would go back to: wait until it is confirmed (some minutes)", .other.name())]
    OnTrial {
        /// The other slot.
        other: Slot,
    },
    /// It does not fit.
    #[error("the update has {found} bytes, a slot has {room}")]
    TooBig {
        /// Bytes of the update's slot.
        found: u64,
        /// Bytes of the partition.
        room: u64,
    },
    /// What was written does not read back as it should.
    #[error("the disk gives back something else than was written: it may be worn out; the running system stays")]
    Disk,
    /// The other slot holds nothing that may be tried.
    #[error("there is nothing to start in slot {}: stage an update first", .0.name())]
    Nothing(Slot),
    /// It did not come from the web.
    #[error("{url}: {reason}; what has come is kept, and the next attempt goes on with it")]
    Fetch {
        /// Where it was to come from.
        url: String,
        /// What happened.
        reason: String,
    },
    /// There is no room for what is to be fetched.
    #[error("the update needs {needed} bytes, {folder} has {free} free")]
    NoRoom {
        /// Where it was to go.
        folder: String,
        /// Bytes that are to come.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
}

impl Machine {
    /// This machine, from what the boot loader and the image tell.
    ///
    /// # Errors
    /// [`UpdateError::NotAnImage`].
    pub fn this() -> Result<Self, UpdateError> {
        let read = |path: &str| {
            std::fs::read_to_string(path).map_err(|source| UpdateError::Io { what: path.to_owned(), source })
        };
        let told = read("/proc/cmdline")?;
        let running = told.split_whitespace().find_map(|word| Slot::named(word.strip_prefix("cerebrum.slot=")?));
        let running = running.ok_or_else(|| {
            UpdateError::NotAnImage("found no cerebrum.slot in /proc/cmdline: updates are for the board's image".into())
        })?;
        let release = read("/etc/os-release")?;
        let value = |name: &str| release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let date = value("BUILD_ID").and_then(|date| date.parse().ok());
        let version = value("IMAGE_VERSION").zip(date).and_then(|(numbers, date)| Version::new(numbers, date));
        let version = version
            .ok_or_else(|| UpdateError::NotAnImage("found no IMAGE_VERSION and BUILD_ID in /etc/os-release".into()))?;
        let keys = bundle::keys(&read("/usr/share/cerebrum/update.pub")?);
        Ok(Self { disk: "/dev/mmcblk0".into(), running, version, keys })
    }

    /// The boot loader's state.
    ///
    /// # Errors
    /// [`UpdateError::Io`].
    pub fn state(&self) -> Result<State, UpdateError> {
        State::read(&self.open()?).map_err(|source| self.trouble(source))
    }

    /// Who signed the bundle, whether it is whole, and whether it may be installed here; writes nothing.
    ///
    /// # Errors
    /// [`UpdateError`].
    pub fn check(&self, path: &Path, allow_older: bool) -> Result<Manifest, UpdateError> {
        let mut file = open(path)?;
        let manifest = bundle::open(&mut file, &self.keys)?;
        if manifest.compatible != COMPATIBLE {
            return Err(UpdateError::OtherMachine { found: manifest.compatible });
        }
        if manifest.version < self.version && !allow_older {
            return Err(UpdateError::Older { found: manifest.version, running: self.version.clone() });
        }
        bundle::check_content(&mut file, &manifest)?;
        Ok(manifest)
    }

    /// Writes the bundle's system into the slot that is not running; `progress` gets the share that is done.
    ///
    /// # Errors
    /// [`UpdateError`]; the running slot is as it was, and the other is barred unless it was whole at the end.
    pub fn stage(
        &self,
        path: &Path,
        allow_older: bool,
        mut progress: impl FnMut(f64),
    ) -> Result<Manifest, UpdateError> {
        let manifest = self.check(path, allow_older)?;
        if self.is_on_trial()? {
            return Err(UpdateError::OnTrial { other: self.running.other() });
        }
        let slot = self.running.other();
        let disk = self.open()?;
        let (start, room) = partition(&disk, slot).map_err(|source| self.trouble(source))?;
        let (size, sum) = &manifest.slot;
        if *size > room - SECTOR {
            return Err(UpdateError::TooBig { found: *size, room: room - SECTOR });
        }
        let mut state = State::read(&disk).map_err(|source| self.trouble(source))?;
        state.first = self.running;
        state.allow(slot, 0);
        state.write(&disk).map_err(|source| self.trouble(source))?;
        Mark::write(None, &disk, start, room).map_err(|source| self.trouble(source))?;

        let mut file = open(path)?;
        bundle::open(&mut file, &self.keys)?;
        let content = bundle::content(file, &manifest).map_err(BundleError::from)?;
        let written = self.write(content, &disk, start, |done| progress(done as f64 / *size as f64 * 0.7))?;
        if written != *size {
            return Err(BundleError::Torn { found: written, expected: *size }.into());
        }
        let found = self.sum(start, *size, |done| progress(0.7 + done as f64 / *size as f64 * 0.3))?;
        if found != *sum {
            return Err(UpdateError::Disk);
        }
        let mark = Mark { version: manifest.version.numbers(), stands: Standing::New };
        Mark::write(Some(&mark), &disk, start, room).map_err(|source| self.trouble(source))?;
        Ok(manifest)
    }

    /// Lets the boot loader start the other slot next, a few times.
    ///
    /// # Errors
    /// [`UpdateError`].
    pub fn try_other(&self) -> Result<Slot, UpdateError> {
        let slot = self.running.other();
        let disk = self.open()?;
        let mark = self.mark(&disk, slot)?.ok_or(UpdateError::Nothing(slot))?;
        let mut state = State::read(&disk).map_err(|source| self.trouble(source))?;
        state.first = slot;
        state.allow(slot, TRIAL);
        state.allow(self.running, TRIES);
        state.write(&disk).map_err(|source| self.trouble(source))?;
        if mark.stands == Standing::New {
            // It may never come far enough to say so itself.
            self.stand(&disk, slot, Mark { stands: Standing::Tried, ..mark })?;
        }
        Ok(slot)
    }

    /// Lets the boot loader go back to the other slot, if that was healthy when it ran.
    ///
    /// # Errors
    /// [`UpdateError`].
    pub fn roll_back(&self) -> Result<Slot, UpdateError> {
        let slot = self.running.other();
        let disk = self.open()?;
        let mut state = State::read(&disk).map_err(|source| self.trouble(source))?;
        if state.left(slot) == 0 {
            return Err(UpdateError::Nothing(slot));
        }
        state.first = slot;
        state.write(&disk).map_err(|source| self.trouble(source))?;
        Ok(slot)
    }

    /// Whether the running system has never said that it is well, and there is another to go back to. One that was well once is
    /// not on trial again, however often it was started since: a cut during a start is no fault of its own.
    ///
    /// # Errors
    /// [`UpdateError::Io`].
    pub fn is_on_trial(&self) -> Result<bool, UpdateError> {
        let disk = self.open()?;
        let state = State::read(&disk).map_err(|source| self.trouble(source))?;
        let mark = self.mark(&disk, self.running)?;
        // What the image was flashed with has no mark.
        Ok(mark.is_some_and(|mark| mark.stands != Standing::Proven) && state.left(self.running.other()) > 0)
    }

    /// The running system is well: it goes first from now on.
    ///
    /// # Errors
    /// [`UpdateError::Io`].
    pub fn confirm(&self) -> Result<(), UpdateError> {
        let disk = self.open()?;
        let mut state = State::read(&disk).map_err(|source| self.trouble(source))?;
        state.first = self.running;
        state.allow(self.running, TRIES);
        state.write(&disk).map_err(|source| self.trouble(source))?;
        match self.mark(&disk, self.running)? {
            Some(mark) if mark.stands != Standing::Proven => {
                self.stand(&disk, self.running, Mark { stands: Standing::Proven, ..mark })
            }
            _ => Ok(()),
        }
    }

    /// The running system does not get well: the other goes first, and this one is not started again until it is staged anew.
    ///
    /// # Errors
    /// [`UpdateError::Io`].
    pub fn give_up(&self) -> Result<(), UpdateError> {
        let disk = self.open()?;
        let mut state = State::read(&disk).map_err(|source| self.trouble(source))?;
        state.first = self.running.other();
        state.allow(self.running, 0);
        state.write(&disk).map_err(|source| self.trouble(source))?;
        let (start, room) = partition(&disk, self.running).map_err(|source| self.trouble(source))?;
        Mark::write(None, &disk, start, room).map_err(|source| self.trouble(source))
    }

    /// The version that lies in the other slot, whole, and was never started.
    ///
    /// # Errors
    /// [`UpdateError::Io`].
    pub fn staged(&self) -> Result<Option<String>, UpdateError> {
        self.beside(Standing::New)
    }

    /// The version that lies in the other slot, was started, and came back from without having been well.
    ///
    /// # Errors
    /// [`UpdateError::Io`].
    pub fn failed(&self) -> Result<Option<String>, UpdateError> {
        self.beside(Standing::Tried)
    }

    /// What lies in the other slot, stands so and will not be started by itself.
    fn beside(&self, stands: Standing) -> Result<Option<String>, UpdateError> {
        let disk = self.open()?;
        let other = self.running.other();
        let state = State::read(&disk).map_err(|source| self.trouble(source))?;
        let mark = self.mark(&disk, other)?.filter(|mark| state.left(other) == 0 && mark.stands == stands);
        Ok(mark.map(|mark| mark.version))
    }

    fn stand(&self, disk: &File, slot: Slot, mark: Mark) -> Result<(), UpdateError> {
        let written = partition(disk, slot).and_then(|(start, room)| Mark::write(Some(&mark), disk, start, room));
        written.map_err(|source| self.trouble(source))
    }

    fn mark(&self, disk: &File, slot: Slot) -> Result<Option<Mark>, UpdateError> {
        let mark = partition(disk, slot).and_then(|(start, room)| Mark::read(disk, start, room));
        mark.map_err(|source| self.trouble(source))
    }

    fn open(&self) -> Result<File, UpdateError> {
        OpenOptions::new().read(true).write(true).open(&self.disk).map_err(|source| self.trouble(source))
    }

    fn trouble(&self, source: io::Error) -> UpdateError {
        UpdateError::Io { what: self.disk.display().to_string(), source }
    }

    fn write(
        &self,
        mut content: impl Read,
        disk: &File,
        start: u64,
        mut progress: impl FnMut(u64),
    ) -> Result<u64, UpdateError> {
        let mut chunk = vec![0; CHUNK];
        let mut done = 0;
        loop {
            let read = fill(&mut content, &mut chunk).map_err(BundleError::from)?;
            if read == 0 {
                disk.sync_all().map_err(|source| self.trouble(source))?;
                return Ok(done);
            }
            disk.write_all_at(&chunk[..read], start + done).map_err(|source| self.trouble(source))?;
            done += read as u64;
            progress(done);
        }
    }

    /// What the disk gives back, not what is still in memory.
    fn sum(&self, start: u64, size: u64, mut progress: impl FnMut(u64)) -> Result<String, UpdateError> {
        let mut disk = open(&self.disk)?;
        rustix::fs::fadvise(&disk, start, std::num::NonZero::new(size), rustix::fs::Advice::DontNeed)
            .map_err(|error| self.trouble(error.into()))?;
        disk.seek(SeekFrom::Start(start)).map_err(|source| self.trouble(source))?;
        let mut content = disk.take(size);
        let mut hasher = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        let mut done = 0;
        loop {
            let read = fill(&mut content, &mut chunk).map_err(|source| self.trouble(source))?;
            if read == 0 {
                return Ok(hex(&hasher.finalize()));
            }
            hasher.update(&chunk[..read]);
            done += read as u64;
            progress(done);
        }
    }
}

fn open(path: &Path) -> Result<File, UpdateError> {
    File::open(path).map_err(|source| UpdateError::Io { what: path.display().to_string(), source })
}

/// Reads until `into` is full or there is no more.
fn fill(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match from.read(&mut into[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// First byte and length of a slot's partition, from the disk's own table.
fn partition(disk: &File, slot: Slot) -> io::Result<(u64, u64)> {
    let mut entry = [0; 16];
    disk.read_exact_at(&mut entry, 0x1be + 16 * (slot.partition() as u64 - 1))?;
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    let (first, sectors) = (number(&entry[8..12]), number(&entry[12..16]));
    if first == 0 || sectors == 0 {
        return Err(io::Error::other("found no partition for the slot, expected the image's table"));
    }
    Ok((first * 512, sectors * 512))
}

/// Bytes of the disk's smallest piece.
const SECTOR: u64 = 512;

/// The last sector of a slot that was written whole: says so, then the version's length as one byte, the version, and in the last
/// byte how it stands.
struct Mark {
    version: String,
    stands: Standing,
}

/// What is known of a system in a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It was never started.
    New = 0,
    /// It was well when it ran.
    Proven = 1,
    /// It was to be started, and has not said that it is well.
    Tried = 2,
}

impl Mark {
    const BEGINS: &[u8; 16] = b"CRBSLOT complete";

    fn write(mark: Option<&Self>, disk: &File, start: u64, room: u64) -> io::Result<()> {
        let mut sector = [0; SECTOR as usize];
        if let Some(mark) = mark {
            let version = &mark.version.as_bytes()[..mark.version.len().min(64)];
            sector[..16].copy_from_slice(Self::BEGINS);
            sector[16] = version.len() as u8;
            sector[17..][..version.len()].copy_from_slice(version);
            sector[SECTOR as usize - 1] = mark.stands as u8;
        }
        disk.write_all_at(&sector, start + room - SECTOR)?;
        disk.sync_all()
    }

    fn read(disk: &File, start: u64, room: u64) -> io::Result<Option<Self>> {
        let mut sector = [0; SECTOR as usize];
        disk.read_exact_at(&mut sector, start + room - SECTOR)?;
        if !sector.starts_with(Self::BEGINS) {
            return Ok(None);
        }
        let version = sector[17..].get(..sector[16].into()).unwrap_or_default();
        let stands = match sector[SECTOR as usize - 1] {
            1 => Standing::Proven,
            2 => Standing::Tried,
            _ => Standing::New,
        };
        Ok(Some(Self { version: String::from_utf8_lossy(version).into_owned(), stands }))
    }
}

#[cfg(test)]
mod tests;
