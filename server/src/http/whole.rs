//! The answer as one JSON document.

use cerebrum_common::serve::{Answer, Refusal, json};
use cerebrum_common::wire::dialect::{self, Call, Collected, Dialect, Identity};
use cerebrum_common::wire::native::{inference_seconds, timestamp, tokens_per_second};
use cerebrum_common::wire::{Completion, InferenceEvent, Usage};
use http::{Response, StatusCode};
use serde::Serialize;

use super::Api;
use super::job::Job;
use super::record::Record;
use super::several::Several;

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
pub(super) async fn collect(api: &Api, call: Call, record: Record) -> Result<Response<Answer>, Refusal> {
    let (reply, id) = (call.reply.clone(), record.id());
    let mut answers = Vec::new();
    let mut model = String::new();
    let mut several = Several::new(api, call, record);
    while let Some(job) = several.next().transpose()? {
        job.model().clone_into(&mut model);
        answers.push(one(job).await?);
    }
    match (reply.dialect, answers.first()) {
        (Dialect::Native, Some((answer, completion))) => Ok(document(&answer.text, completion)),
        _ => Ok(json(StatusCode::OK, &dialect::document(&Identity::now(id, &model), &reply, &answers))),
    }
}

async fn one(mut job: Job) -> Result<(Collected, Completion), Refusal> {
    let mut collected = Collected::default();
    while let Some(event) = job.next().await {
        match event {
            InferenceEvent::Done(completion) => return Ok((collected, completion)),
            InferenceEvent::Error(failure) => return Err(failure.into()),
            event => collected.take(event),
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
