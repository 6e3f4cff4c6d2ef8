//! The calls of other people's clients: OpenAI's, Anthropic's, llama.cpp's. Both programs read them into a [`Call`] and write
//! their answers with a [`Speaker`]; what lies between knows none of them.

pub mod anthropic;
pub mod infill;
pub mod openai;
mod tools;

use std::borrow::Cow;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::tools::ToolChoice;
use super::details::{Input, TokenLogprob};
use super::extras::Extras;
use super::json::JsonError;
use super::native::{Generate, Hints, Limits};
use super::{CallBegin, Completion, Details, Failure, InferenceEvent, InferenceRequest, Text, Usage, sse};

/// Whose words a call and its answer are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Our own.
    Native,
    /// OpenAI's `/v1/chat/completions`.
    Chat,
    /// OpenAI's `/v1/completions`.
    Completions,
    /// Anthropic's `/v1/messages`.
    Messages,
    /// llama.cpp's `/infill`.
    Infill,
}

impl Dialect {
    /// Whose words an answer at `path` is expected in, also where nothing is there: OpenAI's clients show nothing of an error in
    /// other words than theirs.
    pub fn of_path(path: &str) -> Self {
        let (public, below) =
            path.strip_prefix("/v1/").map_or((false, path.trim_start_matches('/')), |below| (true, below));
        match below.split('/').next().unwrap_or_default() {
            "messages" if public => Self::Messages,
            "infill" => Self::Infill,
            "chat" | "completions" | "embeddings" | "models" => Self::Chat,
            "answers" | "board" | "cleanup" | "complete" | "events" | "inference" | "pair" | "prepare" | "stats"
            | "unload" | "vps" => Self::Native,
            _ if public => Self::Chat,
            _ => Self::Native,
        }
    }
}

/// A call that has been read.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is asked for; its prompt is empty unless [`Details::input`] says otherwise.
    pub request: InferenceRequest,
    /// The rest of it.
    pub details: Details,
    /// What the client says beside it.
    pub hints: Hints,
    /// What was changed in the request, as sentences.
    pub warnings: Vec<String>,
    /// How the answer is wanted.
    pub reply: Reply,
    /// What services are told as the client said it.
    pub said: Said,
}

/// What a client says that travels in no frame: services get it in the client's words, a server of ours by
/// [`Call::own_details`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// Whether tools are to be called.
    pub tool_choice: ToolChoice,
    /// Whether several may be called at once.
    pub parallel_tool_calls: Option<bool>,
    /// How long a reasoning model may think: a word, `low` or `high` for instance.
    pub reasoning_effort: Option<String>,
    /// What OpenAI's own service does not know, where the client gave it.
    pub top_k: Option<u32>,
    /// The same.
    pub min_p: Option<f32>,
    /// What the schema of the answer goes by, where the client gave one.
    pub schema: Option<SchemaLabel>,
}

/// What a client says of its answer's schema beside the schema itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SchemaLabel {
    /// Its name.
    pub name: Option<Text>,
    /// What it is for.
    pub description: Option<Text>,
    /// Whether the answer has to follow it to the letter.
    pub strict: Option<bool>,
}

impl Said {
    /// What of it the body's first part has.
    fn of(generate: &Generate) -> Self {
        Self { top_k: generate.top_k, min_p: generate.min_p, ..Self::default() }
    }
}

impl Call {
    /// The details for a server of ours: a call that has to come is a grammar there, and the effort a variable of the template.
    pub fn own_details(&self) -> Cow<'_, Details> {
        let Input::Chat(chat) = &self.details.input else { return Cow::Borrowed(&self.details) };
        let forced = tools::forced(&chat.tools, &self.said.tool_choice);
        if forced.is_none() && self.said.reasoning_effort.is_none() {
            return Cow::Borrowed(&self.details);
        }
        let mut details = self.details.clone();
        if let (Some(effort), Input::Chat(chat)) = (&self.said.reasoning_effort, &mut details.input) {
            let mut variables: Map<String, Value> = serde_json::from_str(&chat.variables).unwrap_or_default();
            variables.entry("reasoning_effort").or_insert_with(|| effort.as_str().into());
            chat.variables = Value::Object(variables).to_string().into();
        }
        details.constraint = forced.unwrap_or(details.constraint);
        Cow::Owned(details)
    }

    /// The same for another answer: a given seed is followed by its neighbours, or all answers would be one.
    #[must_use]
    pub fn numbered(mut self, number: u32) -> Self {
        self.request.sampling.seed = self.request.sampling.seed.map(|seed| seed.wrapping_add(number));
        self
    }
}

/// How an answer is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// In whose words.
    pub dialect: Dialect,
    /// Event by event.
    pub stream: bool,
    /// With the tokens counted at the end of a stream.
    pub usage: bool,
    /// With progress as events, not only as comments.
    pub progress: bool,
    /// Tools may be called in it.
    pub tools: bool,
    /// Nothing but a call is wanted.
    pub forced: bool,
    /// With what the model says to itself ([`Dialect::Messages`], whose clients have to ask for it).
    pub thinking: bool,
    /// With the stop string that ended it.
    pub stop_string: bool,
    /// How many answers.
    pub choices: u32,
    /// What of the answer is wanted, flat ([`Dialect::Infill`]).
    pub fields: Option<Vec<String>>,
}

impl Reply {
    /// One answer in one piece.
    pub fn whole(dialect: Dialect) -> Self {
        Self {
            dialect,
            stream: false,
            usage: false,
            progress: false,
            tools: false,
            forced: false,
            thinking: false,
            stop_string: false,
            choices: 1,
            fields: None,
        }
    }
}

/// Reads a body in the words of `dialect`.
///
/// # Errors
/// What is wrong with it, by field.
pub fn read(dialect: Dialect, body: &[u8], limits: Limits) -> Result<Call, JsonError> {
    let mut call = match dialect {
        Dialect::Native => native(body, limits),
        Dialect::Chat => openai::chat(body, limits),
        Dialect::Completions => openai::completions(body, limits),
        Dialect::Messages => anthropic::messages(body, limits),
        Dialect::Infill => infill::read(body, limits),
    }?;
    call.details.extras = Extras::read(body)?;
    Ok(call)
}

fn native(body: &[u8], limits: Limits) -> Result<Call, JsonError> {
    let generate: Generate = super::json::parse(body)?;
    let reply = Reply { progress: generate.progress, ..Reply::whole(Dialect::Native) };
    let (hints, said) = (generate.hints(), Said::of(&generate));
    let (request, warnings) = generate.into_request(limits)?;
    Ok(Call { request, details: Details::default(), hints, warnings, reply, said })
}

/// A whole answer.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    /// Its text.
    pub text: String,
    /// What the model said to itself before.
    pub reasoning: String,
    /// Its tokens, where they were asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// The stop string that ended it, where that is known.
    pub stop_string: Option<Text>,
    /// Its calls of tools come apart from its text, which is no place to look for any ([`Speaker::calls_apart`]).
    pub calls_apart: bool,
    /// Those calls.
    pub calls: Vec<ToolCall>,
    /// Why the model will not answer.
    pub refusal: String,
}

impl Collected {
    /// What is to be shown to who has but one place for it.
    pub fn said(&self) -> Cow<'_, str> {
        match self.refusal.is_empty() {
            true => Cow::Borrowed(&self.text),
            false => Cow::Owned(format!("{}{}", self.text, self.refusal)),
        }
    }

    /// Takes what an event adds.
    pub fn take(&mut self, event: InferenceEvent) {
        match event {
            InferenceEvent::Token { text, .. } => self.text.push_str(&text),
            InferenceEvent::Reasoning { text, .. } => self.reasoning.push_str(&text),
            InferenceEvent::Logprobs(mut tokens) => self.logprobs.append(&mut tokens),
            InferenceEvent::StopString(text) => self.stop_string = Some(text),
            InferenceEvent::Refusal { text, .. } => self.refusal.push_str(&text),
            InferenceEvent::ToolCall { index, begins, arguments, .. } => self.call(index, begins, &arguments),
            InferenceEvent::Loading { .. }
            | InferenceEvent::Progress { .. }
            | InferenceEvent::Done(_)
            | InferenceEvent::Error(_) => {}
        }
    }

    fn call(&mut self, index: u32, begins: Option<CallBegin>, arguments: &str) {
        if let Some(CallBegin { id, name }) = begins {
            let (id, name) = (id.into_inner(), name.into_inner());
            self.calls.push(ToolCall { id, name, arguments: String::new() });
        }
        // They are numbered as they begin.
        if let Some(call) = self.calls.get_mut(index as usize) {
            call.arguments.push_str(arguments);
        }
    }
}

/// A call of a tool, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// By which its result will refer to it.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments: JSON as the model wrote it, valid or not.
    pub arguments: String,
}

/// Who answers: what stays the same from the first event to the last.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Unique; also the request's id.
    pub id: String,
    /// Seconds since 1970.
    pub created: i64,
    /// The model's name as the client knows it.
    pub model: String,
    /// Tokens of the prompt, as far as they are known when the answer begins.
    pub prompt_tokens: u32,
}

impl Identity {
    /// For an answer that begins now.
    pub fn now(id: impl std::fmt::Display, model: &str) -> Self {
        let created = jiff::Timestamp::now().as_second();
        Self { id: id.to_string(), created, model: model.to_owned(), prompt_tokens: 0 }
    }
}

/// A whole answer as its document.
pub fn document(identity: &Identity, reply: &Reply, choices: &[(Collected, Completion)]) -> Value {
    let Some((answer, completion)) = choices.first() else { return Value::Null };
    match reply.dialect {
        Dialect::Native | Dialect::Chat | Dialect::Completions => openai::document(identity, reply, choices),
        Dialect::Messages => anthropic::document(identity, reply, answer, completion),
        Dialect::Infill => infill::document(&answer.text, completion, reply.fields.as_deref()),
    }
}

/// Writes a stream of events in the client's words.
#[derive(Debug)]
pub enum Speaker {
    /// OpenAI's.
    OpenAi(openai::Speaker),
    /// Anthropic's.
    Messages(anthropic::Speaker),
    /// llama.cpp's.
    Infill,
}

impl Speaker {
    /// For one stream; none for our own words, which each program writes itself.
    pub fn new(identity: impl FnOnce() -> Identity, reply: &Reply) -> Option<Self> {
        match reply.dialect {
            Dialect::Native => None,
            Dialect::Chat | Dialect::Completions => Some(Self::OpenAi(openai::Speaker::new(identity(), reply))),
            Dialect::Messages => Some(Self::Messages(anthropic::Speaker::new(identity(), reply))),
            Dialect::Infill => Some(Self::Infill),
        }
    }

    /// The answer that begins now is, or is not, one whose calls of tools come apart from its text: a service's text is passed on
    /// as it is, while a server of ours sends what its model writes, calls and all.
    pub fn calls_apart(&mut self, apart: bool) {
        match self {
            Self::OpenAi(speaker) => speaker.calls_apart(apart),
            Self::Messages(speaker) => speaker.calls_apart(apart),
            Self::Infill => {}
        }
    }

    /// Writes an event.
    pub fn write(&mut self, event: &InferenceEvent, out: &mut BytesMut) {
        if let InferenceEvent::Token { text, .. } = event
            && text.is_empty()
        {
            return sse::write_comment("heartbeat", out);
        }
        if let Some(progress) = super::native::progress(event) {
            sse::write_comment(&format!("progress {:.2}", progress.progress), out);
        }
        match self {
            Self::OpenAi(speaker) => speaker.write(event, out),
            Self::Messages(speaker) => speaker.write(event, out),
            Self::Infill => infill::write(event, out),
        }
    }
}

/// `{"error":{..}}` as clients of `dialect` expect it; none in our own words.
pub fn error(dialect: Dialect, status: u16, failure: &Problem<'_>) -> Option<Value> {
    match dialect {
        Dialect::Native => None,
        Dialect::Chat | Dialect::Completions | Dialect::Infill => Some(openai::error(status, failure)),
        Dialect::Messages => Some(anthropic::error(status, failure)),
    }
}

/// What went wrong.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// Short name for programs.
    pub code: &'a str,
    /// The sentence for a person.
    pub message: &'a str,
    /// The field at fault, if one is.
    pub field: Option<&'a str>,
}

impl<'a> From<&'a Failure> for Problem<'a> {
    fn from(failure: &'a Failure) -> Self {
        Self { code: failure.code.as_str(), message: &failure.message, field: None }
    }
}

fn openai_usage(usage: Usage) -> Value {
    serde_json::json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_whose_words_are_expected() {
        let paths = [
            ("/v1/models", Dialect::Chat),
            ("/models/a", Dialect::Chat),
            ("/v1/responses", Dialect::Chat),
            ("/v1/messages/count_tokens", Dialect::Messages),
            ("/infill", Dialect::Infill),
            ("/v1/complete/stream", Dialect::Native),
            ("/v1/vps/health", Dialect::Native),
            ("/health", Dialect::Native),
            ("/nowhere", Dialect::Native),
            ("/", Dialect::Native),
        ];
        for (path, dialect) in paths {
            assert_eq!(Dialect::of_path(path), dialect, "{path}");
        }
    }
}
