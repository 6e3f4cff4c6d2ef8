//! Sends a prepared request to its upstream and turns what comes back into an [`UpstreamStream`]: events, and exactly one
//! last one.
//!
//! A request is repeated only before its first event, only when the connection broke under it, and only within a budget:
//! a server in trouble must not get twice the work.

use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cerebrum_common::request_id::{self, RequestId};
use cerebrum_common::serve::Refusal;
use cerebrum_common::wire::dialect::{Call, openai};
use cerebrum_common::wire::frame::{self, Decoder, FrameError};
use cerebrum_common::wire::{Failure, FailureCode, InferenceEvent, sse};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use tokio::time::{Instant, Sleep};

use super::Gateway;
use super::prepare::Prepared;
use super::record::Record;
use super::route::{self, Routed};
use super::stops::Stop;
use crate::upstream::link::LinkError;
use crate::upstream::way::{self, Way};
use crate::upstream::{Pass, Upstream};

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
    pub(super) id: RequestId,
    pub(super) prepared: Prepared,
    pub(super) record: Record,
    pass: Pass,
    body: way::Body,
    reader: Reader,
    early: Option<InferenceEvent>,
    ended: bool,
    idle: Duration,
    silence: Pin<Box<Sleep>>,
    stop: Stop,
    last_event: Instant,
    deadline: Instant,
}

/// Sends the request; the answer's first event decides whether it is one. An upstream that cannot take it is passed over for
/// the next.
///
/// # Errors
/// What the last upstream refused, or how it could not be reached.
pub(super) async fn forward(
    gateway: &Gateway,
    mut routed: Routed,
    record: &mut Record,
) -> Result<UpstreamStream, Refusal> {
    gateway.retries.earn();
    let mut tried = Vec::new();
    loop {
        tried.push(routed.upstream.index);
        let missed = match open(gateway, routed, record).await {
            Ok(mut stream) => {
                stream.first().await?;
                return Ok(stream);
            }
            Err(missed) => *missed,
        };
        if !missed.elsewhere {
            return Err(missed.refusal);
        }
        let Ok(next) = route::route(&gateway.upstreams, missed.prepared, &tried) else { return Err(missed.refusal) };
        if !gateway.retries.spend() {
            return Err(missed.refusal);
        }
        tracing::info!(id = %record.id(), reason = missed.refusal.for_log(), upstream = %next.upstream.name, "trying the next upstream");
        routed = next;
    }
}

/// A request that an upstream did not take.
struct Missed {
    prepared: Prepared,
    refusal: Refusal,
    /// Another upstream may do better.
    elsewhere: bool,
}

async fn open(gateway: &Gateway, routed: Routed, record: &mut Record) -> Result<UpstreamStream, Box<Missed>> {
    let Routed { prepared, upstream, mut pass } = routed;
    match send(gateway, &prepared, &upstream, &mut pass, record).await {
        Ok((body, reader)) => Ok(UpstreamStream::new(gateway, prepared, pass, (body, reader), record)),
        Err(refusal) => {
            let elsewhere = matches!(
                &refusal,
                Refusal::Failed(Failure {
                    code: FailureCode::LinkLost
                        | FailureCode::Stopping
                        | FailureCode::Busy
                        | FailureCode::Overloaded
                        | FailureCode::UnknownModel,
                    ..
                })
            );
            Err(Box::new(Missed { prepared, refusal, elsewhere }))
        }
    }
}

async fn send(
    gateway: &Gateway,
    prepared: &Prepared,
    upstream: &Upstream,
    pass: &mut Pass,
    record: &mut Record,
) -> Result<(way::Body, Reader), Refusal> {
    let report = &prepared.ready.report;
    let call = &prepared.ready.call;
    record.sent(&upstream.name, &call.request.model, report.original_chars, report.final_chars);
    let Asked { path, media_type, bytes, reader } = ask(upstream, call)?;
    let request = || request(upstream, path, media_type, bytes.clone(), record.id());
    let response = match upstream.way.send(request()?).await {
        Err(LinkError::Broke(error)) if gateway.retries.spend() => {
            tracing::info!(id = %record.id(), %error, "repeating a request whose connection broke before its answer");
            upstream.way.send(request()?).await
        }
        response => response,
    };
    let response = response.map_err(|error| {
        if !matches!(error, LinkError::Leaving) {
            pass.failed();
        }
        link_failure(&error)
    })?;
    Ok((accept(response, reader.media_type(), pass).await?, reader))
}

/// A request in the upstream's words.
struct Asked {
    path: &'static str,
    media_type: &'static str,
    bytes: Bytes,
    reader: Reader,
}

fn ask(upstream: &Upstream, call: &Call) -> Result<Asked, Refusal> {
    Ok(match &upstream.way {
        Way::Frames(_) => Asked {
            path: "/v1/inference/stream",
            media_type: frame::MEDIA_TYPE,
            bytes: frames(call).map_err(|error| internal(error.to_string()))?,
            reader: Reader::Frames(Decoder::new(FRAME_BYTES)),
        },
        Way::Service(service) => {
            let model = upstream.model(&call.request.model).unwrap_or_default();
            let (path, body) = openai::ask(call, model, service.chats_only());
            let reader = Reader::Chunks(Box::new(openai::Reader::new(model)));
            Asked { path, media_type: "application/json", bytes: body.to_string().into(), reader }
        }
    })
}

/// Makes events of an answer's bytes.
enum Reader {
    Frames(Decoder),
    Chunks(Box<openai::Reader>),
}

impl Reader {
    fn media_type(&self) -> &'static str {
        match self {
            Self::Frames(_) => frame::MEDIA_TYPE,
            Self::Chunks(_) => sse::MEDIA_TYPE,
        }
    }

    fn push(&mut self, bytes: Bytes) -> Result<(), String> {
        match self {
            Self::Frames(decoder) => {
                decoder.push(bytes);
                Ok(())
            }
            Self::Chunks(reader) => reader.push(&bytes),
        }
    }

    fn next(&mut self) -> Result<Option<InferenceEvent>, String> {
        match self {
            Self::Frames(decoder) => decoder.next().map_err(|error| error.to_string()),
            Self::Chunks(reader) => Ok(reader.next()),
        }
    }

    /// The event that the end of the bytes stands for.
    fn cut(&mut self) -> InferenceEvent {
        let cut = match self {
            Self::Frames(decoder) if !decoder.is_empty() => FrameError::Truncated { missing: 1 }.to_string(),
            Self::Frames(_) => "it ended without a last event".to_owned(),
            Self::Chunks(reader) => {
                reader.close();
                match reader.next() {
                    Some(last) => return last,
                    None => "it ended without a reason to finish".to_owned(),
                }
            }
        };
        InferenceEvent::Error(lost(&cut))
    }
}

/// One frame, and a second where the first does not say it all.
fn frames(call: &Call) -> Result<Bytes, FrameError> {
    let mut out = BytesMut::with_capacity(call.request.prompt.len() + 256);
    frame::encode(&call.request, &mut out)?;
    if !call.details.is_empty() {
        frame::encode(&call.details, &mut out)?;
    }
    Ok(out.freeze())
}

fn request(
    upstream: &Upstream,
    path: &str,
    media_type: &'static str,
    body: Bytes,
    id: RequestId,
) -> Result<Request<Bytes>, Refusal> {
    upstream
        .request(Method::POST, path)
        .header(header::CONTENT_TYPE, media_type)
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

/// The body of an answer that is a stream of the expected kind; anything else is the server's refusal.
async fn accept(response: Response<way::Body>, expected: &'static str, pass: &mut Pass) -> Result<way::Body, Refusal> {
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        let refused = Limited::new(body, REFUSAL_BYTES).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        return Err(Refusal::Failed(refusal(head.status, &head.headers, &refused, pass)));
    }
    let found = head.headers.get(header::CONTENT_TYPE);
    if found.is_some_and(|kind| kind.as_bytes().starts_with(expected.as_bytes())) {
        return Ok(body);
    }
    pass.failed();
    Err(Refusal::Failed(Failure {
        code: FailureCode::LinkLost,
        message: format!(
            "the upstream answered with {:?}, expected {expected:?}: is its `kind` in the settings right, and its release this one's?",
            found.unwrap_or(&HeaderValue::from_static("nothing")),
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
    fn new(
        gateway: &Gateway,
        prepared: Prepared,
        pass: Pass,
        (body, reader): (way::Body, Reader),
        record: &mut Record,
    ) -> Self {
        let idle = gateway.deadlines.idle;
        let now = Instant::now();
        Self {
            id: record.id(),
            prepared,
            stop: gateway.stops.enter(record.id().as_u128()),
            record: record.take(),
            pass,
            body,
            reader,
            early: None,
            ended: false,
            idle,
            silence: Box::pin(tokio::time::sleep(idle)),
            last_event: now,
            deadline: now + gateway.deadlines.total,
        }
    }

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
            match self.reader.next() {
                Ok(Some(event)) => return Poll::Ready(event),
                Ok(None) => {}
                Err(error) => return Poll::Ready(InferenceEvent::Error(lost(&error))),
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(part))) => {
                    if let Ok(data) = part.into_data()
                        && let Err(error) = self.reader.push(data)
                    {
                        return Poll::Ready(InferenceEvent::Error(lost(&error)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(InferenceEvent::Error(lost(&error.to_string()))),
                Poll::Ready(None) => return Poll::Ready(self.reader.cut()),
            }
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
            InferenceEvent::Loading { .. } | InferenceEvent::Logprobs(_) => {}
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
