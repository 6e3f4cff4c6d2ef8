//! Where a model may come from: a URL, a file of a repository of the hub, or a name of the catalogue.

use http::Uri;

use super::catalogue;
use super::{ModelError, Name};

/// The hub that `hf:` means.
pub(super) const HUB: &str = "https://huggingface.co";

/// A place to fetch from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// As it was asked for.
    pub asked: String,
    /// What to fetch.
    pub url: Uri,
    /// Whether the other end is the hub, which says the hash of what it sends.
    pub hub: bool,
}

impl Source {
    /// Understands what was asked for; `hub` is the address that stands for `hf:`.
    ///
    /// # Errors
    /// [`ModelError::Source`].
    pub fn of(asked: &str, hub: &str) -> Result<Self, ModelError> {
        let unknown = || ModelError::Source { found: asked.to_owned() };
        let place = catalogue::find(asked).map_or(asked, |model| model.source);
        let (text, hub) = match place.strip_prefix("hf:") {
            None => (place.to_owned(), false),
            Some(place) => {
                let (repository, file) = place.split_once(':').ok_or_else(unknown)?;
                let two = repository.split('/').filter(|part| !part.is_empty()).count() == 2;
                let usable = two && !file.is_empty() && !file.starts_with('/');
                let url = usable.then(|| format!("{}/{repository}/resolve/main/{file}", hub.trim_end_matches('/')));
                (url.ok_or_else(unknown)?, true)
            }
        };
        let url = cerebrum_common::fetch::url(&text).ok_or_else(unknown)?;
        Ok(Self { asked: asked.to_owned(), url, hub })
    }

    /// The name of the model, going by the file's.
    ///
    /// # Errors
    /// [`ModelError::Name`].
    pub fn name(&self) -> Result<Name, ModelError> {
        Name::of_file(self.url.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_understood() {
        let of = |asked: &str| Source::of(asked, "https://hub/").map(|source| (source.url.to_string(), source.hub));
        assert_eq!(of("hf:o/r:sub/f.gguf").unwrap(), ("https://hub/o/r/resolve/main/sub/f.gguf".into(), true));
        assert_eq!(of("http://h/x.gguf?a=b").unwrap(), ("http://h/x.gguf?a=b".into(), false));
        for wrong in [
            "",
            "x",
            "hf:",
            "hf:o/r",
            "hf:o:f",
            "hf:o/r/s:f",
            "hf:o/r:",
            "ftp://h/f",
            "/etc/passwd",
            "http://",
            "hf:o/r:/f",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        let name = Source::of("http://h/a/x-1b.gguf?download=true", HUB).unwrap().name().unwrap();
        assert_eq!(name.as_str(), "x-1b");
    }
}
