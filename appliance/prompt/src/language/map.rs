//! Which model serves which language: data from the settings.

use std::collections::BTreeMap;

use super::Language;

/// The model for languages without an entry of their own.
pub const DEFAULT_MODEL: &str = "qwen_7b";

/// The first Cerebrum's language map.
pub const MODEL_MAP: [(&str, &str); 7] = [
    ("python", "qwen_7b"),
    ("javascript", "qwen_7b"),
    ("typescript", "qwen_7b"),
    ("rust", "codellama_7b"),
    ("go", "codellama_7b"),
    ("c", "codellama_7b"),
    ("cpp", "codellama_7b"),
];

/// Language to model, with a model for everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanguageMap {
    models: BTreeMap<String, String>,
    default: String,
}

impl LanguageMap {
    /// A map from `(language, model)` pairs; `default` serves every other language. Languages may be spelt in any way
    /// that [`Language::from_name`] knows, or be unknown to it.
    pub fn new<L: AsRef<str>, M: Into<String>>(
        entries: impl IntoIterator<Item = (L, M)>,
        default: impl Into<String>,
    ) -> Self {
        let models =
            entries.into_iter().map(|(language, model)| (canonical(language.as_ref()), model.into())).collect();
        Self { models, default: default.into() }
    }

    /// The model for a language, given as it was sent.
    #[must_use]
    pub fn model_for(&self, language: Option<&str>) -> &str {
        language.and_then(|name| self.models.get(&canonical(name))).unwrap_or(&self.default)
    }

    /// Whether a language, given as it was sent, has an entry of its own.
    #[must_use]
    pub fn is_listed(&self, language: &str) -> bool {
        self.models.contains_key(&canonical(language))
    }

    /// The model for every language that is not listed.
    #[must_use]
    pub fn default_model(&self) -> &str {
        &self.default
    }

    /// The entries, language first.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.models.iter().map(|(language, model)| (language.as_str(), model.as_str()))
    }

    /// Every model named, each once.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        let mut names: Vec<&str> = self.models.values().map(String::as_str).chain([self.default.as_str()]).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter()
    }
}

impl Default for LanguageMap {
    /// [`MODEL_MAP`] and [`DEFAULT_MODEL`].
    fn default() -> Self {
        Self::new(MODEL_MAP, DEFAULT_MODEL)
    }
}

fn canonical(name: &str) -> String {
    match Language::from_name(name) {
        Some(language) => language.name().to_owned(),
        None => name.trim().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_map() {
        let map = LanguageMap::default();
        for (language, model) in [
            (Some("python"), "qwen_7b"),
            (Some("JavaScript"), "qwen_7b"),
            (Some("ts"), "qwen_7b"),
            (Some("rust"), "codellama_7b"),
            (Some("Go"), "codellama_7b"),
            (Some("c"), "codellama_7b"),
            (Some("C++"), "codellama_7b"),
            (Some("cobol"), "qwen_7b"),
            (None, "qwen_7b"),
        ] {
            assert_eq!(map.model_for(language), model, "{language:?}");
        }
    }

    #[test]
    fn settings_may_name_languages_that_nobody_detects() {
        let map = LanguageMap::new([("Haskell", "big"), ("py", "small")], "other");
        assert_eq!(map.model_for(Some("haskell")), "big");
        assert_eq!(map.model_for(Some("python")), "small");
        assert_eq!(map.model_for(Some("perl")), "other");
        assert_eq!(map.models().collect::<Vec<_>>(), ["big", "other", "small"]);
    }
}
