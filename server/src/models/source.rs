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
        let url: Uri = text.parse().map_err(|_| unknown())?;
        let fetchable =
            matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty());
        if fetchable { Ok(Self { asked: asked.to_owned(), url, hub }) } else { Err(unknown()) }
    }

    /// The name of the model, going by the file's.
    ///
    /// # Errors
    /// [`ModelError::Name`].
    pub fn name(&self) -> Result<Name, ModelError> {
        Name::of_file(self.url.path())
    }
}

/// The place that an answer sends to, as seen from where it came from. Never from TLS to the clear.
pub(super) fn redirected(from: &Uri, location: &str) -> Option<Uri> {
    let to: Uri = match location.starts_with('/') && !location.starts_with("//") {
        true => format!("{}://{}{location}", from.scheme_str()?, from.authority()?).parse().ok()?,
        false => location.parse().ok()?,
    };
    let kept = from.scheme_str() == to.scheme_str() || to.scheme_str() == Some("https");
    Some(to).filter(|to| kept && to.host().is_some())
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

    #[test]
    fn redirections_stay_safe() {
        let to = |from: &str, location: &str| redirected(&from.parse().unwrap(), location).map(|to| to.to_string());
        assert_eq!(to("https://h:1/a", "/b?c").as_deref(), Some("https://h:1/b?c"));
        assert_eq!(to("https://h/a", "https://cdn/b").as_deref(), Some("https://cdn/b"));
        assert_eq!(to("http://h/a", "https://cdn/b").as_deref(), Some("https://cdn/b"));
        for location in ["http://cdn/b", "//cdn/b", "b", ""] {
            assert_eq!(to("https://h/a", location), None, "{location}");
        }
    }
}
