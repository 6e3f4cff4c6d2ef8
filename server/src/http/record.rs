//! One line of log per inference, written exactly once, when the record is dropped: what was asked of which model, by whom,
//! how it ended. Never a prompt or an answer.

use cerebrum_common::keys::Client;
use cerebrum_common::lifecycle::Tasks;
use cerebrum_common::request_id::RequestId;
use cerebrum_common::wire::InferenceEvent;
use tokio::time::Instant;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// With a complete answer.
    Complete,
    /// The caller left.
    ClientGone,
    /// In mid-answer.
    Failed,
    /// Before it began.
    Refused,
    /// It was a repetition of one that was already being answered.
    Joined,
    /// With the program.
    Stopped,
}

/// The account of one request. Dropping it before an end was noted means that the caller has gone.
#[derive(Debug)]
pub(super) struct Record {
    id: RequestId,
    client: Client,
    tasks: Tasks,
    opened: Instant,
    first_token: Option<Instant>,
    model: String,
    prompt_tokens: u32,
    cached_tokens: u32,
    tokens: u32,
    end: Option<Outcome>,
    reason: String,
}

impl Record {
    /// Opens the account.
    pub(super) fn open(id: RequestId, client: Client, tasks: Tasks) -> Self {
        Self {
            id,
            client,
            tasks,
            opened: Instant::now(),
            first_token: None,
            model: String::new(),
            prompt_tokens: 0,
            cached_tokens: 0,
            tokens: 0,
            end: None,
            reason: String::new(),
        }
    }

    /// The request's id.
    pub(super) fn id(&self) -> RequestId {
        self.id
    }

    /// Who asked.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Until the program ends whatever is still in progress.
    pub(super) fn ending(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        self.tasks.ending()
    }

    /// Which model it is for.
    pub(super) fn model(&mut self, name: &str) {
        name.clone_into(&mut self.model);
    }

    /// The request was refused.
    pub(super) fn refused(&mut self, reason: &str) {
        self.close(Outcome::Refused, reason);
    }

    /// The request was a repetition.
    pub(super) fn joined(&mut self) {
        self.close(Outcome::Joined, "");
    }

    /// One event of the answer.
    pub(super) fn note(&mut self, event: &InferenceEvent) {
        match event {
            InferenceEvent::Loading { .. }
            | InferenceEvent::Logprobs(_)
            | InferenceEvent::Reasoning { .. }
            | InferenceEvent::StopString(_)
            | InferenceEvent::ToolCall { .. }
            | InferenceEvent::Refusal { .. } => {}
            InferenceEvent::Progress { total, .. } => self.prompt_tokens = *total,
            InferenceEvent::Token { total_tokens, .. } => {
                self.first_token.get_or_insert_with(Instant::now);
                self.tokens = *total_tokens;
            }
            InferenceEvent::Done(completion) => {
                self.prompt_tokens = completion.usage.prompt_tokens;
                self.cached_tokens = completion.usage.cached_tokens;
                self.tokens = completion.usage.completion_tokens;
                self.close(Outcome::Complete, "");
            }
            InferenceEvent::Error(failure) => self.close(Outcome::Failed, &failure.message),
        }
    }

    fn close(&mut self, outcome: Outcome, reason: &str) {
        if self.end.is_none() {
            self.end = Some(outcome);
            self.reason = reason.to_owned();
        }
    }

    fn outcome(&self) -> Outcome {
        let dropped = if self.tasks.is_stopping() { Outcome::Stopped } else { Outcome::ClientGone };
        self.end.unwrap_or(dropped)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let first_token = self.first_token.map_or(0, |at| (at - self.opened).as_millis() as u64);
        tracing::info!(
            id = %self.id,
            outcome = ?self.outcome(),
            client = &*self.client.name,
            model = self.model.as_str(),
            prompt_tokens = self.prompt_tokens,
            cached_tokens = self.cached_tokens,
            tokens = self.tokens,
            first_token_ms = first_token,
            ms = self.opened.elapsed().as_millis() as u64,
            reason = self.reason.as_str(),
            "inference"
        );
    }
}
