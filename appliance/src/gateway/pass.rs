//! Calls that are passed on as they are, so that clients of llama.cpp take the appliance for a `llama-server`: tokens and
//! their texts, properties, embeddings. The server's answer comes back with its status, whatever it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::request_id::{self, RequestId};
use cerebrum_common::serve::{Answer, Refusal, full};
use cerebrum_common::wire::{Failure, FailureCode, json};
use http::{HeaderValue, Method, Response, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::{Gateway, route};
use crate::upstream::Upstream;
use crate::upstream::way::Way;

/// How long an answer may take: a model may have to be loaded for it.
const ANSWER: Duration = Duration::from_secs(300);

/// Largest answer, in bytes: 2,048 embeddings of 4,096 numbers.
const ANSWER_BYTES: usize = 128 << 20;

/// Calls at a time: their answers are held whole.
pub(super) const AT_A_TIME: usize = 8;

/// Passes a call on to the first upstream that is connected and can answer it.
///
/// # Errors
/// No upstream is, or its answer breaks off.
pub(super) async fn on(
    gateway: &Gateway,
    method: Method,
    path: &'static str,
    body: &mut Incoming,
    id: RequestId,
) -> Result<Response<Answer>, Refusal> {
    let _passing = gateway
        .passing
        .try_acquire()
        .map_err(|_| Refusal::Busy { who: "too_many_calls", retry_after: Duration::from_secs(1) })?;
    let (body, _room) = gateway.bodies.collect(body).await?;
    tokio::time::timeout(ANSWER, exchange(gateway, method, path, body, id))
        .await
        .unwrap_or_else(|_| Err(failed(FailureCode::Timeout, "the inference server took too long")))
}

async fn exchange(
    gateway: &Gateway,
    method: Method,
    path: &str,
    body: Bytes,
    id: RequestId,
) -> Result<Response<Answer>, Refusal> {
    let (upstream, body) = choose(&gateway.upstreams, path, body)?;
    // A service's base already ends with what other people's paths begin with.
    let path = if matches!(upstream.way, Way::Service(_)) { path.trim_start_matches("/v1") } else { path };
    let request = upstream
        .request(method, path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(request_id::HEADER, id.header_value())
        .body(body)
        .map_err(|error| failed(FailureCode::Internal, &error.to_string()))?;
    let broken = |error: &dyn std::fmt::Display| failed(FailureCode::LinkLost, &error.to_string());
    let (head, body) = upstream.way.send(request).await.map_err(|error| broken(&error))?.into_parts();
    let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|error| broken(&error))?.to_bytes();
    tracing::info!(%id, call = path, upstream = %upstream.name, status = head.status.as_u16(), "passed on");
    let mut response = Response::new(full(body));
    *response.status_mut() = head.status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(after) = head.headers.get(header::RETRY_AFTER) {
        response.headers_mut().insert(header::RETRY_AFTER, after.clone());
    }
    Ok(response)
}

/// Who answers, and the body in that one's words. Only servers like llama.cpp's have more than embeddings.
fn choose<'u>(upstreams: &'u [Arc<Upstream>], path: &str, body: Bytes) -> Result<(&'u Arc<Upstream>, Bytes), Refusal> {
    let mut up = upstreams.iter().filter(|upstream| upstream.way.is_up()).peekable();
    if up.peek().is_none() {
        return Err(failed(FailureCode::Overloaded, "no inference server is connected"));
    }
    if path != EMBEDDINGS {
        let mut up: Vec<_> = up.collect();
        up.sort_by_key(|upstream| matches!(upstream.way, Way::Service(_)));
        return Ok((up[0], body));
    }
    let mut call: Value = json::parse(&body)?;
    let Some(asked) = call.get("model").and_then(Value::as_str).map(str::to_owned) else {
        return up.next().map(|upstream| (upstream, body)).ok_or_else(|| route::unknown(""));
    };
    let named = |upstream: &'u Arc<Upstream>| Some((upstream, upstream.model(&asked)?.to_owned()));
    let (upstream, own) = up.find_map(named).ok_or_else(|| route::unknown(&asked))?;
    if own == asked {
        return Ok((upstream, body));
    }
    call["model"] = own.into();
    Ok((upstream, call.to_string().into()))
}

/// The one call that every kind of upstream answers.
const EMBEDDINGS: &str = "/v1/embeddings";

fn failed(code: FailureCode, message: &str) -> Refusal {
    Refusal::Failed(Failure { code, message: message.to_owned(), retry_after_ms: Some(5000) })
}
