//! What a caller may ask for: the prompt, how to sample, when to stop, and the limits of one engine.
//!
//! Owns the shapes and the check of their ranges ([`Request::check`]). Never tokenises: only the model's thread can.

use std::fmt;
use std::time::Duration;

use crate::{SubmitError, Token};

/// How many requests an engine takes and how it divides its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests generated at the same time; each owns one sequence of the KV cache. At least 1.
    pub slots: usize,
    /// Requests that may wait for a slot. Beyond it `submit` answers `QueueFull` at once.
    pub queue: usize,
    /// Prompt tokens processed per step, over all slots together: the most by which somebody else's prompt delays a stream's next
    /// token. Larger is faster for prompts alone, smaller is smoother for the neighbours.
    pub chunk_tokens: usize,
    /// Host memory for prefixes that no slot holds any more, per model; 0 keeps none. Whoever starts the engine knows the machine.
    pub prefix_bytes: usize,
    /// The most tokens guessed ahead per step, over all slots together; 0 guesses none. Each costs a row of logits in memory.
    pub draft_tokens: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // Two slots suit two cores; 128 tokens keep a 1.5B model's step under a few seconds there.
        Self { slots: 2, queue: 4, chunk_tokens: 128, prefix_bytes: 0, draft_tokens: 32 }
    }
}

/// One piece of a prompt.
#[derive(Clone, PartialEq, Eq)]
pub enum Segment {
    /// Text of a user, in which `<|im_start|>` is twelve ordinary characters.
    Text(String),
    /// Text written by us (a chat template), in which `<|im_start|>` means the control token.
    Markup(String),
    /// A control token by what it is for, however this model writes it.
    Control(Control),
}

/// Control tokens for filling in the middle of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Before the text before the gap.
    InfillPrefix,
    /// Before the text after the gap.
    InfillSuffix,
    /// Before the text that fills the gap.
    InfillMiddle,
    /// Before the name of the repository.
    Repository,
    /// Before the name of a file.
    File,
}

impl Segment {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Markup(text) => text,
            Self::Control(_) => "",
        }
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Markup(text) => write!(f, "Markup({} bytes)", text.len()),
            Self::Control(control) => control.fmt(f),
        }
    }
}

/// A prompt as segments, so that a user's text cannot smuggle control tokens into it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    segments: Vec<Segment>,
}

impl Prompt {
    /// An empty prompt to append to.
    pub fn new() -> Self {
        Self::default()
    }

    /// A prompt of plain text in which nothing is a control token.
    pub fn plain(text: impl Into<String>) -> Self {
        Self::new().text(text)
    }

    /// Appends text of a user: never parsed for control tokens.
    #[must_use]
    pub fn text(self, text: impl Into<String>) -> Self {
        self.push(Segment::Text(text.into()))
    }

    /// Appends markup of a template: control tokens in it are recognised.
    #[must_use]
    pub fn markup(self, text: impl Into<String>) -> Self {
        self.push(Segment::Markup(text.into()))
    }

    /// Appends a control token. Only a model that has it takes the prompt (see `ModelInfo`).
    #[must_use]
    pub fn control(self, control: Control) -> Self {
        self.push(Segment::Control(control))
    }

    /// The segments in order; neighbouring texts of one kind have been joined, empty ones left out.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Length of all texts in bytes.
    pub fn len(&self) -> usize {
        self.segments.iter().map(|segment| segment.text().len()).sum()
    }

    /// True without any text or control token.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Everything of another prompt after this one.
    #[must_use]
    pub fn then(self, other: Self) -> Self {
        other.segments.into_iter().fold(self, Self::push)
    }

    // Joining matters: a tokenizer must not see a border where the text has none.
    fn push(mut self, segment: Segment) -> Self {
        match (self.segments.last_mut(), segment) {
            (_, Segment::Text(text) | Segment::Markup(text)) if text.is_empty() => {}
            (Some(Segment::Text(last)), Segment::Text(text)) => last.push_str(&text),
            (Some(Segment::Markup(last)), Segment::Markup(text)) => last.push_str(&text),
            (_, segment) => self.segments.push(segment),
        }
        self
    }
}

/// Mirostat in one of its two versions (arXiv 2007.14966), which replaces top-k, top-p, min-p and typical.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mirostat {
    /// 1 or 2.
    pub version: u8,
    /// Target surprise in bits (usually 5.0).
    pub tau: f32,
    /// Learning rate (usually 0.1).
    pub eta: f32,
}

/// How the next token is chosen. Temperature 0 means the most probable token, always.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 = greedy; up to 2.
    pub temperature: f32,
    /// Keep the k most probable tokens; 0 = off.
    pub top_k: u32,
    /// Keep the smallest set with this probability mass; 1 = off.
    pub top_p: f32,
    /// Drop tokens below this share of the best one's probability; 0 = off.
    pub min_p: f32,
    /// Locally typical sampling mass; 1 = off.
    pub typical_p: f32,
    /// Divides the logits of tokens seen within the window; 1 = off.
    pub repetition_penalty: f32,
    /// Subtracted per occurrence within the window; 0 = off.
    pub frequency_penalty: f32,
    /// Subtracted once if the token occurred within the window; 0 = off.
    pub presence_penalty: f32,
    /// How many of the last tokens, prompt included, the three penalties look at.
    pub penalty_window: u32,
    /// Mirostat instead of the truncating samplers.
    pub mirostat: Option<Mirostat>,
    /// Added to the logits of these tokens; minus infinity forbids one.
    pub logit_bias: Vec<(Token, f32)>,
    /// What the answer has to look like.
    pub grammar: Option<Grammar>,
}

/// The language of an answer.
#[derive(Clone, PartialEq, Eq)]
pub enum Grammar {
    /// llama.cpp's GBNF, beginning at the rule `root`.
    Gbnf(String),
    /// JSON that this schema (itself JSON) describes.
    JsonSchema(String),
}

impl fmt::Debug for Grammar {
    // It may quote what the answer is to say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gbnf(text) => write!(f, "Gbnf({} bytes)", text.len()),
            Self::JsonSchema(text) => write!(f, "JsonSchema({} bytes)", text.len()),
        }
    }
}

impl Sampling {
    /// The most probable token each time and nothing else: the same text for the same prompt.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, repetition_penalty: 1.0, ..Self::default() }
    }

    fn check(&self) -> Result<(), SubmitError> {
        within("temperature", self.temperature, 0.0, 2.0)?;
        within("top_p", self.top_p, 0.0, 1.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        within("typical_p", self.typical_p, 0.0, 1.0)?;
        within("repetition_penalty", self.repetition_penalty, 0.01, 10.0)?;
        within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        within("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        within("penalty_window", self.penalty_window as f32, 0.0, MAX_PENALTY_WINDOW as f32)?;
        within("logit_bias entries", self.logit_bias.len() as f32, 0.0, MAX_LOGIT_BIAS as f32)?;
        for &(_, bias) in self.logit_bias.iter().filter(|(_, bias)| *bias != f32::NEG_INFINITY) {
            within("logit_bias", bias, -100.0, 100.0)?;
        }
        let Some(mirostat) = self.mirostat else { return Ok(()) };
        within("mirostat version", f32::from(mirostat.version), 1.0, 2.0)?;
        within("mirostat tau", mirostat.tau, 0.0, 100.0)?;
        within("mirostat eta", mirostat.eta, 0.0, 1.0)
    }
}

impl Default for Sampling {
    // The product's defaults for code.
    fn default() -> Self {
        Self {
            temperature: 0.2,
            top_k: 50,
            top_p: 0.95,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.1,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            penalty_window: 64,
            mirostat: None,
            logit_bias: Vec::new(),
            grammar: None,
        }
    }
}

/// Who goes first where there is not enough for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Fills a cache for later. Computed only when nothing else is, and gives its slot up to whoever waits.
    WarmUp,
    /// An answer that somebody reads.
    #[default]
    Chat,
    /// A completion in an editor, for which somebody has stopped typing.
    Infill,
}

/// An adapter that a request asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterChoice {
    /// By its name.
    pub name: String,
    /// How much of it to add; `None` for as much as whoever loaded it said.
    pub scale: Option<f32>,
}

impl AdapterChoice {
    /// The adapter of this name, as it was loaded.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), scale: None }
    }
}

/// One generation to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What to continue.
    pub prompt: Prompt,
    /// The most tokens to generate; 0 processes the prompt (which warms the prefix cache) and generates nothing.
    pub max_tokens: u32,
    /// The same seed and prompt give the same text; `None` draws one.
    pub seed: Option<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Generation ends before the first of these; empty ones are ignored.
    pub stop: Vec<String>,
    /// Whether to tell how likely each token was, and beside how many of the likeliest.
    pub logprobs: Option<u8>,
    /// What is added to the model's weights for it.
    pub adapter: Option<AdapterChoice>,
    /// Its place in the queue and in a step.
    pub priority: Priority,
    /// The longest that it may wait for a slot.
    pub patience: Option<Duration>,
    /// Time for the prompt, from the slot on; after it the request ends with what is computed kept for the next.
    pub prompt_within: Option<Duration>,
    /// Time for the answer, from its first token on; after it the answer ends with the line.
    pub answer_within: Option<Duration>,
}

impl Request {
    /// A request with the product's defaults for code (512 tokens at temperature 0.2).
    pub fn new(prompt: Prompt) -> Self {
        Self {
            prompt,
            max_tokens: 512,
            seed: None,
            sampling: Sampling::default(),
            stop: Vec::new(),
            logprobs: None,
            adapter: None,
            priority: Priority::default(),
            patience: None,
            prompt_within: None,
            answer_within: None,
        }
    }

    /// Refuses values that llama.cpp would take as something else or that would cost unbounded memory.
    pub fn check(&self) -> Result<(), SubmitError> {
        within("stop entries", self.stop.len() as f32, 0.0, MAX_STOPS as f32)?;
        for stop in &self.stop {
            within("stop bytes", stop.len() as f32, 0.0, MAX_STOP_BYTES as f32)?;
        }
        if let Some(scale) = self.adapter.as_ref().and_then(|adapter| adapter.scale) {
            within("adapter scale", scale, -MAX_SCALE, MAX_SCALE)?;
        }
        self.sampling.check()
    }
}

fn within(field: &'static str, found: f32, lowest: f32, highest: f32) -> Result<(), SubmitError> {
    // Written so that NaN is refused too.
    match found >= lowest && found <= highest {
        true => Ok(()),
        false => Err(SubmitError::Invalid { field, found, lowest, highest }),
    }
}

/// Each generated token is compared with each stop string.
const MAX_STOPS: usize = 64;
/// Text is held back for as long as it could still become a stop string.
const MAX_STOP_BYTES: usize = 1024;
/// llama.cpp allocates a ring buffer of this many tokens per request.
const MAX_PENALTY_WINDOW: u32 = 32_768;
/// More than a few times what it was trained for makes noise of every adapter.
const MAX_SCALE: f32 = 10.0;
/// Applied to every token's logits.
const MAX_LOGIT_BIAS: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_segments_of_one_kind_are_joined() {
        let prompt = Prompt::plain("a").text("b").text("").markup("<x>").markup("<y>").text("c");
        let (text, markup) = (|text: &str| Segment::Text(text.into()), |text: &str| Segment::Markup(text.into()));
        assert_eq!(prompt.segments(), [text("ab"), markup("<x><y>"), text("c")]);
        assert_eq!(prompt.len(), 9);
    }

    #[test]
    fn debug_output_shows_lengths_and_no_content() {
        let printed = format!("{:?}", Request::new(Prompt::plain("secret")));
        assert!(!printed.contains("secret") && printed.contains("6 bytes"), "{printed}");
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        type Change = fn(&mut Request);
        let cases: [(&str, Change); 9] = [
            ("temperature", |r| r.sampling.temperature = 3.0),
            ("temperature", |r| r.sampling.temperature = f32::NAN),
            ("top_p", |r| r.sampling.top_p = -0.1),
            ("repetition_penalty", |r| r.sampling.repetition_penalty = 0.0),
            ("mirostat version", |r| r.sampling.mirostat = Some(Mirostat { version: 3, tau: 5.0, eta: 0.1 })),
            ("logit_bias", |r| r.sampling.logit_bias = vec![(Token(1), f32::NAN)]),
            ("logit_bias", |r| r.sampling.logit_bias = vec![(Token(1), f32::INFINITY)]),
            ("adapter scale", |r| r.adapter = Some(AdapterChoice { name: "a".into(), scale: Some(f32::NAN) })),
            ("stop bytes", |r| r.stop = vec!["x".repeat(2000)]),
        ];
        for (expected, change) in cases {
            let mut request = Request::new(Prompt::plain("x"));
            assert_eq!(request.check(), Ok(()));
            change(&mut request);
            assert!(
                matches!(request.check(), Err(SubmitError::Invalid { field, .. }) if field == expected),
                "{expected}"
            );
        }
    }

    #[test]
    fn minus_infinity_forbids_a_token() {
        let mut request = Request::new(Prompt::plain("x"));
        request.sampling.logit_bias = vec![(Token(1), f32::NEG_INFINITY)];
        assert_eq!(request.check(), Ok(()));
    }
}
