//! What an upstream says no with, in our own terms, and what that says of the upstream.

use cerebrum_common::serve::Refusal;
use cerebrum_common::wire::dialect::openai;
use cerebrum_common::wire::{Failure, FailureCode};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;

use crate::upstream::link::LinkError;
use crate::upstream::{Pass, way};

/// Largest refusal taken from an upstream, in bytes.
pub(super) const REFUSAL_BYTES: usize = 64 << 10;

/// The body of an answer that is a stream of the expected kind; anything else is the server's refusal.
pub(super) async fn accept(response: Response<way::Body>, expected: &'static str) -> Result<way::Body, Failure> {
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        let refused = Limited::new(body, REFUSAL_BYTES).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        return Err(refusal(head.status, &head.headers, &refused));
    }
    let found = head.headers.get(header::CONTENT_TYPE);
    if found.is_some_and(|kind| kind.as_bytes().starts_with(expected.as_bytes())) {
        return Ok(body);
    }
    Err(Failure {
        code: FailureCode::LinkLost,
        message: format!(
            "the upstream answered with {:?}, expected {expected:?}: is its `kind` in the settings right, and its release this one's?",
            found.unwrap_or(&HeaderValue::from_static("nothing")),
        ),
        retry_after_ms: None,
    })
}

#[derive(Deserialize)]
struct RefusalBody {
    error: String,
    message: String,
}

/// What the server said no with, in our own terms.
pub(super) fn refusal(status: http::StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    let retry_after_ms = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse::<u32>().ok())
        .map(|seconds| seconds.saturating_mul(1000));
    let parsed = serde_json::from_slice::<RefusalBody>(body).ok();
    let foreign = || serde_json::from_slice(body).ok().map(|error| openai::failure(FailureCode::Internal, &error));
    let foreign = if parsed.is_none() { foreign() } else { None };
    let named = parsed.as_ref().and_then(|refusal| FailureCode::from_name(&refusal.error));
    let named = named.or(foreign.as_ref().map(|failure| failure.code).filter(|code| *code != FailureCode::Internal));
    let code = named.unwrap_or(match status.as_u16() {
        401 | 403 | 415 => FailureCode::LinkLost, // our own key or version, not the client's doing
        404 => FailureCode::UnknownModel,
        429 => FailureCode::Busy,
        400..=499 => FailureCode::BadRequest,
        503 => FailureCode::Overloaded,
        _ => FailureCode::Internal,
    });
    let words = parsed.map(|refusal| refusal.message).or(foreign.map(|failure| failure.message));
    let message = words.unwrap_or_else(|| format!("it answered {status}"));
    Failure { code, message, retry_after_ms }.quoted()
}

/// Whether a failure speaks against the upstream: a refusal for cause shows that it works.
pub(super) fn judge(code: FailureCode, pass: &mut Pass) {
    match code {
        // One model's broken file says nothing of the others.
        FailureCode::BadRequest
        | FailureCode::ContextOverflow
        | FailureCode::UnknownModel
        | FailureCode::LoadFailed => pass.succeeded(),
        FailureCode::Busy | FailureCode::Overloaded | FailureCode::Stopping => {}
        FailureCode::LinkLost => {
            pass.failed();
            // It may be our key that it refuses: the board shall know soon.
            pass.upstream().probe_now();
        }
        FailureCode::Timeout | FailureCode::Internal => pass.failed(),
    }
}

/// Whether another upstream may do better with the same request.
pub(super) fn is_worth_another(code: FailureCode) -> bool {
    !matches!(code, FailureCode::BadRequest | FailureCode::ContextOverflow)
}

pub(super) fn internal(message: String) -> Refusal {
    Refusal::Failed(Failure { code: FailureCode::Internal, message, retry_after_ms: None })
}

pub(super) fn link_failure(error: &LinkError) -> Failure {
    let leaving = matches!(error, LinkError::Leaving);
    Failure {
        code: if leaving { FailureCode::Stopping } else { FailureCode::LinkLost },
        message: format!("the inference server cannot be reached: {error}"),
        retry_after_ms: Some(5000),
    }
}

pub(super) fn lost(reason: &str) -> Failure {
    Failure {
        code: FailureCode::LinkLost,
        message: format!("the connection to the inference server broke before the answer was complete ({reason})"),
        retry_after_ms: None,
    }
}
