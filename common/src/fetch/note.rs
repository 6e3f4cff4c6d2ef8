//! Where the part of a file came from, beside it.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A note of a download that is not finished.
#[derive(Debug)]
pub struct Note(PathBuf);

#[derive(Deserialize)]
struct Noted {
    source: String,
    validator: String,
}

impl Note {
    /// The one of the part at `path`.
    pub fn beside(path: &Path) -> Self {
        let mut path = path.as_os_str().to_owned();
        path.push(".toml");
        Self(path.into())
    }

    /// Its own place.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// By what the rest can be asked for, if the part is from the same place.
    pub fn read(&self, source: &str) -> Option<String> {
        let noted: Noted = toml::from_str(&std::fs::read_to_string(&self.0).ok()?).ok()?;
        (noted.source == source).then_some(noted.validator)
    }

    /// Writes it; without a validator nothing can be gone on with, and there is none.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, source: &str, validator: Option<&str>) -> io::Result<()> {
        let Some(validator) = validator else {
            self.remove();
            return Ok(());
        };
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        std::fs::write(&self.0, format!("source = {}\nvalidator = {}\n", quoted(source), quoted(validator)))
    }

    /// Removes it. Not there is what is wanted.
    pub fn remove(&self) {
        drop(std::fs::remove_file(&self.0));
    }
}
