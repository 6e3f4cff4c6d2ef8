//! Calls that are passed on as they are, so that clients of llama.cpp take the appliance for a `llama-server`: tokens and
//! their texts, properties, embeddings. An answer comes back as it is, a refusal in the words of the client's own calls; an
//! upstream that fails is passed over for the next.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::request_id::{self, RequestId};
use cerebrum_common::serve::{Answer, Refusal, full};
use cerebrum_common::wire::{Failure, FailureCode, json};
use http::{HeaderValue, Method, Response, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;

use super::quota::Share;
use super::refused::{REFUSAL_BYTES, is_worth_another, judge, link_failure, lost, refusal};
use super::{Gateway, route};
use crate::upstream::way::Way;
use crate::upstream::{Upstream, spread};

/// How long an answer may take: a model may have to be loaded for it.
const ANSWER: Duration = Duration::from_secs(300);

/// Largest answer, in bytes: 2,048 embeddings of 4,096 numbers.
const ANSWER_BYTES: usize = 128 << 20;

/// Calls at a time: their answers are held whole.
pub(super) const AT_A_TIME: usize = 8;

/// Passes a call on to the first upstream that can answer it; the tokens that it takes count against the key's share, where it
/// has one.
///
/// # Errors
/// What the first of them refused, or how it could not be reached.
pub(super) async fn on(
    gateway: &Gateway,
    method: Method,
    path: &'static str,
    body: &mut Incoming,
    (id, share): (RequestId, Option<&Share>),
) -> Result<Response<Answer>, Refusal> {
    let _passing = gateway
        .passing
        .try_acquire()
        .map_err(|_| Refusal::Busy { who: "too_many_calls", retry_after: Duration::from_secs(1) })?;
    let (body, _room) = gateway.bodies.collect(body).await?;
    let answer = tokio::time::timeout(ANSWER, exchange(gateway, method, path, body, id))
        .await
        .unwrap_or_else(|_| Err(Refusal::Failed(failed(FailureCode::Timeout, "the inference server took too long"))))?;
    if let Some(share) = share.filter(|share| path == EMBEDDINGS && share.counts_tokens()) {
        // A large answer is read off the thread that serves everybody else.
        let said = answer.clone();
        let tokens = tokio::task::spawn_blocking(move || tokens_of(&said)).await;
        share.spend(tokens.unwrap_or_default());
    }
    let mut response = Response::new(full(answer));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// What an answer says that it took; its numbers are passed over.
fn tokens_of(answer: &[u8]) -> u32 {
    #[derive(Deserialize)]
    struct Counted {
        usage: Used,
    }
    #[derive(Deserialize)]
    struct Used {
        total_tokens: Option<u32>,
        prompt_tokens: Option<u32>,
    }
    let usage = serde_json::from_slice::<Counted>(answer).ok().map(|answer| answer.usage);
    usage.and_then(|usage| usage.total_tokens.or(usage.prompt_tokens)).unwrap_or_default()
}

async fn exchange(
    gateway: &Gateway,
    method: Method,
    path: &'static str,
    body: Bytes,
    id: RequestId,
) -> Result<Bytes, Refusal> {
    let question = Question::new(path, body)?;
    let (mut first, mut wait) = (None::<Failure>, None::<Duration>);
    for upstream in question.order(&gateway.upstreams) {
        let Some(body) = question.words_for(&upstream) else { continue };
        let mut pass = match upstream.admit() {
            Ok(pass) => pass,
            Err(longer) => {
                wait = Some(wait.map_or(longer, |wait| wait.min(longer)));
                continue;
            }
        };
        let missed = match ask(&upstream, &method, path, body, id).await {
            Ok(answer) => {
                pass.succeeded();
                return Ok(answer);
            }
            Err(failure) => failure,
        };
        judge(missed.code, &mut pass);
        if !is_worth_another(missed.code) {
            return Err(Refusal::Failed(missed));
        }
        tracing::info!(%id, call = path, upstream = %upstream.name, reason = missed.for_log(), "not answered");
        first.get_or_insert(missed);
    }
    Err(match (first, wait) {
        (Some(failure), _) => Refusal::Failed(failure),
        (None, Some(wait)) => route::unavailable(wait),
        (None, None) => route::unknown(question.model().unwrap_or_default()),
    })
}

async fn ask(upstream: &Upstream, method: &Method, path: &str, body: Bytes, id: RequestId) -> Result<Bytes, Failure> {
    // A service's base already ends with what OpenAI's paths begin with.
    let request = match (&upstream.way, path.strip_prefix("/v1")) {
        (Way::Service(_), Some(below)) => upstream.request(method.clone(), below),
        (Way::Service(_), None) => upstream.request_beside(method.clone(), path),
        (Way::Frames(_), _) => upstream.request(method.clone(), path),
    };
    let request = request
        .header(header::CONTENT_TYPE, "application/json")
        .header(request_id::HEADER, id.header_value())
        .body(body)
        .map_err(|error| failed(FailureCode::Internal, &error.to_string()))?;
    let (head, body) = upstream.way.send(request).await.map_err(|error| link_failure(&error))?.into_parts();
    let most = if head.status.is_success() { ANSWER_BYTES } else { REFUSAL_BYTES };
    let body = Limited::new(body, most).collect().await.map_err(|error| lost(&error.to_string()))?.to_bytes();
    if !head.status.is_success() {
        return Err(refusal(head.status, &head.headers, &body));
    }
    tracing::info!(%id, call = path, upstream = %upstream.name, status = head.status.as_u16(), "passed on");
    Ok(body)
}

/// A call, and the model that it names; only embeddings name one.
struct Question {
    path: &'static str,
    body: Bytes,
    named: Option<(Value, String)>,
}

impl Question {
    fn new(path: &'static str, body: Bytes) -> Result<Self, Refusal> {
        let named = if path == EMBEDDINGS {
            let call: Value = json::parse(&body)?;
            let model = call.get("model").and_then(Value::as_str).map(str::to_owned);
            model.map(|model| (call, model))
        } else {
            None
        };
        Ok(Self { path, body, named })
    }

    fn model(&self) -> Option<&str> {
        self.named.as_ref().map(|(_, model)| model.as_str())
    }

    /// Whom to ask, one after the other: those that are connected first, and of what only llama.cpp's servers and ours have,
    /// services last.
    fn order(&self, upstreams: &[Arc<Upstream>]) -> Vec<Arc<Upstream>> {
        let mut order = spread::in_turn(upstreams).into_owned();
        let last = |upstream: &Upstream| self.path != EMBEDDINGS && matches!(upstream.way, Way::Service(_));
        order.sort_by_key(|upstream| (!upstream.way.is_up(), last(upstream)));
        order
    }

    /// The body with the upstream's own name for the model; none where it does not serve it.
    fn words_for(&self, upstream: &Upstream) -> Option<Bytes> {
        let Some((call, model)) = &self.named else { return Some(self.body.clone()) };
        let own = upstream.model(model)?;
        if own == model {
            return Some(self.body.clone());
        }
        let mut call = call.clone();
        call["model"] = own.into();
        Some(call.to_string().into())
    }
}

/// The one call that every kind of upstream answers.
const EMBEDDINGS: &str = "/v1/embeddings";

fn failed(code: FailureCode, message: &str) -> Failure {
    Failure { code, message: message.to_owned(), retry_after_ms: Some(5000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_embeddings_are_counted_as_they_are_told() {
        let told = |usage: &str| {
            tokens_of(format!(r#"{{"object":"list","data":[{{"embedding":[0.5,1e-3]}}],"usage":{usage}}}"#).as_bytes())
        };
        assert_eq!(told(r#"{"prompt_tokens":7,"total_tokens":8}"#), 8);
        assert_eq!(told(r#"{"prompt_tokens":7}"#), 7);
        assert_eq!((told("null"), told("{}"), tokens_of(b"not even JSON")), (0, 0, 0));
    }
}
