//! Bodies of inference requests: JSON in the words of several kinds of client, or postcard frames.

use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::serve::Refusal;
use cerebrum_common::wire::details::{Constraint, Input, Urgency};
use cerebrum_common::wire::dialect::{self, Call, Dialect, Reply, Said};
use cerebrum_common::wire::extras::Adapter;
use cerebrum_common::wire::frame::{self, FrameError};
use cerebrum_common::wire::native::{Hints, Limits as TokenLimits};
use cerebrum_common::wire::{Details, InferenceRequest, Sampling, Text, json};
use cerebrum_engine::{self as engine, AdapterChoice, Grammar, Mirostat, Priority, Prompt, Token};
use http::{HeaderMap, header};
use serde::Deserialize;

use super::routes::Delivery;

/// What is spoken in a request and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// JSON in; JSON or server-sent events out.
    Json,
    /// Postcard frames both ways.
    Frames,
}

/// What the answer has to look like, in our own words; other dialects have words of theirs.
#[derive(Deserialize)]
struct Shape {
    grammar: Option<Text>,
    json_schema: Option<serde_json::Value>,
}

impl Shape {
    fn constraint(self) -> Result<Constraint, Refusal> {
        let both = "grammar: found json_schema too, expected one of them".to_owned();
        match (self.grammar, self.json_schema) {
            (Some(_), Some(_)) => Err(Refusal::BadRequest { field: Some("grammar".to_owned()), message: both }),
            (Some(text), None) => Ok(Constraint::Grammar(text)),
            (None, Some(schema)) => Ok(Constraint::JsonSchema(schema.to_string().into())),
            (None, None) => Ok(Constraint::Free),
        }
    }
}

/// The format a request asks for.
///
/// # Errors
/// [`Refusal::Unsupported`] for frames of another version.
pub(super) fn format(headers: &HeaderMap) -> Result<Format, Refusal> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match content_type.strip_prefix(frame::MEDIA_TYPE_FAMILY) {
        Some(_) if content_type == frame::MEDIA_TYPE => Ok(Format::Frames),
        Some(rest) => Err(Refusal::Unsupported { message: foreign(rest) }),
        None => Ok(Format::Json),
    }
}

fn foreign(rest: &str) -> String {
    let version = rest.split('+').next().and_then(|version| version.parse().ok());
    match version {
        Some(found) => FrameError::Version { found }.to_string(),
        None => format!("content type: found {}{rest}, expected {}", frame::MEDIA_TYPE_FAMILY, frame::MEDIA_TYPE),
    }
}

/// Reads a body.
///
/// # Errors
/// [`Refusal::BadRequest`] with the field or the reason.
pub(super) fn read(
    format: Format,
    delivery: Delivery,
    body: Bytes,
    tokens: TokenLimits,
    limit: usize,
) -> Result<Call, Refusal> {
    if format == Format::Frames {
        return framed(body, limit);
    }
    let mut call = dialect::read(delivery.dialect(), &body, tokens)?;
    call.details = call.own_details().into_owned();
    match delivery {
        Delivery::Asked(_) => {}
        Delivery::Whole | Delivery::Stream => {
            call.details.constraint = json::parse::<Shape>(&body)?.constraint()?;
            call.reply.stream = delivery == Delivery::Stream;
        }
    }
    Ok(call)
}

fn framed(body: Bytes, limit: usize) -> Result<Call, Refusal> {
    let bad = |message: String| Refusal::BadRequest { field: None, message };
    let (request, details) = frame::request_from_bytes(body, limit).map_err(|error| bad(error.to_string()))?;
    if details.input == Input::Prompt && request.prompt.trim().is_empty() {
        return Err(bad("prompt: found an empty string, expected a text to complete".to_owned()));
    }
    let reply = Reply { stream: true, ..Reply::whole(Dialect::Native) };
    Ok(Call { request, details, hints: Hints::default(), warnings: Vec::new(), reply, said: Said::default() })
}

/// Who has waited so long for a slot is better served by another try, perhaps elsewhere.
const PATIENCE: Duration = Duration::from_secs(300);

/// The engine's request for a prompt, which has been made of whatever the call gives.
pub(super) fn engine_request(request: InferenceRequest, details: &Details, prompt: Prompt) -> engine::Request {
    let within = |ms: u32| (ms > 0).then(|| Duration::from_millis(ms.into()));
    let grammar = match &details.constraint {
        Constraint::Free => None,
        Constraint::Grammar(text) => Some(Grammar::Gbnf(text.to_string())),
        Constraint::JsonSchema(schema) => Some(Grammar::JsonSchema(schema.to_string())),
    };
    engine::Request {
        prompt,
        max_tokens: request.max_tokens,
        seed: request.sampling.seed,
        sampling: engine::Sampling { grammar, ..engine_sampling(&request.sampling) },
        stop: request.stop.into_iter().map(Text::into_inner).collect(),
        priority: match details.urgency {
            Urgency::Chat => Priority::Chat,
            Urgency::Infill => Priority::Infill,
            Urgency::WarmUp => Priority::WarmUp,
        },
        patience: Some(PATIENCE),
        prompt_within: within(details.prompt_within_ms),
        answer_within: within(details.answer_within_ms),
        logprobs: details.logprobs.map(|top| top.min(MOST_LOGPROBS)),
        adapter: details.extras.adapter.clone().map(|Adapter { name, scale }| AdapterChoice { name, scale }),
    }
}

/// What a body of JSON may ask for; frames are not checked where they are read.
const MOST_LOGPROBS: u8 = 20;

fn engine_sampling(wire: &Sampling) -> engine::Sampling {
    engine::Sampling {
        temperature: wire.temperature,
        top_k: wire.top_k,
        top_p: wire.top_p,
        min_p: wire.min_p,
        typical_p: wire.typical_p,
        repetition_penalty: wire.repetition_penalty,
        frequency_penalty: wire.frequency_penalty,
        presence_penalty: wire.presence_penalty,
        mirostat: (wire.mirostat != 0).then_some(Mirostat {
            version: wire.mirostat,
            tau: wire.mirostat_tau,
            eta: wire.mirostat_eta,
        }),
        // A token that no vocabulary has is never a candidate, so its bias means nothing.
        logit_bias: wire
            .logit_bias
            .iter()
            .map(|&(token, bias)| (Token(i32::try_from(token).unwrap_or(i32::MAX)), bias))
            .collect(),
        ..engine::Sampling::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_decides() {
        let found = |content_type: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
            format(&headers).map_err(|refusal| (refusal.status().as_u16(), refusal.message()))
        };
        assert_eq!(found("application/vnd.cerebrum.v1+postcard"), Ok(Format::Frames));
        assert_eq!(found("Application/vnd.Cerebrum.v1+postcard; q=1"), Ok(Format::Frames));
        assert_eq!(found("application/json"), Ok(Format::Json));
        assert_eq!(found(""), Ok(Format::Json));
        let (status, sentence) = found("application/vnd.cerebrum.v9+postcard").unwrap_err();
        assert_eq!(status, 415);
        assert!(sentence.starts_with("wire version: found 9, expected 1"), "{sentence}");
        assert_eq!(found("application/vnd.cerebrum.vX+postcard").unwrap_err().0, 415);
    }
}
