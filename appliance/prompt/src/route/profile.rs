//! Profiles: what decides about a model where the request does not.

/// The model that is best for every language we know figures of.
pub const QUALITY_MODEL: &str = "qwen_7b";
/// A model of the same family that takes a fifth of the time a token.
pub const SMALL_MODEL: &str = "qwen_1_5b";

/// What decides about a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteProfile {
    /// The language map, as the first Cerebrum had it.
    #[default]
    Compatible,
    /// One model for everything: Qwen2.5-Coder-7B is ahead of CodeLlama-7B in every published language, so a map by
    /// language only costs loads and caches.
    Quality,
    /// A small model for what looks easy, the quality profile's for the rest.
    Size,
}

impl RouteProfile {
    /// Its name in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compatible => "compatible",
            Self::Quality => "quality",
            Self::Size => "size",
        }
    }

    /// The profile of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Compatible, Self::Quality, Self::Size].into_iter().find(|profile| profile.as_str() == name)
    }
}
