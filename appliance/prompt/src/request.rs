//! What a preparation is given: the prompt, what is known about it, and the settings.

use crate::language::Detected;
use crate::tokens::{Estimate, TokenCount};

/// One prompt to prepare.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The whole prompt.
    pub prompt: &'a str,
    /// The `language` field of the call, as it was sent; any spelling. Detected from the prompt when absent.
    pub language: Option<&'a str>,
    /// What [`language::identify`](crate::language::identify) has said of this very prompt and field, where the caller has
    /// asked already; asked here when absent.
    pub detected: Option<Detected>,
    /// What the prompt is for.
    pub mode: Mode,
    /// The instruction, where the call has a field of its own for it. It is not part of `prompt` and not sent by this
    /// crate; it only tells what matters.
    pub instruction: Option<&'a str>,
    /// Tokens that the model has room for: its context less the answer and the chat template. Absent: no limit known.
    pub room: Option<usize>,
    /// How fast the server is, and what is worth its while.
    pub rates: Rates,
    /// What the server's cache holds of this session.
    pub slot: Option<Slot<'a>>,
    /// Counts tokens for the served model.
    pub tokens: &'a dyn TokenCount,
    /// Measures stages for the report, where somebody asks. Nothing else depends on it.
    pub clock: Option<&'a dyn Clock>,
}

/// A clock that a caller lends; this crate has none of its own.
pub trait Clock: Sync {
    /// Microseconds since any moment in the past that stays the same.
    fn now_us(&self) -> u64;
}

/// What a slot of the server holds: the last prompt of this session, as it was sent.
#[derive(Clone, Copy)]
pub struct Slot<'a> {
    /// The prompt that was sent.
    pub prompt: &'a str,
    /// How many of its bytes are context that the next prompt may begin with ([`crate::Report::stable_bytes`]).
    pub stable_bytes: usize,
}

/// The server's measured speed, and the least gain for which anything but a copy is left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Prompt tokens read per second.
    pub prefill_per_s: f32,
    /// Tokens written per second.
    pub decode_per_s: f32,
    /// Tokens that the answer is expected to have.
    pub answer_tokens: usize,
    /// Least gain in seconds.
    pub least_gain_s: f32,
    /// Least gain as a share of the expected time.
    pub least_gain_share: f32,
}

impl Default for Rates {
    /// A small VPS, by the first Cerebrum's own figures.
    fn default() -> Self {
        Self { prefill_per_s: 6.4, decode_per_s: 2.0, answer_tokens: 256, least_gain_s: 3.0, least_gain_share: 0.05 }
    }
}

impl<'a> Request<'a> {
    /// A prompt about which nothing else is known.
    #[must_use]
    pub fn new(prompt: &'a str) -> Self {
        Self {
            prompt,
            language: None,
            detected: None,
            mode: Mode::Instruct,
            instruction: None,
            room: None,
            rates: Rates::default(),
            slot: None,
            tokens: &Estimate,
            clock: None,
        }
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How prompts are shortened.
    pub profile: Profile,
}
