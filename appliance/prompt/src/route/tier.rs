//! Tiers: names that requests use instead of a model's, with limits of their own.

/// A tier.
#[derive(Debug, PartialEq, Eq)]
pub struct Tier {
    /// Its name in requests.
    pub name: &'static str,
    /// Whether it plans, drafts and rates before it answers.
    pub reasons: bool,
    /// Tokens of a usual answer.
    pub standard_tokens: usize,
    /// Tokens of one that is asked to be long.
    pub extended_tokens: usize,
    /// Tokens that an answer never exceeds, whatever the request says.
    pub most_tokens: usize,
    /// Tokens of prompt and answer together.
    pub context_tokens: usize,
}

/// Every tier.
pub const TIERS: [Tier; 2] = [
    Tier {
        name: "jive",
        reasons: true,
        standard_tokens: 4_096,
        extended_tokens: 8_000,
        most_tokens: 40_000,
        context_tokens: 131_000,
    },
    Tier {
        name: "jigga",
        reasons: false,
        standard_tokens: 4_096,
        extended_tokens: 8_000,
        most_tokens: 131_000,
        context_tokens: 131_000,
    },
];

impl Tier {
    /// The tier of that name, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TIERS.iter().find(|tier| tier.name.eq_ignore_ascii_case(name.trim()))
    }
}
