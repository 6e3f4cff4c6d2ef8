//! Collects an answer into one JSON document.

use cerebrum_common::serve::{Answer, Refusal, json};
use cerebrum_common::wire::native::{inference_seconds, timestamp};
use cerebrum_common::wire::{Completion, InferenceEvent};
use http::{Response, StatusCode};
use serde::Serialize;

use super::account::Account;
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
    #[serde(flatten)]
    account: Account<'a>,
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
            account: Account::new(prepared, completion),
        },
    )
}
