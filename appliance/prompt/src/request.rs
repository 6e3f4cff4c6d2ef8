//! What a preparation is given: the prompt, what is known about it, and the settings.

use crate::language::LanguageMap;

/// One prompt to prepare.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The whole prompt.
    pub prompt: &'a str,
    /// The `language` field of the call, as it was sent; any spelling. Detected from the prompt when absent.
    pub language: Option<&'a str>,
    /// What the prompt is for.
    pub mode: Mode,
}

impl<'a> Request<'a> {
    /// A prompt about which nothing else is known.
    #[must_use]
    pub fn new(prompt: &'a str) -> Self {
        Self { prompt, language: None, mode: Mode::Instruct }
    }
}

/// What the model is asked to do with the prompt, as far as the call tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Follow an instruction found in the prompt; without one, continue it.
    #[default]
    Instruct,
    /// Continue the text at its end.
    Completion,
}

/// How prompts are shortened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Not at all.
    Off,
    /// As the first Cerebrum did it: fixed windows, word overlap, best three. For comparison and compatibility.
    #[default]
    Classic,
    /// By definitions, duplicates and relevance, decided in seconds saved.
    Smart,
}

impl Profile {
    /// The profile's name in settings and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Classic => "classic",
            Self::Smart => "smart",
        }
    }

    /// The profile of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Off, Self::Classic, Self::Smart].into_iter().find(|profile| profile.as_str() == name)
    }
}

/// How the appliance prepares, the same for every request until settings are reloaded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// How prompts are shortened.
    pub profile: Profile,
    /// Which model serves which language.
    pub languages: LanguageMap,
}
