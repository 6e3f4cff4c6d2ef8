//! The models there are: GGUF files and packages of one folder, by file stem, and their aliases. Reads the folder's listing when
//! asked and keeps nothing, so a file put there is found at once. Watching the folder would save a listing of a few files per
//! request that names an unloaded model, and cost a thread that can miss what happens on a network's file system.
//!
//! A name is only ever compared with the listing, never made into a path: no name leads out of the folder.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Unavailable;
use crate::models::{Folder, Listed, Package};

/// Where models are and what else they are called.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// The folder of GGUF files.
    pub folder: PathBuf,
    /// Further names: alias to model.
    pub aliases: BTreeMap<String, String>,
    /// Taken when a request names none; without it, the only model there is.
    pub default: Option<String>,
}

/// A model's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file's stem.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Length of the weights in bytes; of a package that cannot be read, its own.
    pub bytes: u64,
    /// Whether the file is a package still to be unpacked.
    pub packed: bool,
}

impl Catalog {
    /// All models, by name. An unreadable folder has none, and the log says why.
    pub fn list(&self) -> Vec<Found> {
        match Folder::new(&self.folder).list() {
            Ok(models) => models.into_iter().map(found).collect(),
            Err(error) => {
                tracing::warn!(%error, "the models folder cannot be read");
                Vec::new()
            }
        }
    }

    /// The model's own name for what a request calls it.
    ///
    /// # Errors
    /// [`Unavailable::Unknown`] when a request names none and there is no default.
    pub fn resolve(&self, asked: &str) -> Result<String, Unavailable> {
        let asked = match (asked, &self.default) {
            ("", Some(default)) => default,
            ("", None) => return self.only(),
            (asked, _) => asked,
        };
        Ok(self.aliases.get(asked).map_or(asked, String::as_str).to_owned())
    }

    /// The file of the model called `name`.
    ///
    /// # Errors
    /// [`Unavailable::Unknown`].
    pub fn find(&self, name: &str) -> Result<Found, Unavailable> {
        let found = self.list().into_iter().find(|model| model.name == name);
        found.ok_or_else(|| self.unknown(name))
    }

    fn only(&self) -> Result<String, Unavailable> {
        match self.list().as_slice() {
            [only] => Ok(only.name.clone()),
            _ => Err(self.unknown("")),
        }
    }

    fn unknown(&self, asked: &str) -> Unavailable {
        let names = self.list().into_iter().map(|model| model.name);
        Unavailable::Unknown { asked: asked.to_owned(), known: names.chain(self.aliases.keys().cloned()).collect() }
    }
}

fn found(Listed { name, path, bytes, packed }: Listed) -> Found {
    let unpacked = || Package::open(&path).map_or(bytes, |package| package.manifest().bytes);
    Found { bytes: if packed { unpacked() } else { bytes }, name, path, packed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> (tempfile::TempDir, Catalog) {
        let folder = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| std::fs::write(folder.path().join(name), "GGUF").unwrap());
        let catalog = Catalog { folder: folder.path().into(), ..Catalog::default() };
        (folder, catalog)
    }

    #[test]
    fn only_gguf_files_are_models() {
        let (folder, catalog) = folder(&["b.gguf", "a-1.5b.gguf", "README.md", ".hidden.gguf", "x.gguf.part"]);
        std::fs::create_dir(folder.path().join("folder.gguf")).unwrap();
        let names: Vec<_> = catalog.list().into_iter().map(|model| (model.name, model.bytes)).collect();
        assert_eq!(names, [("a-1.5b".to_owned(), 4), ("b".to_owned(), 4)]);
    }

    #[test]
    fn files_come_and_go_without_notice() {
        let (folder, catalog) = folder(&["a.gguf"]);
        let names = || catalog.list().into_iter().map(|model| model.name).collect::<Vec<_>>();
        std::fs::write(folder.path().join("b.gguf"), "GGUF").unwrap();
        assert_eq!(names(), ["a", "b"]);
        assert!(catalog.find("b").is_ok());
        std::fs::remove_file(folder.path().join("a.gguf")).unwrap();
        assert_eq!(names(), ["b"]);
        assert!(matches!(catalog.find("a"), Err(Unavailable::Unknown { .. })));
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let (folder, outer) = folder(&["secret.gguf"]);
        std::fs::create_dir(folder.path().join("models")).unwrap();
        let inner = Catalog { folder: folder.path().join("models"), ..outer };
        let absolute = folder.path().join("secret").display().to_string();
        for name in ["../secret", "..", ".", "/", "../secret.gguf", "..%2fsecret", absolute.as_str(), "a\0b"] {
            assert!(matches!(inner.find(name), Err(Unavailable::Unknown { .. })), "{name}");
        }
    }

    #[test]
    fn a_name_may_be_an_alias_the_default_or_nothing() {
        let (_folder, mut catalog) = folder(&["tiny.gguf"]);
        catalog.aliases.insert("qwen_7b".into(), "tiny".into());
        assert_eq!(catalog.resolve("").unwrap(), "tiny");
        assert_eq!(catalog.resolve("qwen_7b").unwrap(), "tiny");
        catalog.default = Some("qwen_7b".into());
        assert_eq!(catalog.resolve("").unwrap(), "tiny");
        assert_eq!(catalog.resolve("other").unwrap(), "other");
        let sentence = catalog.find("other").unwrap_err().to_string();
        assert_eq!(sentence, "model: found \"other\", expected one of tiny, qwen_7b");
    }

    #[test]
    fn without_a_default_two_models_need_a_name() {
        let (_folder, catalog) = folder(&["a.gguf", "b.gguf"]);
        let sentence = catalog.resolve("").unwrap_err().to_string();
        assert_eq!(sentence, "model: found no name and no default model, expected one of a, b");
    }
}
