//! `models pull`: a file from the web into the folder, in as many attempts as it takes.
//!
//! What has come is kept when the connection fails, also over the end of this program, and gone on with by the next pull of the
//! same place, if the file there is still the same one. It gets a model's name only when its hash and header are right.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cerebrum_common::keys::Secret;
use http::Uri;
use serde::Deserialize;

use super::draft::has_room;
use super::fetch::{Answer, Client, Trouble};
use super::{Draft, Folder, Manifest, ModelError, Name, Package, Patience, Progress, Source, is_package};

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
        let note = Note::beside(&draft);
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
        let mut validator = note.read(&self.source.asked);
        draft.keep(true);
        let resumed = if validator.is_some() { draft.resume()? } else { 0 };
        let mut said = None;
        let mut in_vain = 0;
        loop {
            let before = draft.bytes();
            match self.attempt(&client, folder, draft, note, &mut validator, &mut said, progress).await? {
                None => break,
                Some(Trouble::Passing(_)) if draft.bytes() > before => in_vain = 0,
                Some(Trouble::Passing(_)) if in_vain + 1 < self.patience.attempts => in_vain += 1,
                Some(Trouble::Passing(reason) | Trouble::Lasting(reason)) => {
                    return Err(ModelError::Fetch { url: shown(&self.source.url), reason });
                }
            }
            tokio::time::sleep(self.pause(in_vain)).await;
        }
        let expected = self.sha256.as_deref().or(said.as_deref());
        Ok(Fetched { sha256: draft.checked(expected)?, expected: expected.is_some(), resumed })
    }

    fn pause(&self, in_vain: u32) -> Duration {
        match in_vain {
            0 => Duration::ZERO,
            n => self.patience.pause * 2_u32.saturating_pow(n - 1),
        }
    }

    // One exchange: what came is in the draft. `None` when that is all of it.
    #[expect(clippy::too_many_arguments, reason = "what lasts over the attempts of a pull")]
    async fn attempt(
        &self,
        client: &Client,
        folder: &Folder,
        draft: &mut Draft,
        note: &Note,
        validator: &mut Option<String>,
        said: &mut Option<String>,
        progress: &Progress,
    ) -> Result<Option<Trouble>, ModelError> {
        let mut answer = match client.get(&self.source.url, draft.bytes(), validator.as_deref()).await {
            Ok(answer) => answer,
            Err(trouble) => return Ok(Some(trouble)),
        };
        if answer.from == 0 {
            draft.restart()?;
        }
        *said = answer.sha256.take().filter(|_| self.source.hub).or(said.take());
        *validator = answer.validator.take();
        note.write(&self.source.asked, validator.as_deref())?;
        has_room(folder, answer.total.map_or(0, |total| total.saturating_sub(draft.bytes())))?;
        pour(&mut answer, draft, progress).await
    }
}

async fn pour(answer: &mut Answer, draft: &mut Draft, progress: &Progress) -> Result<Option<Trouble>, ModelError> {
    loop {
        progress.set(draft.bytes(), answer.total);
        match answer.next().await {
            Ok(Some(block)) => draft.write(&block)?,
            Ok(None) => return Ok(None),
            Err(trouble) => return Ok(Some(trouble)),
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

// Without what follows the question mark, where some places put a key.
fn shown(url: &Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    format!(
        "{}://{}{}",
        url.scheme_str().unwrap_or_default(),
        authority.rsplit('@').next().unwrap_or_default(),
        url.path()
    )
}

/// Where the part of a file came from, beside it.
struct Note(PathBuf);

#[derive(Deserialize)]
struct Noted {
    source: String,
    validator: String,
}

impl Note {
    fn beside(draft: &Draft) -> Self {
        let mut path = draft.path().as_os_str().to_owned();
        path.push(".toml");
        Self(path.into())
    }

    /// By what the rest can be asked for, if the part is from the same place.
    fn read(&self, source: &str) -> Option<String> {
        let noted: Noted = toml::from_str(&std::fs::read_to_string(&self.0).ok()?).ok()?;
        (noted.source == source).then_some(noted.validator)
    }

    fn write(&self, source: &str, validator: Option<&str>) -> Result<(), ModelError> {
        let Some(validator) = validator else {
            self.remove();
            return Ok(());
        };
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let text = format!("source = {}\nvalidator = {}\n", quoted(source), quoted(validator));
        std::fs::write(&self.0, text).map_err(ModelError::writing(&self.0, 0))
    }

    fn remove(&self) {
        // Not there is what is wanted.
        drop(std::fs::remove_file(&self.0));
    }
}
