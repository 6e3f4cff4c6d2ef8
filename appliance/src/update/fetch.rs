//! A bundle from the web: kept in a folder until it is staged, and gone on with after a cut. Who signed it is found out later; a
//! connection without TLS can only keep an update away.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use cerebrum_common::fetch::{Client, FetchError, Note, Patience, Sink, room};
use http::Uri;

use super::UpdateError;

/// What is fetched lies here, in the folder that is given.
const FILE: &str = "fetched.update";
/// Bytes of the disk that stay free for all else.
const SPARE: u64 = 8 << 20;

/// Fetches the bundle at `url` into `folder`, or what is missing of it; `progress` gets bytes done and of how many. Blocks.
///
/// # Errors
/// [`UpdateError::Fetch`], after which what has come stays; [`UpdateError::NoRoom`] and [`UpdateError::Io`].
pub fn fetch(
    url: &Uri,
    folder: &Path,
    patience: Patience,
    progress: impl FnMut(u64, Option<u64>),
) -> Result<PathBuf, UpdateError> {
    let path = folder.join(FILE);
    let failed = |source| UpdateError::Io { what: path.display().to_string(), source };
    let note = Note::beside(&path);
    let source = url.to_string();
    let validator = note.read(&source);
    let open = || {
        std::fs::create_dir_all(folder)?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        let bytes = if validator.is_some() { file.seek(SeekFrom::End(0))? } else { 0 };
        file.set_len(bytes)?;
        Ok((file, bytes))
    };
    let (file, bytes) = open().map_err(failed)?;
    let mut part = Part { file, bytes, path: &path, note: &note, source: &source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let outcome = runtime.block_on(Client::new(None, patience).download(url, validator, &mut part, progress));
    // A name lookup that hangs must not hold up the rest.
    runtime.shutdown_background();
    match outcome {
        Ok(_) => part.file.sync_all().map_err(failed).map(|()| path.clone()),
        Err(FetchError::Fetch { url, reason }) => Err(UpdateError::Fetch { url, reason }),
        Err(FetchError::Sink(error)) => {
            forget(folder);
            Err(error)
        }
    }
}

/// Removes what was fetched. Not there is what is wanted.
pub fn forget(folder: &Path) {
    let path = folder.join(FILE);
    Note::beside(&path).remove();
    drop(std::fs::remove_file(path));
}

struct Part<'a> {
    file: File,
    bytes: u64,
    path: &'a Path,
    note: &'a Note,
    source: &'a str,
}

impl Part<'_> {
    fn failed(&self) -> impl FnOnce(std::io::Error) -> UpdateError + use<> {
        let what = self.path.display().to_string();
        |source| UpdateError::Io { what, source }
    }
}

impl Sink for Part<'_> {
    type Error = UpdateError;

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn restart(&mut self) -> Result<(), UpdateError> {
        let failed = self.failed();
        self.bytes = 0;
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(failed)
    }

    fn expect(&mut self, validator: Option<&str>, rest: Option<u64>) -> Result<(), UpdateError> {
        self.note.write(self.source, validator).map_err(self.failed())?;
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let free = room(folder);
        let needed = rest.unwrap_or(0).saturating_add(SPARE);
        match needed <= free {
            true => Ok(()),
            false => Err(UpdateError::NoRoom { folder: folder.display().to_string(), needed, free }),
        }
    }

    fn write(&mut self, block: &[u8]) -> Result<(), UpdateError> {
        self.file.write_all(block).map_err(self.failed())?;
        self.bytes += block.len() as u64;
        Ok(())
    }
}
