//! An answer on its way from its upstream: events, and exactly one last one.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use cerebrum_common::request_id::RequestId;
use cerebrum_common::serve::Refusal;
use cerebrum_common::wire::{Completion, Failure, FailureCode, InferenceEvent};
use http_body::Body as _;
use tokio::time::{Instant, Sleep};

use super::Gateway;
use super::ask::Reader;
use super::prepare::Prepared;
use super::record::Record;
use super::refused::{judge, lost};
use super::stops::Stop;
use crate::upstream::{Pass, way};

/// How long the first event may decide the status code, before a client gets its headers: refusals of the server come
/// within milliseconds, the first token of a long prompt within minutes.
const FIRST_EVENT: Duration = Duration::from_millis(250);

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

impl UpstreamStream {
    pub(super) fn new(
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
    pub(super) async fn first(&mut self) -> Result<(), Refusal> {
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
                self.learn(completion);
                self.ended = true;
            }
            InferenceEvent::Error(failure) => self.fail(failure),
        }
    }

    /// Keeps what a complete answer tells for the next request.
    fn learn(&mut self, completion: &Completion) {
        let ready = &mut self.prepared.ready;
        self.pass.upstream().knowledge.measure(&ready.call.request.model, completion);
        if let Some(turn) = &mut ready.turn {
            turn.answered(completion);
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
