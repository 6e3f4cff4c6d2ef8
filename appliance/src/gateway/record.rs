//! One record per request, closed exactly once: by its outcome, or by being dropped, which means that the client left.

use std::sync::Arc;
use std::time::Duration;

use cerebrum_common::keys::Client;
use cerebrum_common::lifecycle::Tasks;
use cerebrum_common::request_id::RequestId;
use cerebrum_common::serve::Refusal;
use cerebrum_common::wire::native::inference_seconds;
use cerebrum_common::wire::{Completion, Failure, FailureCode};
use tokio::time::Instant;

use super::Gateway;
use crate::status::{Board, Ending, Event};

/// How a request ended, as the log calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Complete,
    Refused,
    UpstreamFailed,
    TimedOut,
    ClientGone,
    Stopped,
}

/// The open record of one request.
#[derive(Debug)]
pub(super) struct Record(Option<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    id: RequestId,
    opened: Instant,
    client: Option<Arc<str>>,
    model: Arc<str>,
    upstream: Option<Arc<str>>,
    prompt_chars: u64,
    prepared_chars: u64,
    tokens: u32,
    admitted: bool,
    board: Board,
    tasks: Tasks,
}

/// Opens the record of a request.
pub(super) fn open(id: RequestId, gateway: &Gateway) -> Record {
    Record(Some(Entry {
        id,
        opened: Instant::now(),
        client: None,
        model: "".into(),
        upstream: None,
        prompt_chars: 0,
        prepared_chars: 0,
        tokens: 0,
        admitted: false,
        board: gateway.board.clone(),
        tasks: gateway.tasks.clone(),
    }))
}

impl Record {
    /// The request's id.
    pub(super) fn id(&self) -> RequestId {
        self.0.as_ref().map_or_else(RequestId::random, |entry| entry.id)
    }

    /// Hands the record over to the answer's body.
    pub(super) fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    /// The record of one of several answers to the same request, in the same place; the last one's is this record itself, so
    /// that nothing is left of it that nobody closes.
    pub(super) fn share(&mut self, last: bool) -> Self {
        if last {
            return self.take();
        }
        let entry = self.0.clone();
        entry.iter().filter(|entry| entry.admitted).for_each(|entry| entry.board.tell(Event::Admitted));
        Self(entry)
    }

    /// The request has a place.
    pub(super) fn admitted(&mut self, client: &Client) {
        if let Some(entry) = &mut self.0 {
            entry.client = Some(client.name.clone());
            entry.admitted = true;
            entry.board.tell(Event::Admitted);
        }
    }

    /// The request goes to an upstream.
    pub(super) fn sent(&mut self, upstream: &Arc<str>, model: &str, prompt_chars: usize, prepared_chars: usize) {
        let Some(entry) = &mut self.0 else { return };
        entry.upstream = Some(upstream.clone());
        entry.model = model.into();
        entry.prompt_chars = prompt_chars as u64;
        entry.prepared_chars = prepared_chars as u64;
        entry.board.tell(Event::Sent {
            id: entry.id.as_u128(),
            model: entry.model.clone(),
            prompt_chars: entry.prompt_chars,
            prepared_chars: entry.prepared_chars,
        });
    }

    /// The answer is one that was given before.
    pub(super) fn remembered(&mut self, model: &str) {
        if let Some(entry) = &mut self.0 {
            entry.model = model.into();
            entry.board.tell(Event::Remembered);
        }
    }

    /// Part of the prompt has been read.
    pub(super) fn progress(&mut self, share: f32) {
        if let Some(entry) = &mut self.0 {
            entry.board.tell(Event::Progress(share));
        }
    }

    /// Tokens have been written, so many in all.
    pub(super) fn tokens(&mut self, total: u32) {
        if let Some(entry) = &mut self.0 {
            entry.tokens = total;
            entry.board.tell(Event::Tokens(total));
        }
    }

    /// The answer went on over another connection.
    pub(super) fn resumed(&mut self) {
        if let Some(entry) = &mut self.0 {
            entry.board.tell(Event::Resumed);
        }
    }

    /// The answer is complete.
    pub(super) fn complete(&mut self, completion: &Completion) {
        if let Some(entry) = &mut self.0 {
            entry.tokens = completion.usage.completion_tokens;
        }
        self.close(Outcome::Complete, inference_seconds(completion), "");
    }

    /// The answer broke.
    pub(super) fn failed(&mut self, failure: &Failure) {
        let outcome = match failure.code {
            FailureCode::Timeout => Outcome::TimedOut,
            FailureCode::Stopping => Outcome::Stopped,
            _ => Outcome::UpstreamFailed,
        };
        self.close(outcome, 0.0, &failure.message);
    }

    /// The request was refused.
    pub(super) fn refused(&mut self, refusal: &Refusal) {
        match refusal {
            Refusal::Failed(failure) if self.0.as_ref().is_some_and(|entry| entry.upstream.is_some()) => {
                self.failed(failure);
            }
            _ => self.close(Outcome::Refused, 0.0, &refusal.for_log()),
        }
    }

    fn close(&mut self, outcome: Outcome, seconds: f64, reason: &str) {
        let Some(entry) = self.0.take() else { return };
        entry.count(outcome, seconds);
        let took = entry.opened.elapsed();
        if entry.tasks.is_stopping() {
            return entry.log(outcome, took, reason);
        }
        // The line is written when the answer's last bytes are on their way: it takes longer than all else here.
        let reason = reason.to_owned();
        entry.tasks.clone().spawn(async move { entry.log(outcome, took, &reason) });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let stopping = self.0.as_ref().is_some_and(|entry| entry.tasks.is_stopping());
        self.close(if stopping { Outcome::Stopped } else { Outcome::ClientGone }, 0.0, "");
    }
}

impl Entry {
    fn log(&self, outcome: Outcome, took: Duration, reason: &str) {
        tracing::info!(
            id = %self.id,
            outcome = ?outcome,
            client = self.client.as_deref().unwrap_or("-"),
            model = &*self.model,
            upstream = self.upstream.as_deref().unwrap_or("-"),
            prompt_chars = self.prompt_chars,
            prepared_chars = self.prepared_chars,
            tokens = self.tokens,
            ms = took.as_millis() as u64,
            reason,
            "request"
        );
    }

    fn count(&self, outcome: Outcome, seconds: f64) {
        if !self.admitted {
            return;
        }
        let ending = match outcome {
            Outcome::Complete => Ending::Complete,
            Outcome::Refused => Ending::Refused,
            Outcome::UpstreamFailed | Outcome::TimedOut => Ending::Failed,
            Outcome::ClientGone | Outcome::Stopped => Ending::Gone,
        };
        self.board.tell(Event::Ended { outcome: ending, tokens: self.tokens, seconds });
    }
}
