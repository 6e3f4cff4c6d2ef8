//! Calls that are passed on as they are, so that clients of llama.cpp take the appliance for a `llama-server`: tokens and
//! their texts, properties, embeddings. The server's answer comes back with its status, whatever it is.

use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::request_id::{self, RequestId};
use cerebrum_common::serve::{Answer, Refusal, collect, full};
use cerebrum_common::wire::{Failure, FailureCode};
use http::{HeaderValue, Method, Response, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::Gateway;

/// How long an answer may take: a model may have to be loaded for it.
const ANSWER: Duration = Duration::from_secs(300);

/// Largest answer, in bytes: 2,048 embeddings of 4,096 numbers.
const ANSWER_BYTES: usize = 128 << 20;

/// Passes a call on to the first upstream that is connected.
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
    let body = collect(body, &gateway.limits).await?;
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
    let upstream = gateway.upstreams.iter().find(|upstream| upstream.way.is_up());
    let upstream = upstream.ok_or_else(|| failed(FailureCode::Overloaded, "no inference server is connected"))?;
    let request = upstream
        .request(method, path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(request_id::HEADER, id.header_value())
        .body(body)
        .map_err(|error| failed(FailureCode::Internal, &error.to_string()))?;
    let broken = |error: &dyn std::fmt::Display| failed(FailureCode::LinkLost, &error.to_string());
    let (head, body) = upstream.way.send(request).await.map_err(|error| broken(&error))?.into_parts();
    let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|error| broken(&error))?.to_bytes();
    let mut response = Response::new(full(body));
    *response.status_mut() = head.status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(after) = head.headers.get(header::RETRY_AFTER) {
        response.headers_mut().insert(header::RETRY_AFTER, after.clone());
    }
    Ok(response)
}

fn failed(code: FailureCode, message: &str) -> Refusal {
    Refusal::Failed(Failure { code, message: message.to_owned(), retry_after_ms: Some(5000) })
}
