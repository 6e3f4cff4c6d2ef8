//! The answer as one JSON document.

use cerebrum_common::serve::{Answer, Refusal, json};
use cerebrum_common::wire::native::{inference_seconds, timestamp, tokens_per_second};
use cerebrum_common::wire::{Completion, InferenceEvent, Usage};
use http::{Response, StatusCode};
use serde::Serialize;

use super::job::Job;

#[derive(Serialize)]
struct Document<'a> {
    result: &'a str,
    model: &'a str,
    tokens_generated: u32,
    inference_time_seconds: f64,
    tokens_per_second: f64,
    timestamp: String,
    finish_reason: &'static str,
    usage: Usage,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

/// Waits for the end and answers with everything.
///
/// # Errors
/// The failure the generation ended with.
pub(super) async fn collect(mut job: Job) -> Result<Response<Answer>, Refusal> {
    let mut result = String::new();
    while let Some(event) = job.next().await {
        match event {
            InferenceEvent::Token { text, .. } => result.push_str(&text),
            InferenceEvent::Done(completion) => return Ok(document(&result, &completion)),
            InferenceEvent::Error(failure) => return Err(failure.into()),
            InferenceEvent::Loading { .. } | InferenceEvent::Progress { .. } => {}
        }
    }
    // A job always ends with one of the two.
    Err(Refusal::Stopping)
}

fn document(result: &str, completion: &Completion) -> Response<Answer> {
    json(
        StatusCode::OK,
        &Document {
            result,
            model: &completion.model,
            tokens_generated: completion.usage.completion_tokens,
            inference_time_seconds: inference_seconds(completion),
            tokens_per_second: tokens_per_second(completion),
            timestamp: timestamp(),
            finish_reason: completion.finish.as_str(),
            usage: completion.usage,
            warnings: &completion.warnings,
        },
    )
}
