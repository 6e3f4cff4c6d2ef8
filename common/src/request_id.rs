//! `X-Request-ID`: one UUID that follows a request through both programs' logs.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// The header, on requests and answers.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// A request's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(Uuid);

impl RequestId {
    /// The client's id when it sent a valid UUID, else a new one. Anything else is replaced: it would end up in logs.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let sent = headers.get(HEADER).and_then(|value| Uuid::try_parse_ascii(value.as_bytes()).ok());
        Self(sent.unwrap_or_else(Uuid::new_v4))
    }

    /// A new id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// As a number.
    pub fn as_u128(self) -> u128 {
        self.0.as_u128()
    }

    /// As a header's value.
    pub fn header_value(self) -> HeaderValue {
        let mut buffer = Uuid::encode_buffer();
        let text = self.0.hyphenated().encode_lower(&mut buffer);
        HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_uuid_is_taken_over() {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_static("7f0c0b2e-3c5e-4a38-9a0e-0d5f8a1b2c3d"));
        assert_eq!(RequestId::from_headers(&headers).to_string(), "7f0c0b2e-3c5e-4a38-9a0e-0d5f8a1b2c3d");
        headers.insert(HEADER, HeaderValue::from_static("fake id\" level=error"));
        let drawn = RequestId::from_headers(&headers);
        assert_ne!(drawn, RequestId::from_headers(&headers));
        assert_eq!(drawn.header_value().to_str().unwrap(), drawn.to_string());
    }
}
