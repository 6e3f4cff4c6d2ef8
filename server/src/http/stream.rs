//! The answer event by event, as server-sent events or postcard frames: events as they come, heartbeats while there are none.
//!
//! The job lives in the body. hyper drops the body when the client has gone, which frees the slot.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cerebrum_common::serve::Answer;
use cerebrum_common::wire::dialect::Speaker;
use cerebrum_common::wire::native::{
    ErrorEvent, TokenEvent, inference_seconds, progress, timestamp, tokens_per_second,
};
use cerebrum_common::wire::{Completion, InferenceEvent, frame, sse};
use http::{HeaderValue, Response, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use serde::Serialize;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::ReusableBoxFuture;

use super::job::Job;
use super::several::Several;

/// Events that are ready together go out together, up to this many bytes: one write instead of many when a client lags.
pub(super) const BATCH_BYTES: usize = 8 << 10;

/// How a stream is written.
#[derive(Debug)]
pub(super) enum Style {
    /// Server-sent events in our own words.
    Events {
        /// Progress as events instead of comments.
        progress: bool,
    },
    /// Server-sent events in other people's.
    Spoken(Speaker),
    /// Postcard frames.
    Frames,
}

/// The end of an event stream.
#[derive(Serialize)]
struct DoneEvent<'a> {
    done: bool,
    model: &'a str,
    total_tokens: u32,
    inference_time: f64,
    tokens_per_second: f64,
    timestamp: String,
    finish_reason: &'static str,
    prompt_tokens: u32,
    cached_tokens: u32,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

/// The streaming answer: `job`'s, and those behind it.
pub(super) fn relay(job: Job, several: Option<Several>, style: Style, heartbeat: Duration) -> Response<Answer> {
    let media_type = if matches!(style, Style::Frames) { frame::MEDIA_TYPE } else { sse::MEDIA_TYPE };
    let body = Relay {
        upcoming: Some(ReusableBoxFuture::new(step(job))),
        several,
        style,
        last: InferenceEvent::Progress { processed: 0, total: 0 },
        out: BytesMut::new(),
        heartbeat,
        silence: Box::pin(tokio::time::sleep(heartbeat)),
    };
    let mut response = Response::new(body.boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx in front would otherwise hold tokens back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

type Step = (Job, Option<InferenceEvent>);

async fn step(mut job: Job) -> Step {
    let event = job.next().await;
    (job, event)
}

struct Relay {
    // The wait for the next event, with the job in it; nothing after the last.
    upcoming: Option<ReusableBoxFuture<'static, Step>>,
    several: Option<Several>,
    style: Style,
    last: InferenceEvent,
    out: BytesMut,
    heartbeat: Duration,
    silence: Pin<Box<Sleep>>,
}

impl Body for Relay {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let relay = &mut *self;
        relay.gather(cx);
        if relay.out.is_empty() && relay.upcoming.is_some() {
            relay.fill_silence(cx);
        }
        if !relay.out.is_empty() {
            relay.silence.as_mut().reset(Instant::now() + relay.heartbeat);
            return Poll::Ready(Some(Ok(Frame::data(relay.out.split().freeze()))));
        }
        if relay.upcoming.is_some() { Poll::Pending } else { Poll::Ready(None) }
    }
}

impl Relay {
    /// Writes the events that are ready.
    fn gather(&mut self, cx: &mut Context<'_>) {
        while self.out.len() < BATCH_BYTES {
            let Some(upcoming) = &mut self.upcoming else { return };
            let Poll::Ready((job, event)) = upcoming.poll(cx) else { return };
            match event {
                Some(event) if !event.is_last() => {
                    upcoming.set(step(job));
                    self.write(&event);
                    self.last = event;
                }
                last => {
                    // The job and with it the slot go before the last bytes do.
                    self.upcoming = None;
                    drop(job);
                    last.iter().for_each(|event| self.write(event));
                    if matches!(last, Some(InferenceEvent::Done(_))) {
                        self.begin_next();
                    }
                }
            }
        }
    }

    /// Another answer to the same request, where it wants one.
    fn begin_next(&mut self) {
        match self.several.as_mut().and_then(Several::next) {
            Some(Ok(job)) => self.upcoming = Some(ReusableBoxFuture::new(step(job))),
            Some(Err(failure)) => self.write(&InferenceEvent::Error(failure)),
            None => {}
        }
    }

    /// Tells the client, and whatever is in between, that the connection lives: by a comment, or the last progress once more.
    fn fill_silence(&mut self, cx: &mut Context<'_>) {
        if self.silence.as_mut().poll(cx).is_pending() {
            return;
        }
        match &self.style {
            Style::Frames => write_frame(&repeated(&self.last), &mut self.out),
            Style::Events { .. } | Style::Spoken(_) => sse::write_comment("heartbeat", &mut self.out),
        }
    }

    fn write(&mut self, event: &InferenceEvent) {
        match &mut self.style {
            Style::Frames => write_frame(event, &mut self.out),
            Style::Events { progress } => write_event(event, *progress, &mut self.out),
            Style::Spoken(speaker) => speaker.write(event, &mut self.out),
        }
    }
}

/// What a stream of frames says in silence: the last event once more, without its text.
pub(super) fn repeated(last: &InferenceEvent) -> InferenceEvent {
    match last {
        InferenceEvent::Token { total_tokens, .. } => {
            InferenceEvent::Token { text: "".into(), total_tokens: *total_tokens }
        }
        InferenceEvent::Logprobs(_) | InferenceEvent::StopString(_) => {
            InferenceEvent::Token { text: "".into(), total_tokens: 0 }
        }
        last => last.clone(),
    }
}

fn write_frame(event: &InferenceEvent, out: &mut BytesMut) {
    // Our own types always serialise; should one not, the peer notices that the last event is missing.
    if let Err(error) = frame::encode(event, out) {
        tracing::error!(%error, "an event could not be written");
    }
}

fn write_event(event: &InferenceEvent, as_events: bool, out: &mut BytesMut) {
    match event {
        InferenceEvent::Token { text, total_tokens } => {
            sse::write_json(&TokenEvent { token: text, total_tokens: *total_tokens }, out);
        }
        InferenceEvent::Done(completion) => sse::write_json(&done(completion), out),
        InferenceEvent::Error(failure) => sse::write_json(&ErrorEvent::from(failure), out),
        InferenceEvent::Loading { permille } if !as_events => {
            sse::write_comment(&format!("loading {:.2}", f32::from(*permille) / 1000.0), out);
        }
        InferenceEvent::Loading { .. } | InferenceEvent::Progress { .. } => match progress(event) {
            Some(progress) if as_events => sse::write_json(&progress, out),
            Some(progress) => sse::write_comment(&format!("progress {:.2}", progress.progress), out),
            None => {}
        },
        // Our own words have none.
        InferenceEvent::Logprobs(_)
        | InferenceEvent::Reasoning { .. }
        | InferenceEvent::StopString(_)
        | InferenceEvent::ToolCall { .. }
        | InferenceEvent::Refusal { .. } => {}
    }
}

fn done(completion: &Completion) -> DoneEvent<'_> {
    DoneEvent {
        done: true,
        model: &completion.model,
        total_tokens: completion.usage.completion_tokens,
        inference_time: inference_seconds(completion),
        tokens_per_second: tokens_per_second(completion),
        timestamp: timestamp(),
        finish_reason: completion.finish.as_str(),
        prompt_tokens: completion.usage.prompt_tokens,
        cached_tokens: completion.usage.cached_tokens,
        warnings: &completion.warnings,
    }
}
