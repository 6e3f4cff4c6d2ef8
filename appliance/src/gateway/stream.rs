//! Relays an answer as server-sent events: tokens as they come, comments while there are none, one last event whatever
//! happens. Nothing is read from the upstream before the client has taken what was sent. Where a request wants several answers,
//! the next one begins when one has ended.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cerebrum_common::serve::Answer;
use cerebrum_common::wire::dialect::{Identity, Speaker};
use cerebrum_common::wire::native::{ErrorEvent, TokenEvent, inference_seconds, progress, timestamp};
use cerebrum_common::wire::{Completion, Failure, FailureCode, InferenceEvent, sse};
use http::{Extensions, HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::BodyExt;
use serde::Serialize;
use tokio::time::{Instant, Sleep};

use super::Gateway;
use super::account::Account;
use super::answering::{Origin, UpstreamStream};
use super::several::Rest;

/// Room for an event of the usual size, in bytes.
const EVENT_BYTES: usize = 128;

/// Events that are ready together go out together, up to this many bytes: one write instead of many when a client lags.
const BATCH_BYTES: usize = 8 << 10;

/// The end of a stream: `{"done":true,"language":..,"model":..,"total_tokens":129,"inference_time":182.14,..}`.
#[derive(Serialize)]
struct DoneEvent<'a> {
    done: bool,
    language: &'a str,
    model: &'a str,
    total_tokens: u32,
    inference_time: f64,
    timestamp: String,
    source: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cached: bool,
    #[serde(flatten)]
    account: Account<'a>,
}

/// The streaming answer, and what follows it.
pub(super) fn relay(gateway: &Gateway, upstream: UpstreamStream, rest: Option<Rest>) -> Response<Answer> {
    let heartbeat = gateway.deadlines.heartbeat;
    let ready = &upstream.prepared.ready;
    let call = &ready.call;
    let identity =
        || Identity { prompt_tokens: ready.prompt_tokens, ..Identity::now(upstream.id, &call.request.model) };
    let mut speaker = Speaker::new(identity, &call.reply);
    speaker.iter_mut().for_each(|speaker| speaker.calls_apart(upstream.calls_apart()));
    let body = Relay {
        speaker,
        progress: call.reply.progress,
        upstream,
        rest,
        out: BytesMut::new(),
        heartbeat,
        silence: Box::pin(tokio::time::sleep(heartbeat)),
        last_write: Instant::now(),
        ending: Box::pin(gateway.tasks.ending()),
        broken: Broken::default(),
    };
    let broken = body.broken.clone();
    let mut response = Response::new(body.boxed_unsync());
    response.extensions_mut().insert(broken);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(sse::MEDIA_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx before the appliance would otherwise hold tokens back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct Relay {
    upstream: UpstreamStream,
    /// The answers behind it.
    rest: Option<Rest>,
    /// Writes in other people's words, where they are wanted.
    speaker: Option<Speaker>,
    progress: bool,
    out: BytesMut,
    heartbeat: Duration,
    silence: Pin<Box<Sleep>>,
    last_write: Instant,
    ending: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    broken: Broken,
}

/// Whether a stream has ended with an error; an extension of its response.
#[derive(Clone, Debug, Default)]
pub(super) struct Broken(Arc<AtomicBool>);

impl Broken {
    /// Whether the stream that `response` is has broken so far.
    pub(super) fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }

    pub(super) fn is_broken(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl http_body::Body for Relay {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let relay = &mut *self;
        let ended = relay.gather(cx);
        if relay.out.is_empty() && !ended {
            relay.fill_silence(cx);
        }
        match (relay.out.is_empty(), ended) {
            (true, true) => Poll::Ready(None),
            (true, false) => Poll::Pending,
            (false, _) => {
                relay.last_write = Instant::now();
                Poll::Ready(Some(Ok(Frame::data(relay.out.split().freeze()))))
            }
        }
    }
}

impl Relay {
    /// Writes the events that are ready; true after the last one.
    fn gather(&mut self, cx: &mut Context<'_>) -> bool {
        while self.out.len() < BATCH_BYTES {
            match self.upstream.poll_event(cx) {
                Poll::Ready(Some(event)) => self.write(&event),
                Poll::Ready(None) => match self.poll_rest(cx) {
                    Poll::Ready(true) => {}
                    Poll::Ready(false) => return true,
                    Poll::Pending => return false,
                },
                Poll::Pending => return false,
            }
        }
        false
    }

    /// Goes over to the next answer; false when there is none.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(false) };
        match ready!(rest.poll_next(cx)) {
            Some(Ok(next)) => {
                self.speaker.iter_mut().for_each(|speaker| speaker.calls_apart(next.calls_apart()));
                self.upstream = next;
            }
            Some(Err(refusal)) => self.write(&InferenceEvent::Error(refusal.into())),
            None => return Poll::Ready(false),
        }
        Poll::Ready(true)
    }

    fn fill_silence(&mut self, cx: &mut Context<'_>) {
        if self.ending.as_mut().poll(cx).is_ready() {
            let message = "the appliance is shutting down; the answer is incomplete".to_owned();
            let failure = Failure { code: FailureCode::Stopping, message, retry_after_ms: None };
            self.upstream.fail(&failure);
            return self.write(&InferenceEvent::Error(failure));
        }
        while self.silence.as_mut().poll(cx).is_ready() {
            let due = self.last_write + self.heartbeat;
            if Instant::now() >= due {
                sse::write_comment("heartbeat", &mut self.out);
                self.silence.as_mut().reset(Instant::now() + self.heartbeat);
                return;
            }
            self.silence.as_mut().reset(due);
        }
    }

    fn write(&mut self, event: &InferenceEvent) {
        if self.out.capacity() - self.out.len() < EVENT_BYTES {
            // For some events at once: one that grows byte by byte is moved several times.
            self.out.reserve(EVENT_BYTES * 4);
        }
        if let InferenceEvent::Error(failure) = event {
            self.broken.0.store(true, Ordering::Relaxed);
            if let Some(rest) = self.rest.take() {
                rest.fail(failure);
            }
        }
        if let Some(speaker) = &mut self.speaker {
            return speaker.write(event, &mut self.out);
        }
        match event {
            // The server's own heartbeat between two tokens.
            InferenceEvent::Token { text, .. } if text.is_empty() => sse::write_comment("heartbeat", &mut self.out),
            // Our own words have no other place for why a model will not answer.
            InferenceEvent::Token { text, total_tokens } | InferenceEvent::Refusal { text, total_tokens } => {
                sse::write_json(&TokenEvent { token: text, total_tokens: *total_tokens }, &mut self.out);
            }
            InferenceEvent::Done(completion) => {
                let done = done_event(&self.upstream, completion);
                sse::write_json(&done, &mut self.out);
            }
            InferenceEvent::Error(failure) => sse::write_json(&ErrorEvent::from(failure), &mut self.out),
            InferenceEvent::Loading { permille } if !self.progress => {
                sse::write_comment(&format!("loading {:.2}", f32::from(*permille) / 1000.0), &mut self.out);
            }
            InferenceEvent::Loading { .. } | InferenceEvent::Progress { .. } => self.write_progress(event),
            // Our own words have none of these; that the model thinks, or calls, is a sign of life.
            InferenceEvent::Logprobs(_) | InferenceEvent::StopString(_) => {}
            InferenceEvent::Reasoning { .. } | InferenceEvent::ToolCall { .. } => {
                sse::write_comment("heartbeat", &mut self.out);
            }
        }
    }

    fn write_progress(&mut self, event: &InferenceEvent) {
        match progress(event) {
            Some(progress) if self.progress => sse::write_json(&progress, &mut self.out),
            Some(progress) => sse::write_comment(&format!("progress {:.2}", progress.progress), &mut self.out),
            None => {}
        }
    }
}

fn done_event<'a>(upstream: &'a UpstreamStream, completion: &'a Completion) -> DoneEvent<'a> {
    let ready = &upstream.prepared.ready;
    let Origin { source, cached } = upstream.origin();
    DoneEvent {
        source,
        cached,
        done: true,
        language: &ready.language,
        model: &completion.model,
        total_tokens: completion.usage.completion_tokens,
        inference_time: inference_seconds(completion),
        timestamp: timestamp(),
        account: Account::new(ready, completion),
    }
}
