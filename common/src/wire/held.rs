//! How an appliance asks a server to hold an answer over a broken connection, and how it comes back for it.
//!
//! With [`HEADER`] a request carries a token that no other request has; a server that holds the answer says in the same header
//! of its answer for how many milliseconds. [`path`] then gives the events behind those named by `Last-Event-ID` (the number of
//! events received: tokens with text, log-probabilities, the last event; progress and heartbeats are not counted), and
//! [`cancel_path`] ends the generation of a client that left while the connection was broken.

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use super::InferenceEvent;

/// On a request: a token (UUID). On its answer: for how many milliseconds it is held.
pub const HEADER: HeaderName = HeaderName::from_static("x-cerebrum-hold");

/// Events received so far; none when absent.
pub const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

/// Where held answers are, by token.
pub const PATH: &str = "/v1/inference/held/";

/// Where they are cancelled.
pub const CANCEL_PATH: &str = "/v1/inference/cancel/";

/// Where the answer with this token is.
pub fn path(token: u128) -> String {
    format!("{PATH}{}", Uuid::from_u128(token))
}

/// Where it is cancelled.
pub fn cancel_path(token: u128) -> String {
    format!("{CANCEL_PATH}{}", Uuid::from_u128(token))
}

/// A token as it is written.
pub fn token_value(token: u128) -> HeaderValue {
    let mut buffer = Uuid::encode_buffer();
    let text = Uuid::from_u128(token).hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
}

/// A token as it was written.
pub fn parse_token(text: &str) -> Option<u128> {
    Uuid::try_parse(text).ok().map(|token| token.as_u128())
}

/// The token of a request that asks for its answer to be held.
pub fn asked(headers: &HeaderMap) -> Option<u128> {
    parse_token(headers.get(HEADER)?.to_str().ok()?)
}

/// Whether an event is part of the answer: counted, held, and given again.
pub fn is_kept(event: &InferenceEvent) -> bool {
    match event {
        InferenceEvent::Token { text, .. } => !text.is_empty(),
        InferenceEvent::Logprobs(_)
        | InferenceEvent::Reasoning { .. }
        | InferenceEvent::StopString(_)
        | InferenceEvent::ToolCall { .. }
        | InferenceEvent::Refusal { .. }
        | InferenceEvent::Done(_)
        | InferenceEvent::Error(_) => true,
        InferenceEvent::Loading { .. } | InferenceEvent::Progress { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_as_they_were_written() {
        let mut headers = HeaderMap::new();
        assert_eq!(asked(&headers), None);
        headers.insert(HEADER, token_value(7));
        assert_eq!(asked(&headers), Some(7));
        headers.insert(HEADER, HeaderValue::from_static("7"));
        assert_eq!(asked(&headers), None);
    }
}
