//! Which model answers, and how much it may say: explicit models, tiers, the language map and its profiles.
//!
//! Owns: the choice of a model's name and of the limits that come with it. Never: upstreams, health, clocks; whoever calls
//! keeps what [`Held`] says between the requests of a session and hands it in again.

mod difficulty;
mod phrases;
mod profile;
mod session;
mod tier;

pub use difficulty::{Difficulty, difficulty};
pub use phrases::{EXTENDED_PHRASES, wants_extended_output};
pub use profile::{QUALITY_MODEL, RouteProfile, SMALL_MODEL};
pub use session::Held;
pub use tier::{TIERS, Tier};

use std::collections::BTreeMap;

use crate::language::{Detected, LanguageMap};

/// What is appended to a request so that a model that can think does not.
pub const NO_THINK: &str = "/no_think";
/// Tokens of context from which on thinking about all of it takes longer than anybody waits.
pub const NO_THINK_CONTEXT: usize = 100_000;

/// How requests are routed, the same for all until settings are reloaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Which model answers which language, under the compatible profile.
    pub languages: LanguageMap,
    /// What decides where the request says nothing.
    pub profile: RouteProfile,
    /// The model of the `quality` profile, and of `size` for what is hard.
    pub quality_model: String,
    /// The model of the `size` profile for what is easy.
    pub small_model: String,
    /// The models behind the tiers' names; a tier that is not listed is answered by the language map's default.
    pub tiers: BTreeMap<String, String>,
    /// Beginnings of the names of models that know [`NO_THINK`], in lower case.
    pub knows_no_think: Vec<String>,
    /// Requests in a row that must want another model before a session changes to it.
    pub change_after: u8,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            languages: LanguageMap::default(),
            profile: RouteProfile::default(),
            quality_model: QUALITY_MODEL.to_owned(),
            small_model: SMALL_MODEL.to_owned(),
            tiers: BTreeMap::new(),
            knows_no_think: ["qwen3", "smollm3"].map(str::to_owned).to_vec(),
            change_after: 2,
        }
    }
}

impl Rules {
    /// Whether [`NO_THINK`] belongs behind a request of so many tokens to that model.
    #[must_use]
    pub fn forbids_thinking(&self, model: &str, context_tokens: usize) -> bool {
        let model = model.to_ascii_lowercase();
        let file = model.rsplit(['/', ':']).next().unwrap_or_default();
        context_tokens > NO_THINK_CONTEXT && self.knows_no_think.iter().any(|name| file.starts_with(name.as_str()))
    }
}

/// What is known about a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The model that the request names: a model, or a tier.
    pub model: Option<&'a str>,
    /// The `language` field as it was sent, which may be a language that nobody detects.
    pub language: Option<&'a str>,
    /// The language of the code, and what told it.
    pub detected: Detected,
    /// What the user asks, without code, replies or tool output.
    pub request: &'a str,
    /// How hard it looks.
    pub difficulty: Difficulty,
    /// What the session had before; absent for its first request, or without one.
    pub held: Option<&'a Held>,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The model's name, never a tier's.
    pub model: String,
    /// What decided.
    pub why: Why,
    /// The tier, where the request names one.
    pub tier: Option<&'static Tier>,
    /// Whether the user asks for a long answer.
    pub extended: bool,
    /// What the session holds now.
    pub held: Held,
}

impl Route {
    /// Tokens of the answer when the request does not say: the tier's, or `usual`.
    #[must_use]
    pub fn answer_tokens(&self, usual: usize) -> usize {
        self.tier.map_or(usual, |tier| if self.extended { tier.extended_tokens } else { tier.standard_tokens })
    }

    /// Tokens of the answer that the request asked for, within what the tier allows.
    #[must_use]
    pub fn at_most(&self, asked: usize) -> usize {
        self.tier.map_or(asked, |tier| asked.min(tier.most_tokens))
    }
}

/// What decided about a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The request names it.
    Named,
    /// The session has it, and once is no reason to load another.
    Session,
    /// The language map.
    Language,
    /// The profile.
    Profile,
    /// Nothing told anything.
    Default,
}

impl Why {
    /// Its name in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Session => "session",
            Self::Language => "language",
            Self::Profile => "profile",
            Self::Default => "default",
        }
    }
}

/// Chooses the model for a request.
#[must_use]
pub fn route(asked: &Asked<'_>, rules: &Rules) -> Route {
    let named = asked.model.map(str::trim).filter(|model| !model.is_empty());
    let tier = named.and_then(Tier::named);
    let (model, why) = match (tier, named) {
        (Some(tier), _) => (behind(tier, rules).to_owned(), Why::Named),
        (None, Some(model)) => (model.to_owned(), Why::Named),
        (None, None) => wanted(asked, rules),
    };
    let held = match asked.held {
        Some(held) if why != Why::Named => held.then(&model, is_certain(asked), rules.change_after),
        _ => Held::new(&model),
    };
    let why = if held.model() == model { why } else { Why::Session };
    let model = held.model().to_owned();
    Route { extended: wants_extended_output(asked.request), tier, why, model, held }
}

/// The model that answers for a tier.
fn behind<'r>(tier: &Tier, rules: &'r Rules) -> &'r str {
    rules.tiers.get(tier.name).map_or(rules.languages.default_model(), String::as_str)
}

/// The model that this request would have on its own.
fn wanted(asked: &Asked<'_>, rules: &Rules) -> (String, Why) {
    match rules.profile {
        RouteProfile::Compatible => {
            let language = asked.language.or_else(|| asked.detected.language.map(crate::Language::name));
            let model = rules.languages.model_for(language).to_owned();
            let listed = language.is_some_and(|language| rules.languages.is_listed(language));
            (model, if listed { Why::Language } else { Why::Default })
        }
        RouteProfile::Quality => (rules.quality_model.clone(), Why::Profile),
        RouteProfile::Size => {
            let model = if asked.difficulty == Difficulty::Easy { &rules.small_model } else { &rules.quality_model };
            (model.clone(), Why::Profile)
        }
    }
}

/// Whether the user says what language it is; a guess by keywords may be wrong for one request.
fn is_certain(asked: &Asked<'_>) -> bool {
    asked.language.is_some()
}

#[cfg(test)]
mod tests;
