//! `/v1/messages/count_tokens`: how many tokens a chat has as it came, before preparation. Nothing is sent on, and no place is taken.

use std::sync::Arc;

use cerebrum_common::serve::{Answer, Refusal, json};
use cerebrum_common::wire::dialect::Dialect;
use cerebrum_prompt::Profile;
use http::{Response, StatusCode};
use hyper::body::Incoming;

use super::Gateway;

/// Counts by the vocabulary of the model that would answer, where it is known, else by estimate.
///
/// # Errors
/// Everything wrong with the body.
pub(super) async fn count(
    gateway: &Gateway,
    client: &Arc<str>,
    body: &mut Incoming,
) -> Result<Response<Answer>, Refusal> {
    let (bytes, _room) = gateway.bodies.collect(body).await?;
    let ready = gateway.preparation.run(Dialect::Messages, bytes, Some(Profile::Off), client).await?;
    Ok(json(StatusCode::OK, &serde_json::json!({"input_tokens": ready.prompt_tokens})))
}
