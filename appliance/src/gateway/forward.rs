//! Sends a prepared request to its upstream and turns what comes back into an [`UpstreamStream`]: events, and exactly one
//! last one.
//!
//! A request is repeated only before its first event, only when the connection broke under it, and only within a budget:
//! a server in trouble must not get twice the work.

use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::request_id;
use cerebrum_common::serve::Refusal;
use cerebrum_common::wire::frame::{self, Decoder, FrameError};
use cerebrum_common::wire::{Failure, FailureCode, InferenceEvent};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use tokio::time::{Instant, Sleep};

use super::Gateway;
use super::prepare::Prepared;
use super::record::Record;
use super::route::Routed;
use super::stops::Stop;
use crate::upstream::Pass;
use crate::upstream::link::{self, LinkError};

/// How long the first event may decide the status code, before a client gets its headers: refusals of the server come
/// within milliseconds, the first token of a long prompt within minutes.
const FIRST_EVENT: Duration = Duration::from_millis(250);

/// Largest frame and largest refusal taken from an upstream, in bytes.
const FRAME_BYTES: usize = 1 << 20;
const REFUSAL_BYTES: usize = 64 << 10;

/// Repeats are at most this share of requests, saved up to that many.
const RETRY_SHARE: f64 = 0.1;
const RETRY_SAVED: f64 = 10.0;

/// Leave to repeat requests, earned by sending them.
#[derive(Debug)]
pub(super) struct RetryBudget(Mutex<f64>);

impl Default for RetryBudget {
    fn default() -> Self {
        Self(Mutex::new(1.0))
    }
}

impl RetryBudget {
    fn earn(&self) {
        let mut saved = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *saved = (*saved + RETRY_SHARE).min(RETRY_SAVED);
    }

    fn spend(&self) -> bool {
        let mut saved = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let enough = *saved >= 1.0;
        if enough {
            *saved -= 1.0;
        }
        enough
    }
}

/// An answer on its way: dropping it cancels the generation, frees the place, reports to the breaker and closes the
/// record.
pub(super) struct UpstreamStream {
    pub(super) prepared: Prepared,
    pub(super) record: Record,
    pass: Pass,
    body: link::Body,
    decoder: Decoder,
    early: Option<InferenceEvent>,
    ended: bool,
    idle: Duration,
    silence: Pin<Box<Sleep>>,
    stop: Stop,
    last_event: Instant,
    deadline: Instant,
}

/// Sends the request; the answer's first event decides whether it is one.
///
/// # Errors
/// What the upstream refused, or how it could not be reached.
pub(super) async fn forward(gateway: &Gateway, routed: Routed, record: &mut Record) -> Result<UpstreamStream, Refusal> {
    let Routed { prepared, upstream, mut pass } = routed;
    let bytes = frame::to_bytes(&prepared.request).map_err(|error| internal(error.to_string()))?;
    let report = &prepared.report;
    record.sent(&upstream.name, &prepared.request.model, report.original_chars, report.final_chars);
    gateway.retries.earn();
    let request = || request(&upstream, bytes.clone(), record.id());
    let response = match upstream.link.send(request()?).await {
        Err(LinkError::Broke(error)) if gateway.retries.spend() => {
            tracing::info!(id = %record.id(), %error, "repeating a request whose connection broke before its answer");
            upstream.link.send(request()?).await
        }
        response => response,
    };
    let response = response.map_err(|error| {
        if !matches!(error, LinkError::Leaving) {
            pass.failed();
        }
        link_failure(&error)
    })?;
    let body = accept(response, &mut pass).await?;
    let idle = gateway.deadlines.idle;
    let now = Instant::now();
    let stop = gateway.stops.enter(record.id().as_u128());
    let mut stream = UpstreamStream {
        prepared,
        record: record.take(),
        pass,
        body,
        decoder: Decoder::new(FRAME_BYTES),
        early: None,
        ended: false,
        idle,
        silence: Box::pin(tokio::time::sleep(idle)),
        stop,
        last_event: now,
        deadline: now + gateway.deadlines.total,
    };
    stream.first().await?;
    Ok(stream)
}

fn request(
    upstream: &crate::upstream::Upstream,
    body: Bytes,
    id: request_id::RequestId,
) -> Result<Request<Bytes>, Refusal> {
    upstream
        .request(Method::POST, "/v1/inference/stream")
        .header(header::CONTENT_TYPE, frame::MEDIA_TYPE)
        .header(request_id::HEADER, id.header_value())
        .body(body)
        .map_err(|error| internal(error.to_string()))
}

fn internal(message: String) -> Refusal {
    Refusal::Failed(Failure { code: FailureCode::Internal, message, retry_after_ms: None })
}

fn link_failure(error: &LinkError) -> Refusal {
    let leaving = matches!(error, LinkError::Leaving);
    Refusal::Failed(Failure {
        code: if leaving { FailureCode::Stopping } else { FailureCode::LinkLost },
        message: format!("the inference server cannot be reached: {error}"),
        retry_after_ms: Some(5000),
    })
}

/// The body of an answer that is a stream of frames; anything else is the server's refusal.
async fn accept(response: Response<link::Body>, pass: &mut Pass) -> Result<link::Body, Refusal> {
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        let refused = Limited::new(body, REFUSAL_BYTES).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        return Err(Refusal::Failed(refusal(head.status, &head.headers, &refused, pass)));
    }
    if head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == frame::MEDIA_TYPE) {
        return Ok(body);
    }
    pass.failed();
    Err(Refusal::Failed(Failure {
        code: FailureCode::LinkLost,
        message: format!(
            "the upstream answered with {:?}, expected {:?}: is it a cerebrum-server of this release?",
            head.headers.get(header::CONTENT_TYPE).unwrap_or(&HeaderValue::from_static("nothing")),
            frame::MEDIA_TYPE
        ),
        retry_after_ms: None,
    }))
}

#[derive(Deserialize)]
struct RefusalBody {
    error: String,
    message: String,
}

/// What the server said no with, in our own terms.
fn refusal(status: http::StatusCode, headers: &HeaderMap, body: &[u8], pass: &mut Pass) -> Failure {
    let retry_after_ms = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse::<u32>().ok())
        .map(|seconds| seconds.saturating_mul(1000));
    let parsed = serde_json::from_slice::<RefusalBody>(body).ok();
    let named = parsed.as_ref().and_then(|refusal| FailureCode::from_name(&refusal.error));
    let code = named.unwrap_or(match status.as_u16() {
        403 | 401 | 415 => FailureCode::LinkLost, // our own key or version, not the client's doing
        404 => FailureCode::UnknownModel,
        400..=499 => FailureCode::BadRequest,
        503 => FailureCode::Overloaded,
        _ => FailureCode::Internal,
    });
    if matches!(status.as_u16(), 401 | 403) {
        pass.key_refused();
    }
    let message = parsed.map_or_else(|| format!("it answered {status}"), |refusal| refusal.message);
    judge(code, pass);
    Failure { code, message: format!("inference server: {message}"), retry_after_ms }
}

/// Whether a failure speaks against the upstream: a refusal for cause shows that it works.
fn judge(code: FailureCode, pass: &mut Pass) {
    match code {
        // One model's broken file says nothing of the others.
        FailureCode::BadRequest
        | FailureCode::ContextOverflow
        | FailureCode::UnknownModel
        | FailureCode::LoadFailed => pass.succeeded(),
        FailureCode::Busy | FailureCode::Overloaded | FailureCode::Stopping => {}
        FailureCode::LinkLost | FailureCode::Timeout | FailureCode::Internal => pass.failed(),
    }
}

impl UpstreamStream {
    /// Waits a moment for the first event: a failure becomes a status code instead of a broken stream.
    async fn first(&mut self) -> Result<(), Refusal> {
        let first = std::future::poll_fn(|cx| self.poll_event(cx));
        match tokio::time::timeout(FIRST_EVENT, first).await {
            Ok(Some(InferenceEvent::Error(failure))) => Err(Refusal::Failed(failure)),
            Ok(event) => {
                self.early = event;
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    /// The next event; after the last one, `None`. A broken connection or a silent server is an event too.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<InferenceEvent>> {
        if let Some(event) = self.early.take() {
            return Poll::Ready(Some(event));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let event = match self.poll_frames(cx) {
            Poll::Ready(event) => event,
            Poll::Pending => match self.poll_silence(cx) {
                Poll::Ready(failure) => InferenceEvent::Error(failure),
                Poll::Pending if self.stop.poll(cx).is_ready() => InferenceEvent::Error(stopped()),
                Poll::Pending => return Poll::Pending,
            },
        };
        self.note(&event);
        Poll::Ready(Some(event))
    }

    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<InferenceEvent> {
        loop {
            match self.decoder.next::<InferenceEvent>() {
                Ok(Some(event)) => return Poll::Ready(event),
                Ok(None) => {}
                Err(error) => return Poll::Ready(InferenceEvent::Error(lost(&error.to_string()))),
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(part))) => {
                    if let Ok(data) = part.into_data() {
                        self.decoder.push(data);
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(InferenceEvent::Error(lost(&error.to_string()))),
                Poll::Ready(None) => return Poll::Ready(InferenceEvent::Error(self.cut())),
            }
        }
    }

    fn cut(&self) -> Failure {
        match self.decoder.is_empty() {
            true => lost("it ended without a last event"),
            false => lost(&FrameError::Truncated { missing: 1 }.to_string()),
        }
    }

    /// The server's silence, or the whole answer, has lasted too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        while self.silence.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let limit = (self.last_event + self.idle).min(self.deadline);
            if now >= limit {
                let what = if now >= self.deadline { "the answer takes" } else { "the inference server was silent" };
                let message =
                    format!("{what} longer than allowed; ask for fewer tokens, or raise [stream] in the settings");
                return Poll::Ready(Failure { code: FailureCode::Timeout, message, retry_after_ms: None });
            }
            // Set anew only here, not for every token: a timer's reset costs more than a comparison.
            self.silence.as_mut().reset(limit);
        }
        Poll::Pending
    }

    fn note(&mut self, event: &InferenceEvent) {
        self.last_event = Instant::now();
        if !matches!(event, InferenceEvent::Error(_)) {
            self.pass.alive();
        }
        match event {
            InferenceEvent::Loading { .. } => {}
            InferenceEvent::Progress { processed, total } => {
                self.record.progress(*processed as f32 / (*total).max(1) as f32);
            }
            InferenceEvent::Token { total_tokens, .. } => self.record.tokens(*total_tokens),
            InferenceEvent::Done(completion) => {
                self.pass.succeeded();
                self.record.complete(completion);
                self.ended = true;
            }
            InferenceEvent::Error(failure) => self.fail(failure),
        }
    }

    /// Ends the answer with a failure that was found here.
    pub(super) fn fail(&mut self, failure: &Failure) {
        judge(failure.code, &mut self.pass);
        self.record.failed(failure);
        self.ended = true;
    }
}

fn stopped() -> Failure {
    let message = "stopped by a press on the appliance's button; the answer is incomplete".to_owned();
    Failure { code: FailureCode::Stopping, message, retry_after_ms: None }
}

fn lost(reason: &str) -> Failure {
    Failure {
        code: FailureCode::LinkLost,
        message: format!("the connection to the inference server broke before the answer was complete ({reason})"),
        retry_after_ms: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_a_share_of_requests() {
        let budget = RetryBudget::default();
        assert!(budget.spend() && !budget.spend());
        for _ in 0..10 {
            budget.earn();
        }
        assert!(
            budget.spend() || {
                budget.earn();
                budget.spend()
            }
        );
        for _ in 0..1000 {
            budget.earn();
        }
        assert_eq!((0..1000).filter(|_| budget.spend()).count(), 10);
    }
}
