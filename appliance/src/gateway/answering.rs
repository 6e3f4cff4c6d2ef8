//! An answer on its way from its upstream: events, and exactly one last one.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use cerebrum_common::request_id::RequestId;
use cerebrum_common::wire::{Failure, FailureCode, InferenceEvent, held};
use http_body::Body as _;
use tokio::time::{Instant, Sleep};

use super::Gateway;
use super::admit::Spending;
use super::ask::Reader;
use super::cache::{Cache, Lesson, Remembered};
use super::prepare::Prepared;
use super::record::Record;
use super::refused::{judge, lost};
use super::stops::Stop;
use crate::upstream::hold::Hold;
use crate::upstream::{Pass, link, way};

/// How long the first event may decide the status code, before a client gets its headers: refusals of the server come
/// within milliseconds, the first token of a long prompt within minutes.
pub(super) const FIRST_EVENT: Duration = Duration::from_millis(250);

/// Where an answer comes from.
pub(super) struct Source {
    pub(super) body: way::Body,
    pub(super) reader: Reader,
    /// For when the connection breaks.
    pub(super) hold: Option<Hold>,
}

/// Where an answer comes from, for the client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// `vps`, `local` or `cache`.
    pub(super) source: &'static str,
    /// It is one that was given before.
    pub(super) cached: bool,
}

type WayBack = Pin<Box<dyn Future<Output = Result<link::Body, String>> + Send>>;

/// An answer on its way: dropping it cancels the generation, frees the place, reports to the breaker and closes the
/// record.
pub(super) struct UpstreamStream {
    pub(super) id: RequestId,
    pub(super) prepared: Prepared,
    pub(super) record: Record,
    pass: Option<Pass>,
    /// What is being remembered of the answer, and where.
    lesson: Option<(Arc<Cache>, Lesson)>,
    source: Source,
    /// Events of the answer that have come.
    seen: u64,
    /// The connection broke; the answer is being asked for again.
    way_back: Option<WayBack>,
    /// Of what an upstream does for it.
    spending: Option<Spending>,
    early: Option<InferenceEvent>,
    ended: bool,
    idle: Duration,
    silence: Pin<Box<Sleep>>,
    /// Until the end: another answer to the same request goes by the same id.
    stop: Option<Stop>,
    last_event: Instant,
    deadline: Instant,
}

impl UpstreamStream {
    pub(super) fn new(gateway: &Gateway, prepared: Prepared, pass: Pass, source: Source, record: &mut Record) -> Self {
        let lesson = prepared.remember.map(|key| (gateway.cache.clone(), gateway.cache.learn(key)));
        let spending = Some(Spending::new(prepared.permit.clone()));
        Self { lesson, pass: Some(pass), spending, ..Self::over(gateway, prepared, source, record) }
    }

    /// An answer that is remembered.
    pub(super) fn remembered(gateway: &Gateway, prepared: Prepared, answer: &Remembered, record: &mut Record) -> Self {
        record.remembered(answer.model(), &prepared.ready);
        let reader = Reader::Remembered(answer.events().into_iter());
        Self::over(gateway, prepared, Source { body: way::Body::Empty, reader, hold: None }, record)
    }

    fn over(gateway: &Gateway, prepared: Prepared, source: Source, record: &mut Record) -> Self {
        let idle = gateway.deadlines.idle;
        let now = Instant::now();
        Self {
            id: record.id(),
            prepared,
            stop: Some(gateway.stops.enter(record.id().as_u128())),
            record: record.take(),
            pass: None,
            lesson: None,
            source,
            seen: 0,
            way_back: None,
            spending: None,
            early: None,
            ended: false,
            idle,
            silence: Box::pin(tokio::time::sleep(idle)),
            last_event: now,
            deadline: now + gateway.deadlines.total,
        }
    }

    /// Where it comes from.
    pub(super) fn origin(&self) -> Origin {
        match &self.pass {
            None => Origin { source: "cache", cached: true },
            Some(pass) if pass.upstream().local => Origin { source: "local", cached: false },
            Some(_) => Origin { source: "vps", cached: false },
        }
    }

    /// Whether its calls of tools come apart from its text: a service's do, and its text may quote what a call looks like.
    pub(super) fn calls_apart(&self) -> bool {
        matches!(self.source.reader, Reader::Chunks(_))
    }

    /// Waits a moment for the first event: a failure becomes another upstream's chance, or a status code instead of a broken
    /// stream.
    ///
    /// # Errors
    /// The request back, and the record, with the failure.
    pub(super) async fn first(mut self, record: &mut Record) -> Result<Self, (Prepared, Failure)> {
        let first = std::future::poll_fn(|cx| self.poll_frames(cx));
        match tokio::time::timeout(FIRST_EVENT, first).await {
            Ok(InferenceEvent::Error(failure)) => {
                self.pass.iter_mut().for_each(|pass| judge(failure.code, pass));
                *record = self.record;
                Err((self.prepared, failure))
            }
            Ok(event) => {
                self.note(&event);
                self.early = Some(event);
                Ok(self)
            }
            Err(_) => Ok(self),
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
            Poll::Pending => {
                self.record.pause();
                match self.poll_silence(cx) {
                    Poll::Ready(failure) => InferenceEvent::Error(failure),
                    Poll::Pending => match self.stop.as_mut().map_or(Poll::Pending, |stop| stop.poll(cx)) {
                        Poll::Ready(why) => InferenceEvent::Error(stopped(why)),
                        Poll::Pending => return Poll::Pending,
                    },
                }
            }
        };
        self.note(&event);
        Poll::Ready(Some(event))
    }

    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<InferenceEvent> {
        loop {
            if let Some(way_back) = &mut self.way_back {
                match ready!(way_back.as_mut().poll(cx)) {
                    Ok(body) => self.go_on(body),
                    Err(reason) => return Poll::Ready(InferenceEvent::Error(lost(&reason))),
                }
            }
            match self.source.reader.next() {
                Ok(Some(InferenceEvent::Error(failure))) => {
                    return Poll::Ready(InferenceEvent::Error(failure.quoted()));
                }
                Ok(Some(event)) => return Poll::Ready(event),
                Ok(None) => {}
                Err(error) => return Poll::Ready(InferenceEvent::Error(lost(&error))),
            }
            match Pin::new(&mut self.source.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(part))) => {
                    if let Ok(data) = part.into_data()
                        && let Err(error) = self.source.reader.push(data)
                    {
                        return Poll::Ready(InferenceEvent::Error(lost(&error)));
                    }
                }
                Poll::Ready(Some(Err(way::BodyError::Refused(failure)))) => {
                    return Poll::Ready(InferenceEvent::Error(failure));
                }
                Poll::Ready(Some(Err(error))) => {
                    let error = error.to_string();
                    if !self.turn_back(&error) {
                        return Poll::Ready(InferenceEvent::Error(lost(&error)));
                    }
                }
                Poll::Ready(None) => return Poll::Ready(self.source.reader.cut()),
            }
        }
    }

    /// The connection broke: the answer is asked for over the next one, where the server holds it.
    fn turn_back(&mut self, error: &str) -> bool {
        let (Some(pass), Some(hold)) = (&self.pass, &self.source.hold) else { return false };
        let upstream = pass.upstream();
        let Some(way_back) = hold.way_back(upstream, self.seen) else { return false };
        tracing::info!(id = %self.id, upstream = %upstream.name, events = self.seen, reason = error, "the link broke in mid-answer: waiting for it");
        self.way_back = Some(Box::pin(way_back));
        true
    }

    fn go_on(&mut self, body: link::Body) {
        tracing::info!(id = %self.id, events = self.seen, "the answer goes on");
        self.way_back = None;
        self.source.body = way::Body::Frames(body);
        self.source.reader.restart();
        self.last_event = Instant::now();
        self.record.resumed();
    }

    /// The server's silence, or the whole answer, has lasted too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        while self.silence.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            // How long the link may be down is the server's to say, which holds the answer meanwhile.
            let waiting = self.way_back.is_some();
            let limit = if waiting { self.deadline } else { (self.last_event + self.idle).min(self.deadline) };
            if now >= limit {
                let what = if now >= self.deadline { "the answer takes" } else { "the inference server was silent" };
                let message =
                    format!("{what} longer than allowed; ask for fewer tokens, or raise [stream] in the settings");
                return Poll::Ready(Failure { code: FailureCode::Timeout, message, retry_after_ms: None });
            }
            // Set anew only here, not for every token: a timer's reset costs more than a comparison.
            self.silence.as_mut().reset(limit.min(now + self.idle));
        }
        Poll::Pending
    }

    fn note(&mut self, event: &InferenceEvent) {
        self.last_event = Instant::now();
        self.seen += u64::from(held::is_kept(event));
        if !matches!(event, InferenceEvent::Error(_)) {
            self.pass.iter_mut().for_each(Pass::alive);
        }
        if self.lesson.as_mut().is_some_and(|(_, lesson)| !lesson.take(event)) {
            self.lesson = None;
        }
        match event {
            InferenceEvent::Logprobs(_) | InferenceEvent::StopString(_) => {}
            InferenceEvent::Loading { permille } => self.record.loading(f32::from(*permille) / 1000.0),
            InferenceEvent::Progress { processed, total } => {
                self.record.progress(*processed as f32 / (*total).max(1) as f32);
                self.spent(*processed);
            }
            // A heartbeat.
            InferenceEvent::Token { text, .. } if text.is_empty() => {}
            InferenceEvent::Token { total_tokens, .. }
            | InferenceEvent::Reasoning { total_tokens, .. }
            | InferenceEvent::ToolCall { total_tokens, .. }
            | InferenceEvent::Refusal { total_tokens, .. } => {
                self.record.tokens(*total_tokens);
                let read = u32::try_from(self.prepared.ready.report.final_tokens).unwrap_or(u32::MAX);
                self.spent(read.saturating_add(*total_tokens));
            }
            InferenceEvent::Done(completion) => {
                let mut reads_per_s = None;
                if let Some(pass) = &mut self.pass {
                    pass.succeeded();
                    self.prepared.permit.answered();
                    if let Some((cache, lesson)) = self.lesson.take() {
                        cache.keep(lesson, pass.upstream(), completion);
                    }
                    let ready = &mut self.prepared.ready;
                    let (knowledge, model) = (&pass.upstream().knowledge, &ready.call.request.model);
                    knowledge.measure(model, completion);
                    reads_per_s = knowledge.facts(model).prefill_per_s;
                    ready.turn.iter_mut().for_each(|turn| turn.answered(completion, pass.upstream().index));
                }
                self.spending.iter_mut().for_each(|spending| {
                    spending.tokens = completion.usage.prompt_tokens + completion.usage.completion_tokens;
                });
                self.record.complete(completion, reads_per_s);
                self.ended = true;
                self.source.hold.iter_mut().for_each(Hold::over);
            }
            InferenceEvent::Error(failure) => self.fail(failure),
        }
        if self.ended {
            self.stop = None;
        }
    }

    /// So much of the prompt has been read, or all of it and so much written.
    fn spent(&mut self, tokens: u32) {
        self.spending.iter_mut().for_each(|spending| spending.tokens = spending.tokens.max(tokens));
    }

    /// Ends the answer with a failure that was found here.
    pub(super) fn fail(&mut self, failure: &Failure) {
        self.lesson = None;
        self.pass.iter_mut().for_each(|pass| judge(failure.code, pass));
        self.record.failed(failure);
        self.ended = true;
    }
}

fn stopped(why: &str) -> Failure {
    let message = format!("stopped {why}; the answer is incomplete");
    Failure { code: FailureCode::Stopping, message, retry_after_ms: None }
}
