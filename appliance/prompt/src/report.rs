//! What a preparation hands back. Reports hold numbers, names and ranges into the original, so that one can be logged or
//! kept without keeping anybody's code.

use std::fmt;
use std::ops::Range;

use crate::language::{self, Detected};
use crate::request::{Profile, Request};

/// A prompt ready to send, and the account of how it came about.
#[derive(Clone, PartialEq)]
pub struct Prepared {
    /// What to send.
    pub prompt: String,
    /// What was done.
    pub report: Report,
}

/// Prints lengths only: prompts never reach a log.
impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("prompt_bytes", &self.prompt.len()).field("report", &self.report).finish()
    }
}

/// What a preparation did.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The profile that ran.
    pub profile: Profile,
    /// What happened, or why nothing did.
    pub outcome: Outcome,
    /// The language of the code, and how it was found.
    pub language: Detected,
    /// Marker that the instruction began with, where one was found.
    pub marker: Option<&'static str>,
    /// Where the instruction stands in the original, in bytes.
    pub instruction: Option<Range<usize>>,
    /// All that the user says in the original, in bytes: the instruction and any other sentences outside the code.
    pub said: Vec<Range<usize>>,
    /// Characters (Unicode scalar values) of the prompt as it came.
    pub original_chars: usize,
    /// Characters of the prompt as it is sent.
    pub final_chars: usize,
    /// Pieces the code was divided into; zero when it never was.
    pub chunks_total: usize,
    /// Pieces that were not copies of an earlier one.
    pub chunks_unique: usize,
    /// Pieces that are sent.
    pub chunks_kept: usize,
    /// What told the instruction from the code.
    pub rule: Rule,
    /// Tokens of the prompt as it came, counted or estimated; 0 when nobody asked.
    pub original_tokens: usize,
    /// Tokens of the prompt as it is sent; 0 when nobody asked.
    pub final_tokens: usize,
    /// Names of the definitions that the instruction names, and that are therefore sent.
    pub anchors: Vec<String>,
    /// Names of definitions that are not sent whole, up to 256 of them.
    pub dropped: Vec<String>,
    /// Lines left out because an earlier one says the same.
    pub duplicate_lines: usize,
    /// Seconds of reading that the server is spared.
    pub saved_s: f32,
    /// Bytes at the front of the prepared prompt that the session's next prompt may begin with as well.
    pub stable_bytes: usize,
    /// Lines looked at while searching copies: stays within a small multiple of the lines there are.
    pub work: usize,
    /// Microseconds that each [`Stage`] took; zeros where the request lent no [`crate::Clock`].
    pub stages_us: [u64; Stage::ALL.len()],
}

/// A stage of the `smart` preparation, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Dividing the text into lines and counting their tokens.
    Lines,
    /// Telling sentences, fences, file headers and code from each other.
    Zones,
    /// Dividing code into definitions, and reading identifiers.
    Units,
    /// Finding what is named and what stands there twice.
    Copies,
    /// Scoring units by what is asked.
    Rank,
    /// Choosing units and putting them together.
    Select,
    /// Repeating the instruction and checking what was promised.
    Finish,
}

impl Stage {
    /// Every stage, in order: places in [`Report::stages_us`].
    pub const ALL: [Self; 7] =
        [Self::Lines, Self::Zones, Self::Units, Self::Copies, Self::Rank, Self::Select, Self::Finish];

    /// Its name in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Zones => "zones",
            Self::Units => "units",
            Self::Copies => "copies",
            Self::Rank => "rank",
            Self::Select => "select",
            Self::Finish => "finish",
        }
    }
}

/// What told the instruction from the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A field of the call.
    Field,
    /// A marker line such as `# INSTRUCTION:`.
    Marker,
    /// Sentences outside the code.
    Prose,
    /// Nothing: the text is to be continued.
    Completion,
    /// Nobody looked.
    None,
}

impl Rule {
    /// Its name in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Field => "field",
            Self::Marker => "marker",
            Self::Prose => "prose",
            Self::Completion => "completion",
            Self::None => "none",
        }
    }
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
    /// Sent without what could be spared.
    Reduced,
    /// The saving was under the threshold: sent as it came.
    SavingTooSmall,
    /// Only copies of what is sent anyway were left out.
    Deduplicated,
    /// Prepared before: sent as it came.
    Prepared,
    /// The result would not have kept its promises: sent as it came.
    Doubtful,
    /// Too large or too odd to look at: sent as it came.
    Unfit,
    /// There were too few different pieces to choose from: sent as it came.
    NothingToChoose,
}

impl Outcome {
    /// Its name in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Short => "short",
            Self::InstructionFirst => "instruction_first",
            Self::Reduced => "reduced",
            Self::SavingTooSmall => "saving_too_small",
            Self::Deduplicated => "deduplicated",
            Self::Prepared => "prepared",
            Self::Doubtful => "doubtful",
            Self::Unfit => "unfit",
            Self::NothingToChoose => "nothing_to_choose",
        }
    }

    /// Whether the prompt goes out as it came.
    #[must_use]
    pub fn is_original(self) -> bool {
        !matches!(self, Self::InstructionFirst | Self::Reduced | Self::Deduplicated)
    }
}

impl Prepared {
    /// The original, and why.
    pub(crate) fn untouched(request: &Request<'_>, profile: Profile, why: Outcome) -> Self {
        Self { prompt: request.prompt.to_owned(), report: Report::new(request, profile, why) }
    }
}

impl Report {
    /// What the user says in `original`, the prompt that was prepared; "" where that is only code.
    #[must_use]
    pub fn request_of(&self, original: &str) -> String {
        let parts: Vec<&str> = self.said.iter().filter_map(|range| original.get(range.clone())).collect();
        parts.join("\n")
    }

    /// The report of a preparation that leaves the prompt as it came.
    pub(crate) fn new(request: &Request<'_>, profile: Profile, outcome: Outcome) -> Self {
        let chars = request.prompt.chars().count();
        Self {
            profile,
            outcome,
            language: request.detected.unwrap_or_else(|| language::identify(request.prompt, request.language)),
            marker: None,
            instruction: None,
            said: Vec::new(),
            original_chars: chars,
            final_chars: chars,
            chunks_total: 0,
            chunks_unique: 0,
            chunks_kept: 0,
            rule: Rule::None,
            original_tokens: 0,
            final_tokens: 0,
            anchors: Vec::new(),
            dropped: Vec::new(),
            duplicate_lines: 0,
            saved_s: 0.0,
            stable_bytes: 0,
            work: 0,
            stages_us: [0; Stage::ALL.len()],
        }
    }
}
