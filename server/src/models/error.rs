//! Why a model was not installed. Every value is a whole sentence for the person at the terminal or in the log.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use cerebrum_engine::gguf::GgufError;

/// Why a model was not installed, packed or verified.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file or folder that the system refuses.
    #[error("{}: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: std::io::Error,
    },
    /// There was no room for all of it.
    #[error("{}: the disk is full after {} MiB; nothing was kept", path.display(), written >> 20)]
    Full {
        /// What was being written.
        path: PathBuf,
        /// Bytes written by then.
        written: u64,
    },
    /// There is not enough room to begin with.
    #[error("{}: {} MiB are free, {} MiB are needed", folder.display(), free >> 20, needed.div_ceil(1 << 20))]
    NoRoom {
        /// Where.
        folder: PathBuf,
        /// Bytes wanted.
        needed: u64,
        /// Bytes there are.
        free: u64,
    },
    /// Another process writes the same file.
    #[error("{name} is being installed by another process")]
    Busy {
        /// The model.
        name: String,
    },
    /// It is there already.
    #[error("{}: there already; add --replace to install over it", path.display())]
    Exists {
        /// The model's file.
        path: PathBuf,
    },
    /// No such model.
    #[error("found no model called {name:?} in {}", folder.display())]
    Unknown {
        /// What was asked for.
        name: String,
        /// Where.
        folder: PathBuf,
    },
    /// A name that cannot be a file's.
    #[error("{found:?} cannot be a model's name: expected letters, digits, dots, dashes and underscores")]
    Name {
        /// The name.
        found: String,
    },
    /// The bytes are not the ones expected.
    #[error("{name}: the SHA-256 is {found}, expected {expected}; nothing was kept")]
    Hash {
        /// The model.
        name: String,
        /// The bytes' own, in hexadecimal.
        found: String,
        /// What was announced.
        expected: String,
    },
    /// An installed file is no longer what was installed.
    #[error("{name}: the SHA-256 is {found}, was {expected} when it was installed; remove it and install it again")]
    Altered {
        /// The model.
        name: String,
        /// The file's, in hexadecimal.
        found: String,
        /// The manifest's.
        expected: String,
    },
    /// The number of bytes is not the one expected.
    #[error("{name}: has {found} bytes, expected {expected}; nothing was kept")]
    Length {
        /// The model.
        name: String,
        /// Bytes that came, or the first that were too many.
        found: u64,
        /// What was announced.
        expected: u64,
    },
    /// A package that cannot be unpacked.
    #[error("{}: not a usable package ({reason})", path.display())]
    Package {
        /// The package.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file is no usable GGUF.
    #[error("{name}: {reason}")]
    Gguf {
        /// The model.
        name: String,
        /// What is wrong.
        reason: GgufError,
    },
    /// Something that no model can be fetched from.
    #[error("{found:?}: expected a URL, hf:owner/repository:file.gguf or a name of the catalogue")]
    Source {
        /// What was given.
        found: String,
    },
    /// The other end, or the way to it.
    #[error("{url}: {reason}")]
    Fetch {
        /// Where it was to come from.
        url: String,
        /// What happened.
        reason: String,
    },
    /// Nobody wants it any more.
    #[error("given up")]
    Cancelled,
}

impl ModelError {
    /// An error of the system at a file.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |reason| Self::Io { path, reason }
    }

    /// An error of writing, where a full disk (or a quota, or the largest file allowed) is something else than a broken one.
    pub(crate) fn writing(path: &Path, written: u64) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |reason| match reason.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Self::Full { path, written },
            _ => Self::Io { path, reason },
        }
    }

    pub(crate) fn package(path: &Path, reason: impl ToString) -> Self {
        Self::Package { path: path.to_owned(), reason: reason.to_string() }
    }
}
