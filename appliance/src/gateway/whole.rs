//! Collects an answer into one JSON document.

use cerebrum_common::serve::{Answer, Refusal, json};
use cerebrum_common::wire::native::{inference_seconds, timestamp};
use cerebrum_common::wire::{Completion, InferenceEvent};
use cerebrum_prompt::Report;
use http::{Response, StatusCode};
use serde::Serialize;

use super::forward::UpstreamStream;

/// `/v1/complete`'s answer.
#[derive(Serialize)]
struct Complete<'a> {
    result: &'a str,
    language: &'a str,
    source: &'static str,
    model_used: &'a str,
    tokens_generated: u32,
    inference_time_seconds: f64,
    timestamp: String,
    finish_reason: &'static str,
    prompt_tokens: u32,
    cached_tokens: u32,
    prepared: PreparedReport,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<&'a str>,
}

/// What preparation did, for the client.
#[derive(Serialize)]
pub(super) struct PreparedReport {
    profile: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    marker: Option<&'static str>,
    original_chars: usize,
    final_chars: usize,
    chunks_total: usize,
    chunks_unique: usize,
    chunks_kept: usize,
}

impl From<&Report> for PreparedReport {
    fn from(report: &Report) -> Self {
        Self {
            profile: report.profile.as_str(),
            outcome: report.outcome.as_str(),
            marker: report.marker,
            original_chars: report.original_chars,
            final_chars: report.final_chars,
            chunks_total: report.chunks_total,
            chunks_unique: report.chunks_unique,
            chunks_kept: report.chunks_kept,
        }
    }
}

/// Reads the answer to its end.
///
/// # Errors
/// How it broke.
pub(super) async fn collect(mut upstream: UpstreamStream) -> Result<Response<Answer>, Refusal> {
    let mut text = String::new();
    while let Some(event) = std::future::poll_fn(|cx| upstream.poll_event(cx)).await {
        match event {
            InferenceEvent::Token { text: token, .. } => text.push_str(&token),
            InferenceEvent::Done(completion) => return Ok(answer(&text, &upstream, &completion)),
            InferenceEvent::Error(failure) => return Err(Refusal::Failed(failure)),
            InferenceEvent::Loading { .. } | InferenceEvent::Progress { .. } => {}
        }
    }
    unreachable!("an upstream stream ends with Done or Error")
}

fn answer(text: &str, upstream: &UpstreamStream, completion: &Completion) -> Response<Answer> {
    let prepared = &upstream.prepared;
    json(
        StatusCode::OK,
        &Complete {
            result: text,
            language: &prepared.language,
            source: "vps",
            model_used: &completion.model,
            tokens_generated: completion.usage.completion_tokens,
            inference_time_seconds: inference_seconds(completion),
            timestamp: timestamp(),
            finish_reason: completion.finish.as_str(),
            prompt_tokens: completion.usage.prompt_tokens,
            cached_tokens: completion.usage.cached_tokens,
            prepared: (&prepared.report).into(),
            warnings: prepared.warnings.iter().chain(&completion.warnings).map(String::as_str).collect(),
        },
    )
}
