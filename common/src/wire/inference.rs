//! What appliance and server say to each other, version 1: one [`InferenceRequest`], then [`InferenceEvent`]s until
//! `Done` or `Error`.
//!
//! The types are plain serde (no `flatten`, no `skip_serializing_if`): postcard is not self-describing, and
//! `tests/wire_golden.rs` holds their exact bytes. A change to any of them is a new wire version.

use http::HeaderName;
use serde::{Deserialize, Serialize};

use super::Text;
use super::details::TokenLogprob;

/// One generation asked of an inference server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InferenceRequest {
    /// Name of the model; empty asks for the server's default.
    pub model: String,
    /// The prompt as the model shall read it. Control tokens in it are plain text.
    pub prompt: Text,
    /// Most tokens to generate.
    pub max_tokens: u32,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Generation ends before any of these strings.
    pub stop: Vec<Text>,
}

/// How tokens are chosen. Field names and ranges are those of the public HTTP interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 picks the likeliest token; up to 2.
    pub temperature: f32,
    /// Keep the smallest set of tokens with this probability mass, 0 < p <= 1 (1 = off).
    pub top_p: f32,
    /// Keep this many likeliest tokens (0 = off).
    pub top_k: u32,
    /// Drop tokens less likely than this fraction of the likeliest, 0 <= p <= 1 (0 = off).
    pub min_p: f32,
    /// Locally typical sampling, 0 < p <= 1 (1 = off).
    pub typical_p: f32,
    /// Penalty on repeated tokens, 1 = off, up to 2.
    pub repetition_penalty: f32,
    /// OpenAI's frequency penalty, -2..2.
    pub frequency_penalty: f32,
    /// OpenAI's presence penalty, -2..2.
    pub presence_penalty: f32,
    /// 0 = off, 1 or 2: the version of mirostat, which then replaces top-k, top-p and typical.
    pub mirostat: u8,
    /// Mirostat's target entropy.
    pub mirostat_tau: f32,
    /// Mirostat's learning rate.
    pub mirostat_eta: f32,
    /// The same seed gives the same text; absent draws one.
    pub seed: Option<u32>,
    /// Added to the logit of a token, -100..100.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Default for Sampling {
    /// The product's defaults for code.
    fn default() -> Self {
        Self {
            temperature: 0.2,
            top_p: 0.95,
            top_k: 50,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.1,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            mirostat: 0,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            seed: None,
            logit_bias: Vec::new(),
        }
    }
}

/// One step of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum InferenceEvent {
    /// The model is being read from disk: thousandths done.
    Loading {
        /// 0 to 1000.
        permille: u16,
    },
    /// The prompt is being read.
    Progress {
        /// Prompt tokens in the KV cache so far.
        processed: u32,
        /// Prompt tokens in all.
        total: u32,
    },
    /// Generated text; never a part of a UTF-8 character.
    Token {
        /// The new text.
        text: Text,
        /// Tokens generated so far, this one included.
        total_tokens: u32,
    },
    /// The end of a complete answer.
    Done(Completion),
    /// The end of a failed one.
    Error(Failure),
    /// How likely the tokens of the next text are; only for who asked ([`super::Details::logprobs`]).
    Logprobs(Vec<TokenLogprob>),
    /// What a model says to itself before it answers, where a service tells it apart. Servers of ours do not send it.
    Reasoning {
        /// The new text.
        text: Text,
        /// As in [`Self::Token`].
        total_tokens: u32,
    },
    /// The stop string that ended the answer, right before [`Self::Done`]; only for who asked ([`TELL_STOP`]).
    StopString(Text),
    /// A part of a call of a tool, as it comes. Only services send it, which tell their calls apart from their text; a server of ours
    /// sends what its model writes, markup and all.
    ToolCall {
        /// Which call of the answer, from 0 on.
        index: u32,
        /// In the call's first part, and in no other.
        begins: Option<CallBegin>,
        /// The next piece of its arguments: together they are the JSON that the model wrote, whole and valid or not.
        arguments: Text,
        /// As in [`Self::Token`].
        total_tokens: u32,
    },
    /// Why the model will not answer, where a service tells it apart. Servers of ours do not send it.
    Refusal {
        /// The new text.
        text: Text,
        /// As in [`Self::Token`].
        total_tokens: u32,
    },
}

/// What a call of a tool begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallBegin {
    /// The service's own, by which the result will refer to the call.
    pub id: Text,
    /// The tool.
    pub name: Text,
}

/// On a request: tell which stop string ended the answer. A header, since a server that is too old for it passes it over.
pub const TELL_STOP: HeaderName = HeaderName::from_static("x-cerebrum-tell-stop");

impl InferenceEvent {
    /// Whether nothing follows this event.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Error(_))
    }
}

/// What a finished generation was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The model that wrote it.
    pub model: String,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens read and written.
    pub usage: Usage,
    /// Microseconds spent waiting for a slot and reading the prompt.
    pub prefill_us: u64,
    /// Microseconds spent writing.
    pub decode_us: u64,
    /// What the server changed in the request, as sentences.
    pub warnings: Vec<String>,
}

/// Why a generation ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finish {
    /// The model ended its turn, or a stop string was met.
    Stop,
    /// `max_tokens` or the context was used up.
    Length,
    /// The model waits for what its calls of tools give. Only services say so.
    ToolCalls,
    /// The service's filter kept back what the model wrote. Only services say so.
    ContentFilter,
}

impl Finish {
    /// The name OpenAI's clients know it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
        }
    }
}

/// Tokens read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Those of them that were already in the KV cache.
    pub cached_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
}

/// Why there is no (complete) answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For programs.
    pub code: FailureCode,
    /// For people: what was found, what was expected, how to mend it.
    pub message: String,
    /// When trying again makes sense.
    pub retry_after_ms: Option<u32>,
}

/// What a failure's message begins with where the words are an upstream's.
const QUOTED: &str = "inference server: ";

impl Failure {
    /// The same, with the message marked as an upstream's words, which may quote the prompt.
    #[must_use]
    pub fn quoted(self) -> Self {
        match self.message.starts_with(QUOTED) {
            true => self,
            false => Self { message: format!("{QUOTED}{}", self.message), ..self },
        }
    }

    /// What a log may say of it: our own sentence, but of an upstream's words only what kind of failure they told.
    #[must_use]
    pub fn for_log(&self) -> String {
        match self.message.starts_with(QUOTED) {
            true => format!("{QUOTED}{}", self.code.as_str()),
            false => self.message.clone(),
        }
    }
}

/// Kinds of failure that a caller treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureCode {
    /// The request cannot be carried out as it is.
    BadRequest,
    /// The prompt does not fit the model's context.
    ContextOverflow,
    /// No such model.
    UnknownModel,
    /// Every slot and queue place is taken.
    Busy,
    /// The machine has no memory or processor to spare.
    Overloaded,
    /// The model's file cannot be loaded.
    LoadFailed,
    /// The server is shutting down.
    Stopping,
    /// The connection to the server broke before the answer was complete.
    LinkLost,
    /// No event came within the deadline.
    Timeout,
    /// A fault of the server itself.
    Internal,
}

impl FailureCode {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::BadRequest,
        Self::ContextOverflow,
        Self::UnknownModel,
        Self::Busy,
        Self::Overloaded,
        Self::LoadFailed,
        Self::Stopping,
        Self::LinkLost,
        Self::Timeout,
        Self::Internal,
    ];

    /// The kind of that name, as [`Self::as_str`] gives it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }

    /// The name used in JSON answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::ContextOverflow => "context_length_exceeded",
            Self::UnknownModel => "model_not_found",
            Self::Busy => "busy",
            Self::Overloaded => "overloaded",
            Self::LoadFailed => "model_load_failed",
            Self::Stopping => "stopping",
            Self::LinkLost => "upstream_lost",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
        }
    }
}
