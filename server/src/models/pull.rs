//! `models pull`: a file from the web into the folder, in as many attempts as it takes.
//!
//! What has come is kept when the connection fails, also over the end of this program, and gone on with by the next pull of the
//! same place, if the file there is still the same one. It gets a model's name only when its hash and header are right.

use std::path::Path;

use cerebrum_common::fetch::{Client, FetchError, Note, Patience, Sink};
use cerebrum_common::keys::Secret;

use super::draft::has_room;
use super::{Draft, Folder, Manifest, ModelError, Name, Package, Progress, Source, is_package};

/// What to pull, and how.
#[derive(Debug)]
pub struct Pull {
    /// From where.
    pub source: Source,
    /// What to call it.
    pub name: Name,
    /// The SHA-256 that the file has to have, where the caller knows it.
    pub sha256: Option<String>,
    /// Whether a model of that name may be replaced.
    pub replace: bool,
    /// Shown to the one who is asked.
    pub token: Option<Secret>,
    /// How long to go on trying.
    pub patience: Patience,
}

/// What was pulled.
#[derive(Debug)]
pub struct Pulled {
    /// The installed weights.
    pub manifest: Manifest,
    /// Whether somebody said beforehand what its hash has to be.
    pub checked: bool,
    /// Bytes that an earlier pull had fetched already.
    pub resumed: u64,
}

impl Pull {
    /// Pulls.
    ///
    /// # Errors
    /// [`ModelError`]. Only after [`ModelError::Fetch`] a part is kept.
    pub async fn run(self, folder: &Folder, progress: &Progress) -> Result<Pulled, ModelError> {
        let target = folder.gguf(&self.name);
        if target.exists() && !self.replace {
            return Err(ModelError::Exists { path: target });
        }
        let packed = is_package(self.source.url.path());
        let fetched = if packed { folder.package(&self.name) } else { target.clone() };
        let mut draft = Draft::open(folder, &self.name, &fetched)?;
        let note = Note::beside(draft.path());
        let outcome = self.fetch(folder, &mut draft, &note, progress).await;
        // Worth keeping is what a later pull can go on with.
        let continues = draft.bytes() > 0 && note.read(&self.source.asked).is_some();
        if !(continues && matches!(outcome, Err(ModelError::Fetch { .. }))) {
            draft.keep(false);
            note.remove();
        }
        let Fetched { sha256, expected, resumed } = outcome?;
        let checked = expected || packed;
        let manifest = match packed {
            true => {
                let manifest = unpack(draft.path(), folder, &self.name, progress)?;
                let manifest = Manifest { source: Some(self.source.asked), ..manifest };
                manifest.write(folder, &self.name)?;
                manifest
            }
            false => {
                let manifest = Manifest::new(&self.name, draft.bytes(), sha256, Some(self.source.asked));
                draft.install(&target)?;
                manifest.write(folder, &self.name)?;
                manifest
            }
        };
        Ok(Pulled { manifest, checked, resumed })
    }

    async fn fetch(
        &self,
        folder: &Folder,
        draft: &mut Draft,
        note: &Note,
        progress: &Progress,
    ) -> Result<Fetched, ModelError> {
        let client = Client::new(self.token.clone(), self.patience);
        let validator = note.read(&self.source.asked);
        draft.keep(true);
        let resumed = if validator.is_some() { draft.resume()? } else { 0 };
        let mut part = Part { draft, note, folder, source: &self.source.asked };
        let progress = |done, total| progress.set(done, total);
        let said = client.download(&self.source.url, validator, &mut part, progress).await?;
        let said = said.filter(|_| self.source.hub);
        let expected = self.sha256.as_deref().or(said.as_deref());
        Ok(Fetched { sha256: draft.checked(expected)?, expected: expected.is_some(), resumed })
    }
}

/// A draft that is being fetched.
struct Part<'a> {
    draft: &'a mut Draft,
    note: &'a Note,
    folder: &'a Folder,
    source: &'a str,
}

impl Sink for Part<'_> {
    type Error = ModelError;

    fn bytes(&self) -> u64 {
        self.draft.bytes()
    }

    fn restart(&mut self) -> Result<(), ModelError> {
        self.draft.restart()
    }

    fn expect(&mut self, validator: Option<&str>, rest: Option<u64>) -> Result<(), ModelError> {
        self.note.write(self.source, validator).map_err(ModelError::writing(self.note.path(), 0))?;
        has_room(self.folder, rest.unwrap_or(0))
    }

    fn write(&mut self, block: &[u8]) -> Result<(), ModelError> {
        self.draft.write(block)
    }
}

impl From<FetchError<Self>> for ModelError {
    fn from(error: FetchError<Self>) -> Self {
        match error {
            FetchError::Fetch { url, reason } => Self::Fetch { url, reason },
            FetchError::Sink(error) => error,
        }
    }
}

struct Fetched {
    sha256: String,
    expected: bool,
    resumed: u64,
}

fn unpack(path: &Path, folder: &Folder, name: &Name, progress: &Progress) -> Result<Manifest, ModelError> {
    Package::open(path)?.unpack(path, folder, name, &mut |done, total| {
        progress.set(done, Some(total));
        true
    })
}
