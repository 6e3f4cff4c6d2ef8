//! What an appliance answers, and the reading of its streams. Never prints.

use std::time::Duration;

use cerebrum_common::wire::sse::Decoder;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;

use super::failure::Failure;
use super::server::{Driven, chain};

/// How long the end of the body may lag behind the last event before the connection is closed from this side.
const LINGER: Duration = Duration::from_secs(1);

/// One event of a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// More of the answer.
    Token(String),
    /// How much of the prompt has been read, 0 to 1.
    Progress(f32),
    /// The answer is complete.
    Done(Summary),
    /// Something of a later version: not for this client.
    Other,
}

/// What is said of a complete answer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// The model that answered.
    #[serde(alias = "model_used")]
    pub model: String,
    /// Tokens generated.
    #[serde(alias = "tokens_generated")]
    pub total_tokens: u32,
    /// Seconds that the server worked.
    #[serde(alias = "inference_time_seconds")]
    pub inference_time: f64,
    /// What preparation did, where the appliance tells.
    pub prepared: Option<Sizes>,
    /// What was changed in the request.
    pub warnings: Vec<String>,
}

/// The prompt's size before and after preparation, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Sizes {
    /// As it was sent.
    pub original_chars: u64,
    /// As the model read it.
    pub final_chars: u64,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Whole {
    /// The code.
    pub result: String,
    /// The rest.
    #[serde(flatten)]
    pub summary: Summary,
}

/// All that an event may carry.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw {
    error: Option<Value>,
    message: Option<String>,
    token: Option<String>,
    progress: Option<f32>,
    done: bool,
}

/// The event that `data` describes. An error is looked for first, since it says `done` as well.
fn interpret(data: &str) -> Result<Event, String> {
    let read = |error: serde_json::Error| format!("an event that is not understood: {error}");
    let raw: Raw = serde_json::from_str(data).map_err(read)?;
    Ok(match raw {
        Raw { token: Some(text), .. } => Event::Token(text),
        Raw { done: true, .. } => Event::Done(serde_json::from_str(data).map_err(read)?),
        Raw { progress: Some(share), .. } => Event::Progress(share),
        _ => Event::Other,
    })
}

/// The failure that `data` describes, if it does.
fn failure(data: &str) -> Option<Failure> {
    let raw: Raw = serde_json::from_str(data).ok()?;
    let error = match raw.error? {
        Value::String(name) => name,
        other => other.get("type").and_then(Value::as_str).unwrap_or("error").to_owned(),
    };
    let message = raw.message.unwrap_or_else(|| "the appliance gave no reason".to_owned());
    Some(Failure::Generation { error, message })
}

/// The events of one generation. Dropping them closes the connection, which stops the generation.
pub struct Events {
    authority: String,
    connection: Driven,
    body: Incoming,
    decoder: Decoder,
    tokens: u32,
    done: bool,
}

impl Events {
    pub(super) fn new(authority: String, connection: Driven, body: Incoming) -> Self {
        Self { authority, connection, body, decoder: Decoder::default(), tokens: 0, done: false }
    }

    /// Tokens received so far.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// The next event with its JSON as sent; nothing after [`Event::Done`]. Nothing is lost when this is dropped while it
    /// waits.
    ///
    /// # Errors
    /// An error event, a stream that ends early, or one that is not understood.
    pub async fn next(&mut self) -> Result<Option<(Event, String)>, Failure> {
        while !self.done {
            if let Some(event) = self.decoder.next() {
                return self.take(event.data).map(Some);
            }
            self.receive().await?;
        }
        self.linger().await;
        Ok(None)
    }

    async fn receive(&mut self) -> Result<(), Failure> {
        let frame = match self.connection.run(self.body.frame()).await {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Err(self.incomplete(chain(&error))),
            None => return Err(self.incomplete("the connection was closed".to_owned())),
        };
        match frame.data_ref().map(|bytes| self.decoder.push(bytes)) {
            Some(Err(error)) => Err(self.incomplete(error.to_string())),
            _ => Ok(()),
        }
    }

    fn take(&mut self, data: String) -> Result<(Event, String), Failure> {
        if let Some(failure) = failure(&data) {
            return Err(failure);
        }
        let event =
            interpret(&data).map_err(|found| Failure::NotCerebrum { authority: self.authority.clone(), found })?;
        self.tokens += u32::from(matches!(event, Event::Token(_)));
        self.done = matches!(event, Event::Done(_));
        Ok((event, data))
    }

    fn incomplete(&self, reason: String) -> Failure {
        Failure::Incomplete { tokens: self.tokens, reason }
    }

    /// Lets the appliance end its answer in order: it counts a connection closed before that as a client gone.
    async fn linger(&mut self) {
        let rest = async { while let Some(Ok(_)) = self.connection.run(self.body.frame()).await {} };
        // Whether it ended or not: the answer is complete.
        drop(tokio::time::timeout(LINGER, rest).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_seen_before_done() {
        let data = r#"{"error":"upstream_lost","message":"the link broke","done":true}"#;
        let sentence = failure(data).unwrap().to_string();
        assert_eq!(sentence, "the generation failed: the link broke (upstream_lost)");
    }

    #[test]
    fn events_are_told_apart() {
        assert_eq!(interpret(r#"{"token":"","total_tokens":1}"#), Ok(Event::Token(String::new())));
        assert_eq!(interpret(r#"{"progress":0.5}"#), Ok(Event::Progress(0.5)));
        assert_eq!(interpret(r#"{"step":"plan"}"#), Ok(Event::Other));
        assert!(interpret("[DONE]").is_err());
        let done = r#"{"done":true,"model":"m","total_tokens":3,"prepared":{"original_chars":9,"final_chars":4}}"#;
        let Ok(Event::Done(summary)) = interpret(done) else { panic!("not done") };
        assert_eq!((summary.total_tokens, summary.prepared.unwrap().final_chars), (3, 4));
    }
}
