//! What a request may ask beyond [`super::InferenceRequest`]: a chat or a gap instead of a prompt, the shape of the answer,
//! log-probabilities, urgency. It travels as a second frame behind the request, and only when it says something: a request of
//! the first kind is, byte for byte, what it always was, and a server too old for the second frame refuses it by name.

use serde::{Deserialize, Serialize};

use super::Text;
use super::extras::Extras;

/// The second frame of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// What is to be continued; the request's own prompt is empty unless this is [`Input::Prompt`].
    pub input: Input,
    /// What the answer has to look like.
    pub constraint: Constraint,
    /// Log-probabilities of each token, beside so many alternatives.
    pub logprobs: Option<u8>,
    /// Who goes first.
    pub urgency: Urgency,
    /// Milliseconds for reading the prompt; 0 sets no limit.
    pub prompt_within_ms: u32,
    /// Milliseconds for writing the answer; 0 sets no limit.
    pub answer_within_ms: u32,
    /// What travels in a frame of its own, behind this one.
    #[serde(skip)]
    pub extras: Extras,
}

impl Details {
    /// Whether the first frame of the request says it all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a model is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// The request's prompt, as it is.
    #[default]
    Prompt,
    /// A conversation, written by the model's own template.
    Chat(Chat),
    /// A gap in a file.
    Infill(Infill),
}

/// A conversation as OpenAI's clients send it. The parts stay JSON: templates read fields that no type of ours knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chat {
    /// A JSON list of messages.
    pub messages: Text,
    /// A JSON list of tools; empty for none.
    pub tools: Text,
    /// A JSON object of further variables of the template; empty for none.
    pub variables: Text,
}

/// A gap in a file, with what is around it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Infill {
    /// The file before the gap.
    pub prefix: Text,
    /// The file after the gap.
    pub suffix: Text,
    /// Other files or pieces of them, the most telling last.
    pub extra: Vec<Extra>,
    /// What the answer has to begin with: already typed, but not in the file.
    pub prompt: Text,
}

/// Another file, or a piece of one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Extra {
    /// Its name.
    pub filename: String,
    /// Its text.
    pub text: Text,
}

/// What an answer has to look like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Constraint {
    /// Anything.
    #[default]
    Free,
    /// llama.cpp's GBNF, beginning at the rule `root`.
    Grammar(Text),
    /// JSON that this schema (itself JSON) describes; `{}` describes any.
    JsonSchema(Text),
}

/// Who goes first where there is not enough for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Urgency {
    /// An answer that somebody reads.
    #[default]
    Chat,
    /// A completion in an editor, for which somebody has stopped typing.
    Infill,
    /// Fills a cache for later: after everybody else.
    WarmUp,
}

/// How likely a token was, and what else could have stood there.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// The token's bytes; not necessarily whole characters.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens there, the first the likeliest.
    pub top: Vec<(Vec<u8>, f32)>,
}

impl std::fmt::Debug for TokenLogprob {
    // An answer, token by token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{} bytes, {} alternatives>", self.bytes.len(), self.top.len())
    }
}
