//! What is known of a model's weights: length, hash, origin. At the head of a package, and in a file beside the weights.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Folder, ModelError, Name};

/// The format described here.
const VERSION: u32 = 1;

/// A manifest is a few lines.
pub(super) const MANIFEST_BYTES: u64 = 64 << 10;

/// What is known of a model's weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format; 1.
    pub version: u32,
    /// The model's name.
    pub name: String,
    /// Length of the GGUF file.
    pub bytes: u64,
    /// SHA-256 of the GGUF file, in lower-case hexadecimal.
    pub sha256: String,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl Manifest {
    /// Of weights with this hash.
    pub fn new(name: &Name, bytes: u64, sha256: String, source: Option<String>) -> Self {
        Self { version: VERSION, name: name.to_string(), bytes, sha256, source }
    }

    /// From its text.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let manifest: Self = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        if manifest.version != VERSION {
            return Err(format!("found version {} of the manifest, expected {VERSION}", manifest.version));
        }
        if !is_hash(&manifest.sha256) {
            return Err(format!("sha256: found {:?}, expected 64 hexadecimal digits", manifest.sha256));
        }
        manifest.name.parse::<Name>().map_err(|error| error.to_string())?;
        Ok(manifest)
    }

    /// As text.
    pub fn text(&self) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let Self { version, name, bytes, sha256, source } = self;
        let source = source.as_ref().map(|source| format!("source = {}\n", quoted(source))).unwrap_or_default();
        format!("version = {version}\nname = {}\nbytes = {bytes}\nsha256 = \"{sha256}\"\n{source}", quoted(name))
    }

    /// The one beside a model's weights, if there is one.
    ///
    /// # Errors
    /// [`ModelError::Io`], also when it says nothing that can be understood.
    pub fn of(folder: &Folder, name: &Name) -> Result<Option<Self>, ModelError> {
        let path = folder.manifest(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).map(Some).map_err(|reason| unclear(&path, reason)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ModelError::io(&path)(error)),
        }
    }

    /// Puts it beside the weights, whole or not at all.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn write(&self, folder: &Folder, name: &Name) -> Result<(), ModelError> {
        let path = folder.manifest(name);
        let draft = folder.draft(&path);
        std::fs::write(&draft, self.text()).map_err(ModelError::writing(&draft, 0))?;
        std::fs::rename(&draft, &path).map_err(ModelError::io(&path))
    }
}

fn unclear(path: &Path, reason: String) -> ModelError {
    ModelError::io(path)(std::io::Error::new(std::io::ErrorKind::InvalidData, reason))
}

/// Whether this is a SHA-256 in hexadecimal.
pub(super) fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, name) = (Folder::new(folder.path()), "a-1.5b".parse().unwrap());
        assert_eq!(Manifest::of(&folder, &name).unwrap(), None);
        let manifest = Manifest::new(&name, 7, "0a".repeat(32), Some("hf:o/r:\"f\".gguf".into()));
        manifest.write(&folder, &name).unwrap();
        assert_eq!(Manifest::of(&folder, &name).unwrap(), Some(manifest.clone()));
        let other = manifest.text().replace("version = 1", "version = 2");
        assert!(Manifest::parse(&other).unwrap_err().contains("version 2"));
        assert!(Manifest::parse(&manifest.text().replace("0a0a", "0a")).unwrap_err().contains("64 hexadecimal"));
        assert!(Manifest::parse(&manifest.text().replace("a-1.5b", "../x")).unwrap_err().contains("cannot be"));
    }
}
