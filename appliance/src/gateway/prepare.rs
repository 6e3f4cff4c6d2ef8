//! From bytes to a request worth sending: reads the body within its limits, checks it, finds the language and the model,
//! and has the prompt prepared.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::serve::Refusal;
use cerebrum_common::wire::InferenceRequest;
use cerebrum_common::wire::details::{Chat, Infill, Input};
use cerebrum_common::wire::dialect::{self, Call, Dialect};
use cerebrum_common::wire::native::Limits;
use cerebrum_prompt::{Message, PreparedChat, PreparedInfill, Profile, Report, Request, Role};
use serde_json::Value;

use super::Gateway;
use super::admit::{Admitted, Permit};
use super::pipeline::{Body, Delivery};
use crate::settings::Settings;

/// What preparing needs to know.
#[derive(Clone, Debug)]
pub(super) struct Preparation {
    tokens: Limits,
    settings: Arc<cerebrum_prompt::Settings>,
}

/// A request that is ready to be sent.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Its place, held until the answer ends.
    pub(super) permit: Arc<Permit>,
    pub(super) ready: Ready,
    /// What its answer is to be remembered under.
    pub(super) remember: Option<[u8; 32]>,
}

/// What is sent, and what was done to it.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    /// What is asked for, how the answer is wanted, and what was changed in it, as sentences.
    pub(super) call: Call,
    /// The code's language, given or detected.
    pub(super) language: String,
    /// What preparation did.
    pub(super) report: Report,
}

impl Prepared {
    /// The same for another answer, in the same place.
    pub(super) fn numbered(&self, number: u32) -> Self {
        let ready = Ready { call: self.ready.call.numbered(number), ..self.ready.clone() };
        Self { permit: self.permit.clone(), ready, remember: None }
    }
}

/// Prompts from this size on, in bytes, are prepared off the thread that serves everybody else.
const LARGE_PROMPT: usize = 64 << 10;

impl Preparation {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { tokens: settings.tokens, settings: Arc::new(settings.prompt.clone()) }
    }

    /// Checks and prepares a body, with `profile` instead of the settings' where one is given; large ones off the thread
    /// that serves everybody else.
    ///
    /// # Errors
    /// Everything wrong with the body.
    pub(super) async fn run(&self, dialect: Dialect, bytes: Bytes, profile: Option<Profile>) -> Result<Ready, Refusal> {
        let mut own = self.clone();
        if let Some(profile) = profile {
            let settings = (*own.settings).clone();
            own.settings = Arc::new(cerebrum_prompt::Settings { profile, ..settings });
        }
        let large = bytes.len() >= LARGE_PROMPT;
        let work = move || Ok(own.prepare(dialect::read(dialect, &bytes, own.tokens)?));
        if large { off_thread(work).await } else { work() }
    }

    fn prepare(&self, mut call: Call) -> Ready {
        let given = call.language.take();
        let report = match &mut call.details.input {
            Input::Prompt => self.prompt(&mut call.request, given.as_deref()),
            Input::Chat(chat) => self.chat(chat, given.as_deref()),
            Input::Infill(gap) => self.infill(gap, given.as_deref()),
        };
        // A language we do not know is still the client's word, and may have a model of its own.
        let language = given.unwrap_or_else(|| report.language.name().to_owned());
        if call.request.model.is_empty() {
            call.request.model = self.settings.languages.model_for(Some(&language)).to_owned();
        }
        Ready { call, language, report }
    }

    fn prompt(&self, request: &mut InferenceRequest, language: Option<&str>) -> Report {
        let asked = Request { language, ..Request::new(&request.prompt) };
        let prepared = cerebrum_prompt::prepare_request(&asked, &self.settings);
        request.prompt = prepared.prompt.into();
        prepared.report
    }

    fn infill(&self, gap: &mut Infill, language: Option<&str>) -> Report {
        let asked = Request { language, ..Request::new(&gap.prefix) };
        let PreparedInfill { prefix, suffix, report } =
            cerebrum_prompt::prepare_infill(&asked, &gap.suffix, &self.settings);
        (gap.prefix, gap.suffix) = (prefix.into(), suffix.into_owned().into());
        report
    }

    /// Shortens long texts of users; everything else goes out as it came, byte for byte.
    fn chat(&self, chat: &mut Chat, language: Option<&str>) -> Report {
        let mut messages: Vec<Value> = serde_json::from_str(&chat.messages).unwrap_or_default();
        let (texts, report) = {
            let seen: Vec<Message<'_>> = messages.iter().map(message).collect();
            let last = seen.iter().rev().find(|message| message.role == Role::User).and_then(|message| message.text);
            let limits = Request { language, ..Request::new(last.unwrap_or_default()) };
            let prepared = cerebrum_prompt::prepare_chat(&seen, &limits, &self.settings);
            let report = account(&seen, &prepared, &limits);
            let changed = |text: Option<Cow<'_, str>>| match text {
                Some(Cow::Owned(text)) => Some(text),
                _ => None,
            };
            (prepared.texts.into_iter().map(changed).collect::<Vec<_>>(), report)
        };
        if texts.iter().any(Option::is_some) {
            for (message, text) in messages.iter_mut().zip(texts) {
                if let (Some(text), Some(place)) = (text, text_of(message)) {
                    *place = text;
                }
            }
            chat.messages = Value::Array(messages).to_string().into();
        }
        report
    }
}

/// A message as preparation sees it.
fn message(message: &Value) -> Message<'_> {
    let role = match message.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("assistant") => Role::Assistant,
        Some("tool" | "function") => Role::Tool,
        _ => Role::User,
    };
    let text = match message.get("content") {
        Some(Value::String(text)) => Some(text.as_str()),
        Some(Value::Array(parts)) => match parts.as_slice() {
            [only] => only.get("text").and_then(Value::as_str),
            _ => None,
        },
        _ => None,
    };
    Message { role, text }
}

/// Where that text stands.
fn text_of(message: &mut Value) -> Option<&mut String> {
    let place = match message.get_mut("content")? {
        Value::Array(parts) => parts.first_mut()?.get_mut("text")?,
        content => content,
    };
    match place {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// One account of all messages: what was done with the last that was looked at, and the sizes of all.
fn account(seen: &[Message<'_>], prepared: &PreparedChat<'_>, limits: &Request<'_>) -> Report {
    let off = cerebrum_prompt::Settings { profile: Profile::Off, ..Default::default() };
    let untouched = || cerebrum_prompt::prepare_request(limits, &off).report;
    let mut report = prepared.reports.last().map_or_else(untouched, |(_, report)| report.clone());
    let chars = |text: Option<&str>| text.map_or(0, |text| text.chars().count());
    report.original_chars = seen.iter().map(|message| chars(message.text)).sum();
    report.final_chars = prepared.texts.iter().map(|text| chars(text.as_deref())).sum();
    report.saved_s = prepared.reports.iter().map(|(_, report)| report.saved_s).sum();
    report
}

/// Reads, checks and prepares one request.
///
/// # Errors
/// Everything wrong with the body.
pub(super) async fn prepare(
    gateway: &Gateway,
    admitted: Admitted,
    delivery: Delivery,
    body: &mut Body,
) -> Result<Prepared, Refusal> {
    let bytes = body.collect(&gateway.limits).await?;
    let mut ready = gateway.preparation.run(delivery.dialect(), bytes, None).await?;
    ready.call.reply.stream |= delivery == Delivery::Stream;
    Ok(Prepared { permit: Arc::new(admitted.permit), ready, remember: None })
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let busy = || Refusal::Busy { who: "preparation", retry_after: Duration::from_secs(1) };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(busy()))
}
