//! Answers as the script has them: streams of events, or one document.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use cerebrum_common::serve::{Answer, Refusal, json};
use cerebrum_common::wire::native::{ErrorEvent, TokenEvent, timestamp};
use cerebrum_common::wire::{Completion, Finish, InferenceEvent, Usage, frame, sse};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::BodyExt;
use serde_json::json as value;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use super::{Ending, Script, Shared, stamp};

/// The name of the model there is not.
pub(super) const MODEL: &str = "scripted";

/// The word every answer consists of.
const WORD: &str = " word";

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Frames,
    Sse,
}

/// One generation in progress; dropped before [`Self::finish`], it counts as left by its caller.
#[derive(Debug)]
pub(super) struct Busy {
    shared: Arc<Shared>,
    cut: Arc<Notify>,
    finished: bool,
}

impl Busy {
    pub(super) fn new(shared: Arc<Shared>, cut: Arc<Notify>) -> Self {
        shared.seen.send_modify(|seen| {
            seen.requests += 1;
            seen.in_progress += 1;
        });
        Self { shared, cut, finished: false }
    }

    fn finish(&mut self) {
        self.finished = true;
    }

    /// Refused requests were answered in full, too.
    pub(super) fn refuse(mut self, response: Response<Answer>) -> Response<Answer> {
        self.finish();
        response
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.shared.seen.send_modify(|seen| {
            seen.in_progress -= 1;
            seen.dropped += u64::from(!self.finished);
        });
    }
}

/// The answer in one piece.
pub(super) async fn whole(script: Script, mut busy: Busy) -> Response<Answer> {
    let wait = script.first_gap + script.gap * script.tokens.saturating_sub(1);
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let response = match &script.ending {
        Ending::Complete => json(
            StatusCode::OK,
            &value!({
                "result": WORD.repeat(script.tokens as usize), "model": MODEL, "tokens_generated": script.tokens,
                "inference_time_seconds": 0.0, "timestamp": timestamp(),
            }),
        ),
        Ending::Fail(failure) => Refusal::Failed(failure.clone()).response(),
        Ending::Stall => std::future::pending().await,
        Ending::Cut => {
            busy.cut.notify_one();
            std::future::pending().await
        }
    };
    busy.finish();
    response
}

/// The answer event by event.
pub(super) fn stream(script: Script, busy: Busy, format: Format) -> Response<Answer> {
    let due = Instant::now() + script.first_gap;
    let timer = Box::pin(tokio::time::sleep_until(due));
    let events = Events { waiting: !script.first_gap.is_zero(), script, busy, format, written: 0, due, timer };
    let mut response = Response::new(events.boxed_unsync());
    let kind = match format {
        Format::Frames => frame::MEDIA_TYPE,
        Format::Sse => sse::MEDIA_TYPE,
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

struct Events {
    script: Script,
    busy: Busy,
    format: Format,
    written: u32,
    /// Whether the next token waits for the timer.
    waiting: bool,
    due: Instant,
    timer: Pin<Box<Sleep>>,
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let event = ready!(self.poll_event(cx));
        Poll::Ready(event.map(|event| Ok(Frame::data(write(&event, self.format)))))
    }
}

impl Events {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<InferenceEvent>> {
        if self.busy.finished {
            return Poll::Ready(None);
        }
        if !self.script.before.is_empty() {
            return Poll::Ready(Some(self.script.before.remove(0)));
        }
        if self.written == self.script.tokens {
            return self.end().map(Some);
        }
        if self.waiting {
            ready!(self.timer.as_mut().poll(cx));
        }
        self.written += 1;
        self.waiting = !self.script.gap.is_zero() && self.written < self.script.tokens;
        if self.waiting {
            // From due time to due time: a late token does not delay those after it.
            self.due = self.due.max(Instant::now() - self.script.gap) + self.script.gap;
            self.timer.as_mut().reset(self.due);
        }
        let text = if self.script.stamped { stamp().to_string() } else { WORD.to_owned() };
        Poll::Ready(Some(InferenceEvent::Token { text: text.into(), total_tokens: self.written }))
    }

    fn end(&mut self) -> Poll<InferenceEvent> {
        let event = match &self.script.ending {
            Ending::Complete => InferenceEvent::Done(completion(self.written)),
            Ending::Fail(failure) => InferenceEvent::Error(failure.clone()),
            Ending::Stall => return Poll::Pending,
            Ending::Cut => {
                self.busy.cut.notify_one();
                return Poll::Pending;
            }
        };
        self.busy.finish();
        Poll::Ready(event)
    }
}

fn completion(tokens: u32) -> Completion {
    Completion {
        model: MODEL.to_owned(),
        finish: Finish::Stop,
        usage: Usage { prompt_tokens: 1, cached_tokens: 0, completion_tokens: tokens },
        prefill_us: 1,
        decode_us: 1,
        warnings: Vec::new(),
    }
}

fn write(event: &InferenceEvent, format: Format) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    match (format, event) {
        // The wire types have no failing implementations; an empty frame would be noticed at once.
        (Format::Frames, event) => frame::encode(event, &mut out).unwrap_or_default(),
        (Format::Sse, InferenceEvent::Token { text, total_tokens }) => {
            sse::write_json(&TokenEvent { token: text, total_tokens: *total_tokens }, &mut out);
        }
        (Format::Sse, InferenceEvent::Done(completion)) => sse::write_json(
            &value!({
                "done": true, "model": completion.model, "total_tokens": completion.usage.completion_tokens,
                "inference_time": 0.0, "timestamp": timestamp(),
            }),
            &mut out,
        ),
        (Format::Sse, InferenceEvent::Error(failure)) => sse::write_json(&ErrorEvent::from(failure), &mut out),
        (
            Format::Sse,
            InferenceEvent::Loading { .. }
            | InferenceEvent::Progress { .. }
            | InferenceEvent::Logprobs(_)
            | InferenceEvent::Reasoning { .. }
            | InferenceEvent::StopString(_)
            | InferenceEvent::ToolCall { .. }
            | InferenceEvent::Refusal { .. },
        ) => {}
    }
    out.freeze()
}
