//! Paths to answers.

use std::sync::Arc;

use bytes::Bytes;
use cerebrum_common::serve::{Answer, Refusal, json};
use cerebrum_common::wire::native::{Generate, Limits};
use cerebrum_common::wire::{InferenceRequest, frame};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json as value;
use tokio::sync::Notify;

use super::answer::{self, Busy, Format};
use super::{Script, Shared};

/// Largest frame taken, in bytes.
const FRAME_BYTES: usize = 16 << 20;

pub(super) async fn call(shared: &Arc<Shared>, request: Request<Incoming>, cut: &Arc<Notify>) -> Response<Answer> {
    let (head, body) = request.into_parts();
    match (&head.method, head.uri.path()) {
        (&Method::POST, "/v1/inference/stream" | "/v1/complete/stream") => {
            generate(shared, &head.headers, body, cut, true).await
        }
        (&Method::POST, "/v1/inference" | "/v1/complete") => generate(shared, &head.headers, body, cut, false).await,
        (&Method::GET, "/health") => ok(&value!({
            "status": "ok", "available": true, "cpu_usage_percent": 0.0, "ram_available_gb": 1.0, "ram_used_gb": 0.0,
            "models_in_cache": 1, "uptime_seconds": 1,
        })),
        (&Method::GET, "/v1/models") => ok(&value!({
            "available_models": [answer::MODEL], "cached_models": [answer::MODEL], "inference_counts": {},
        })),
        (&Method::GET, "/v1/stats") => ok(&value!({ "requests": shared.seen.borrow().requests })),
        (&Method::PUT, "/script") => follow(shared, body).await,
        (_, path) => Refusal::NotFound { path: path.to_owned() }.response(),
    }
}

fn ok(value: &serde_json::Value) -> Response<Answer> {
    json(StatusCode::OK, value)
}

/// A script from another process.
async fn follow(shared: &Shared, body: Incoming) -> Response<Answer> {
    match read(body).await.map(|bytes| serde_json::from_slice::<Script>(&bytes)) {
        Some(Ok(script)) => {
            shared.follow(script);
            ok(&value!({}))
        }
        Some(Err(error)) => Refusal::BadRequest { field: None, message: error.to_string() }.response(),
        None => Refusal::BodyBroken { reason: "script".to_owned() }.response(),
    }
}

async fn read(body: Incoming) -> Option<Bytes> {
    Some(body.collect().await.ok()?.to_bytes())
}

async fn generate(
    shared: &Arc<Shared>,
    headers: &HeaderMap,
    body: Incoming,
    cut: &Arc<Notify>,
    stream: bool,
) -> Response<Answer> {
    let busy = Busy::new(shared.clone(), cut.clone());
    let mut script = shared.script();
    let framed = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == frame::MEDIA_TYPE);
    let Some(bytes) = read(body).await else {
        return Refusal::BodyBroken { reason: "request".to_owned() }.response();
    };
    if script.read_requests {
        match parse(bytes, framed) {
            Ok(request) => {
                script.tokens = script.tokens.min(request.max_tokens);
                shared.seen.send_modify(|seen| seen.last = Some(request));
            }
            Err(refusal) => return busy.refuse(refusal.response()),
        }
    }
    if let Some((status, failure)) = script.refuse {
        let mut response = Refusal::Failed(failure).response();
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return busy.refuse(response);
    }
    match stream {
        true => answer::stream(script, busy, if framed { Format::Frames } else { Format::Sse }),
        false => answer::whole(script, busy).await,
    }
}

fn parse(bytes: Bytes, framed: bool) -> Result<InferenceRequest, Refusal> {
    if framed {
        let message = |error: frame::FrameError| Refusal::BadRequest { field: None, message: error.to_string() };
        return frame::from_bytes(bytes, FRAME_BYTES).map_err(message);
    }
    let body = cerebrum_common::wire::json::parse::<Generate>(&bytes)?;
    Ok(body.into_request(Limits::default())?.0)
}
