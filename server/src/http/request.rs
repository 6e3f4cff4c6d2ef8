//! Bodies of inference requests: JSON, or one postcard frame.

use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::serve::Refusal;
use cerebrum_common::wire::frame::{self, FrameError};
use cerebrum_common::wire::native::{Generate, Limits as TokenLimits};
use cerebrum_common::wire::{InferenceRequest, Sampling, json};
use cerebrum_engine::{self as engine, Grammar, Mirostat, Prompt, Token};
use http::{HeaderMap, header};
use serde::Deserialize;

use super::routes::Delivery;
use super::stream::Style;

/// What is spoken in a request and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// JSON both ways.
    Whole,
    /// JSON in, server-sent events out.
    Events,
    /// Postcard frames both ways.
    Frames,
}

/// A request that has been read.
#[derive(Debug)]
pub(super) struct Asked {
    /// The model by name; empty asks for the default.
    pub(super) model: String,
    pub(super) request: engine::Request,
    /// What was changed in it.
    pub(super) warnings: Vec<String>,
    /// How a stream is written.
    pub(super) style: Style,
}

/// What the answer has to look like. Only this program's own JSON has it: the frames between the programs are of a version that does not
/// change.
#[derive(Deserialize)]
struct Shape {
    grammar: Option<String>,
    json_schema: Option<serde_json::Value>,
}

impl Shape {
    fn grammar(self) -> Result<Option<Grammar>, Refusal> {
        let both = "grammar: found json_schema too, expected one of them".to_owned();
        match (self.grammar, self.json_schema) {
            (Some(_), Some(_)) => Err(Refusal::BadRequest { field: Some("grammar".to_owned()), message: both }),
            (Some(text), None) => Ok(Some(Grammar::Gbnf(text))),
            (None, Some(schema)) => Ok(Some(Grammar::JsonSchema(schema.to_string()))),
            (None, None) => Ok(None),
        }
    }
}

/// The format a request asks for.
///
/// # Errors
/// [`Refusal::Unsupported`] for frames of another version.
pub(super) fn format(headers: &HeaderMap, delivery: Delivery) -> Result<Format, Refusal> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match content_type.strip_prefix(frame::MEDIA_TYPE_FAMILY) {
        Some(_) if content_type == frame::MEDIA_TYPE => Ok(Format::Frames),
        Some(rest) => Err(Refusal::Unsupported { message: foreign(rest) }),
        None => Ok(match delivery {
            Delivery::Whole | Delivery::Infill => Format::Whole,
            Delivery::Stream => Format::Events,
        }),
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
pub(super) fn read(format: Format, body: Bytes, tokens: TokenLimits, limit: usize) -> Result<Asked, Refusal> {
    if format == Format::Frames {
        let bad = |message: String| Refusal::BadRequest { field: None, message };
        let inference: InferenceRequest = frame::from_bytes(body, limit).map_err(|error| bad(error.to_string()))?;
        if inference.prompt.trim().is_empty() {
            return Err(bad("prompt: found an empty string, expected a text to complete".to_owned()));
        }
        return Ok(asked(inference, None, Vec::new(), Style::Frames));
    }
    let generate: Generate = json::parse(&body)?;
    let grammar = json::parse::<Shape>(&body)?.grammar()?;
    let style = Style::Events { progress: generate.progress };
    let (inference, warnings) = generate.into_request(tokens)?;
    Ok(asked(inference, grammar, warnings, style))
}

fn asked(mut inference: InferenceRequest, grammar: Option<Grammar>, warnings: Vec<String>, style: Style) -> Asked {
    let model = std::mem::take(&mut inference.model);
    Asked { model, request: engine_request(inference, grammar), warnings, style }
}

/// Who has waited so long for a slot is better served by another try, perhaps elsewhere.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

fn engine_request(inference: InferenceRequest, grammar: Option<Grammar>) -> engine::Request {
    engine::Request {
        // Plain: control tokens in somebody's prompt are text.
        prompt: Prompt::plain(inference.prompt.into_inner()),
        max_tokens: inference.max_tokens,
        seed: inference.sampling.seed,
        sampling: engine::Sampling { grammar, ..engine_sampling(&inference.sampling) },
        stop: inference.stop.into_iter().map(cerebrum_common::wire::Text::into_inner).collect(),
        priority: engine::Priority::Chat,
        patience: Some(PATIENCE),
        prompt_within: None,
        answer_within: None,
    }
}

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
            format(&headers, Delivery::Stream).map_err(|refusal| (refusal.status().as_u16(), refusal.message()))
        };
        assert_eq!(found("application/vnd.cerebrum.v1+postcard"), Ok(Format::Frames));
        assert_eq!(found("Application/vnd.Cerebrum.v1+postcard; q=1"), Ok(Format::Frames));
        assert_eq!(found("application/json"), Ok(Format::Events));
        assert_eq!(found(""), Ok(Format::Events));
        let (status, sentence) = found("application/vnd.cerebrum.v9+postcard").unwrap_err();
        assert_eq!(status, 415);
        assert!(sentence.starts_with("wire version: found 9, expected 1"), "{sentence}");
        assert_eq!(found("application/vnd.cerebrum.vX+postcard").unwrap_err().0, 415);
        assert_eq!(format(&HeaderMap::new(), Delivery::Whole), Ok(Format::Whole));
    }
}
