//! Prompt preparation: pure functions that shorten a prompt without losing what it asks for.
//!
//! No clock, no I/O, no logging, no task: the same input gives the same output, and any doubt gives the original back.
//! [`prepare`] is the door; [`classic`] is the original's algorithm, [`language`] finds out what a prompt is written in.

pub mod classic;
pub mod language;

/// How a prompt is prepared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Not at all.
    Off,
    /// As the original did: fixed windows, word overlap, best three.
    #[default]
    Classic,
}

impl Profile {
    /// Its name in settings and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Classic => "classic",
        }
    }
}

/// What to send, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The prompt to send.
    pub prompt: String,
    /// What was done.
    pub report: Report,
}

/// What preparation did to one prompt. Holds counts, never text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The profile in force.
    pub profile: Profile,
    /// What happened, or why nothing did.
    pub outcome: Outcome,
    /// Marker that the instruction began with, where one was found.
    pub marker: Option<&'static str>,
    /// Characters (Unicode scalar values) of the prompt as it came.
    pub original_chars: usize,
    /// Characters of the prompt as it is sent.
    pub final_chars: usize,
    /// Blocks the code was cut into.
    pub chunks_total: usize,
    /// Blocks that were not copies of an earlier one.
    pub chunks_unique: usize,
    /// Blocks that are sent.
    pub chunks_kept: usize,
}

/// What happened to a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The profile is `off`.
    Off,
    /// Short, without an instruction: sent as it came.
    Short,
    /// Short, with an instruction: the instruction was put first.
    InstructionFirst,
    /// Long: duplicates dropped, the best blocks kept.
    Reduced,
    /// Long, but the saving was under the threshold: sent as it came.
    SavingTooSmall,
    /// Long, but there were too few different blocks to choose from: sent as it came.
    NothingToChoose,
}

impl Outcome {
    /// Its name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Short => "short",
            Self::InstructionFirst => "instruction_first",
            Self::Reduced => "reduced",
            Self::SavingTooSmall => "saving_too_small",
            Self::NothingToChoose => "nothing_to_choose",
        }
    }
}

/// Prepares `prompt`.
pub fn prepare(prompt: &str, profile: Profile) -> Prepared {
    match profile {
        Profile::Off => untouched(prompt, profile, Outcome::Off),
        Profile::Classic => classic::prepare(prompt),
    }
}

/// The prompt as it came.
fn untouched(prompt: &str, profile: Profile, outcome: Outcome) -> Prepared {
    let chars = prompt.chars().count();
    let report = Report {
        profile,
        outcome,
        marker: None,
        original_chars: chars,
        final_chars: chars,
        chunks_total: 0,
        chunks_unique: 0,
        chunks_kept: 0,
    };
    Prepared { prompt: prompt.to_owned(), report }
}
