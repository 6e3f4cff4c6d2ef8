//! The folder of models: which files belong to a model, and what they are called.
//!
//! A model called `NAME` is `NAME.gguf`, beside it `NAME.manifest.toml` where its hash is known; or, not unpacked yet,
//! `NAME.gguf.zst`. Files in the making begin with a dot, so that nobody takes them for models.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::ModelError;

/// Endings of a model's files.
const GGUF: &str = ".gguf";
const PACKAGE: &str = ".gguf.zst";

/// A name that is safe as a part of a file's name, and readable in a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The model that a file or URL is called after.
    ///
    /// # Errors
    /// [`ModelError::Name`].
    pub fn of_file(path: &str) -> Result<Self, ModelError> {
        let file = path.rsplit('/').next().unwrap_or_default();
        file.strip_suffix(PACKAGE).or_else(|| file.strip_suffix(GGUF)).unwrap_or(file).parse()
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let fits = (1..=NAME_BYTES).contains(&text.len()) && !text.starts_with(['.', '-']) && text.chars().all(allowed);
        match fits {
            true => Ok(Self(text.to_owned())),
            false => Err(ModelError::Name { found: text.to_owned() }),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// File systems take 255 bytes; the longest ending here has 20.
const NAME_BYTES: usize = 200;

/// Whether these bytes' file is a package, going by its name.
pub fn is_package(path: &str) -> bool {
    path.ends_with(PACKAGE)
}

/// The folder of models.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// This folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The model's weights.
    pub fn gguf(&self, name: &Name) -> PathBuf {
        self.0.join(format!("{name}{GGUF}"))
    }

    /// The model's package.
    pub fn package(&self, name: &Name) -> PathBuf {
        self.0.join(format!("{name}{PACKAGE}"))
    }

    /// What is known of the model's weights.
    pub fn manifest(&self, name: &Name) -> PathBuf {
        self.0.join(format!("{name}.manifest.toml"))
    }

    /// A file in the making.
    pub fn draft(&self, target: &Path) -> PathBuf {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        self.0.join(format!(".{name}.part"))
    }

    /// All models and packages, by name; a package whose model is there too is left out.
    ///
    /// # Errors
    /// [`ModelError::Io`].
    pub fn list(&self) -> Result<Vec<Listed>, ModelError> {
        let failed = || ModelError::io(&self.0);
        let mut models = Vec::new();
        for entry in std::fs::read_dir(&self.0).map_err(failed())? {
            models.extend(Listed::of(entry.map_err(failed())?.path()));
        }
        // A model before its package.
        models.sort_by(|a, b| (&a.name, a.packed).cmp(&(&b.name, b.packed)));
        models.dedup_by(|later, earlier| later.name == earlier.name);
        Ok(models)
    }
}

/// A file of the folder that is a model or becomes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The model's name.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// The file's length in bytes.
    pub bytes: u64,
    /// Whether it is a package still to be unpacked.
    pub packed: bool,
}

impl Listed {
    fn of(path: PathBuf) -> Option<Self> {
        let file = path.file_name()?.to_str()?;
        let (name, packed) = match file.strip_suffix(PACKAGE) {
            Some(name) => (name, true),
            None => (file.strip_suffix(GGUF)?, false),
        };
        let name = Some(name).filter(|name| !name.is_empty() && !name.starts_with('.'))?.to_owned();
        let file = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
        Some(Self { name, path, bytes: file.len(), packed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["", ".", "..", "../x", "a/b", ".hidden", "-x", "a b", "a\0", "ü", &"x".repeat(201)] {
            assert!(name.parse::<Name>().is_err(), "{name:?}");
        }
        for (file, name) in [("a/b/x-1.5b.Q4_K_M.gguf", "x-1.5b.Q4_K_M"), ("x.gguf.zst", "x"), ("x", "x")] {
            assert_eq!(Name::of_file(file).unwrap().as_str(), name);
        }
    }

    #[test]
    fn models_packages_and_nothing_else_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        for file in
            ["b.gguf", "b.gguf.zst", "c.gguf.zst", "a.gguf", ".d.gguf.part", ".gguf", "e.manifest.toml", "f.zst"]
        {
            std::fs::write(folder.path().join(file), "xyz").unwrap();
        }
        std::fs::create_dir(folder.path().join("g.gguf")).unwrap();
        let listed = Folder::new(folder.path()).list().unwrap();
        let shown: Vec<_> = listed.iter().map(|model| (model.name.as_str(), model.packed, model.bytes)).collect();
        assert_eq!(shown, [("a", false, 3), ("b", false, 3), ("c", true, 3)]);
        assert!(matches!(Folder::new("/nowhere/at/all").list(), Err(ModelError::Io { .. })));
    }
}
