//! Collects an answer into one JSON document.

use cerebrum_common::request_id::RequestId;
use cerebrum_common::serve::{Answer, Refusal, json};
use cerebrum_common::wire::dialect::{self, Collected, Dialect, Identity};
use cerebrum_common::wire::native::{inference_seconds, timestamp};
use cerebrum_common::wire::{Completion, InferenceEvent};
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::Value;

use super::account::Account;
use super::answering::{Origin, UpstreamStream};
use super::prepare::Ready;

/// `/v1/complete`'s answer.
#[derive(Serialize)]
struct Complete<'a> {
    result: &'a str,
    language: &'a str,
    source: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cached: bool,
    model_used: &'a str,
    tokens_generated: u32,
    inference_time_seconds: f64,
    timestamp: String,
    #[serde(flatten)]
    account: Account<'a>,
}

/// The answer in one document.
///
/// # Errors
/// How it broke.
pub(super) async fn answer(mut upstream: UpstreamStream) -> Result<Response<Answer>, Refusal> {
    let id = upstream.id;
    let answers = [collect(&mut upstream).await?];
    Ok(document(id, &upstream.prepared.ready, upstream.origin(), &answers))
}

/// Reads the answer to its end.
///
/// # Errors
/// How it broke.
pub(super) async fn collect(upstream: &mut UpstreamStream) -> Result<(Collected, Completion), Refusal> {
    let mut collected = Collected { calls_apart: upstream.calls_apart(), ..Collected::default() };
    while let Some(event) = std::future::poll_fn(|cx| upstream.poll_event(cx)).await {
        match event {
            InferenceEvent::Done(completion) => return Ok((collected, completion)),
            InferenceEvent::Error(failure) => return Err(Refusal::Failed(failure)),
            event => collected.take(event),
        }
    }
    unreachable!("an upstream stream ends with Done or Error")
}

/// The document, in the client's words.
pub(super) fn document(
    id: RequestId,
    ready: &Ready,
    origin: Origin,
    answers: &[(Collected, Completion)],
) -> Response<Answer> {
    match answers {
        [(answer, completion)] if ready.call.reply.dialect == Dialect::Native => {
            json(StatusCode::OK, &native(&answer.said(), ready, origin, completion))
        }
        _ => json(StatusCode::OK, &value(id, ready, origin, answers)),
    }
}

/// The document as a value.
pub(super) fn value(id: RequestId, ready: &Ready, origin: Origin, answers: &[(Collected, Completion)]) -> Value {
    let reply = &ready.call.reply;
    match answers {
        [(answer, completion)] if reply.dialect == Dialect::Native => {
            serde_json::to_value(native(&answer.said(), ready, origin, completion)).unwrap_or_default()
        }
        _ => {
            // By the name that streams give it, too.
            let mut document = dialect::document(&Identity::now(id, &ready.call.request.model), reply, answers);
            if origin.cached
                && let Some(fields) = document.as_object_mut()
            {
                fields.insert("cached".to_owned(), Value::Bool(true));
            }
            document
        }
    }
}

fn native<'a>(text: &'a str, ready: &'a Ready, origin: Origin, completion: &'a Completion) -> Complete<'a> {
    Complete {
        result: text,
        language: &ready.language,
        source: origin.source,
        cached: origin.cached,
        model_used: &completion.model,
        tokens_generated: completion.usage.completion_tokens,
        inference_time_seconds: inference_seconds(completion),
        timestamp: timestamp(),
        account: Account::new(ready, completion),
    }
}
