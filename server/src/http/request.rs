//! Bodies of inference requests: JSON, or one postcard frame.

use bytes::Bytes;
use cerebrum_common::serve::Refusal;
use cerebrum_common::wire::frame::{self, FrameError};
use cerebrum_common::wire::native::{Generate, Limits as TokenLimits};
use cerebrum_common::wire::{InferenceRequest, json};
use cerebrum_engine::Grammar;
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
    pub(super) inference: InferenceRequest,
    /// What was changed in it.
    pub(super) warnings: Vec<String>,
    /// How a stream is written.
    pub(super) style: Style,
    /// What the answer has to look like. Only this program's own JSON has it: the frames between the programs are of a version that does
    /// not change.
    pub(super) grammar: Option<Grammar>,
}

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
            Delivery::Whole => Format::Whole,
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
        return Ok(Asked { inference, warnings: Vec::new(), style: Style::Frames, grammar: None });
    }
    let generate: Generate = json::parse(&body)?;
    let grammar = json::parse::<Shape>(&body)?.grammar()?;
    let style = Style::Events { progress: generate.progress };
    let (inference, warnings) = generate.into_request(tokens)?;
    Ok(Asked { inference, warnings, style, grammar })
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
