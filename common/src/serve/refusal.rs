//! Refusals are values; this is the only table of status codes.

use std::time::Duration;

use http::{HeaderValue, Method, Response, StatusCode, header};
use serde::Serialize;

use super::body::{Answer, json};
use crate::keys::Denied;
use crate::wire::dialect::{self, Dialect};
use crate::wire::json::JsonError;
use crate::wire::{Failure, FailureCode};

/// Why a request gets no answer of the kind it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The body is not what the call takes.
    BadRequest {
        /// The field at fault, if one is.
        field: Option<String>,
        /// What was found and expected.
        message: String,
    },
    /// The body broke off.
    BodyBroken {
        /// The transport's words.
        reason: String,
    },
    /// The body is larger than is taken.
    BodyTooLarge {
        /// Bytes seen or announced.
        found: u64,
        /// Bytes allowed.
        limit: usize,
    },
    /// The body did not arrive in time.
    BodyTooSlow {
        /// The deadline.
        after: Duration,
    },
    /// All places are taken.
    Busy {
        /// Short name of who is busy.
        who: &'static str,
        /// When to come back.
        retry_after: Duration,
    },
    /// No key, or a wrong one.
    Denied(Denied),
    /// The upstream answered with a failure, or broke.
    Failed(Failure),
    /// The path exists, but not for this method.
    MethodNotAllowed {
        /// What it takes.
        allowed: Method,
    },
    /// No such path.
    NotFound {
        /// The path asked for.
        path: String,
    },
    /// The program is shutting down.
    Stopping,
    /// An `Idempotency-Key` that stands for another request.
    Reused,
    /// The caller has asked too often.
    TooMany {
        /// What it asked too often for.
        message: &'static str,
        /// When to come back.
        retry_after: Duration,
    },
    /// The content type, or the wire version in it, is not spoken here.
    Unsupported {
        /// What was found and expected.
        message: String,
    },
}

impl From<JsonError> for Refusal {
    fn from(error: JsonError) -> Self {
        Self::BadRequest { field: error.field, message: error.message }
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// For a stream, which has had its status already.
impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let (message, retry_after) = (refusal.message(), refusal.retry_after());
        let code = match refusal {
            Refusal::Failed(failure) => return failure,
            Refusal::Busy { .. } | Refusal::TooMany { .. } => FailureCode::Busy,
            Refusal::Stopping => FailureCode::Stopping,
            _ => FailureCode::BadRequest,
        };
        let retry_after_ms = retry_after.map(|time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
        Self { code, message, retry_after_ms }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl Refusal {
    /// The status code.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest { .. } | Self::BodyBroken { .. } => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Busy { .. } | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            // The original answers 403 for a missing key too, and so do its clients expect.
            Self::Denied(_) => StatusCode::FORBIDDEN,
            Self::Failed(failure) => failure_status(failure.code),
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Reused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unsupported { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    /// The sentence for a person.
    pub fn message(&self) -> String {
        match self {
            Self::BadRequest { message, .. } | Self::Unsupported { message } => message.clone(),
            Self::BodyBroken { reason } => format!("body: it broke off ({reason})"),
            Self::BodyTooLarge { found, limit } => {
                format!("body: found {found} bytes or more, expected at most {limit}; send a shorter prompt")
            }
            Self::BodyTooSlow { after } => {
                format!("body: not complete after {} ms; send it faster or in smaller parts", after.as_millis())
            }
            Self::Busy { .. } => "Too many concurrent requests, retry shortly".to_owned(),
            Self::Denied(Denied::Missing) => {
                "no key: send one as `X-API-Key: <key>` or `Authorization: Bearer <key>`".to_owned()
            }
            Self::Denied(Denied::Wrong) => "the key is not known here: check it, or make a new one".to_owned(),
            Self::Failed(failure) => failure.message.clone(),
            Self::MethodNotAllowed { allowed } => format!("this path takes {allowed}"),
            Self::NotFound { path } => format!("no such path: {path}"),
            Self::Reused => {
                "idempotency-key: found a key that stands for another request (another path or body), expected a new key \
                 for a new request, or the same request again"
                    .to_owned()
            }
            Self::Stopping => "shutting down; retry in a moment".to_owned(),
            Self::TooMany { message, .. } => (*message).to_owned(),
        }
    }

    /// The sentence for a log: what is wrong with a body may quote it, so that only the field is named.
    pub fn for_log(&self) -> String {
        match self {
            Self::BadRequest { field: Some(field), .. } => format!("{}: {}", self.name(), bounded(field)),
            Self::BadRequest { field: None, .. } => self.name().to_owned(),
            Self::Failed(failure) => bounded(&failure.for_log()),
            _ => self.message(),
        }
    }

    /// Short name for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BadRequest { .. } => "bad_request",
            Self::BodyBroken { .. } => "body_incomplete",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyTooSlow { .. } => "body_timeout",
            Self::Busy { who, .. } => who,
            Self::Denied(_) => "forbidden",
            Self::Failed(failure) => failure.code.as_str(),
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::NotFound { .. } => "not_found",
            Self::Reused => "idempotency_key_reused",
            Self::Stopping => "stopping",
            Self::TooMany { .. } => "too_many_requests",
            Self::Unsupported { .. } => "unsupported_media_type",
        }
    }

    /// The status code where answers are in the words of `dialect`: only our own clients expect 403 for a key that is not known.
    fn status_in(&self, dialect: Dialect) -> StatusCode {
        match (self, dialect) {
            (Self::Denied(_), Dialect::Native) => self.status(),
            (Self::Denied(_), _) => StatusCode::UNAUTHORIZED,
            _ => self.status(),
        }
    }

    /// The short name there: one word, whoever is busy.
    fn name_in(&self, dialect: Dialect) -> &'static str {
        match (self, dialect) {
            (_, Dialect::Native) => self.name(),
            (Self::Denied(_), _) => "invalid_api_key",
            (Self::Busy { .. }, _) => FailureCode::Busy.as_str(),
            _ => self.name(),
        }
    }

    /// When trying again makes sense.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } | Self::TooMany { retry_after, .. } => Some(*retry_after),
            Self::Failed(failure) => failure.retry_after_ms.map(|ms| Duration::from_millis(ms.into())),
            Self::Stopping => Some(Duration::from_secs(5)),
            _ => None,
        }
    }

    /// The answer: `{"error":..,"message":..}` with its status and `Retry-After`.
    pub fn response(&self) -> Response<Answer> {
        self.response_in(Dialect::Native)
    }

    /// The same in the words of a client's `dialect`.
    pub fn response_in(&self, dialect: Dialect) -> Response<Answer> {
        let field = match self {
            Self::BadRequest { field, .. } => field.as_deref(),
            _ => None,
        };
        let (message, status, name) = (self.message(), self.status_in(dialect), self.name_in(dialect));
        let problem = dialect::Problem { code: name, message: &message, field };
        let mut response = match dialect::error(dialect, status.as_u16(), &problem) {
            Some(error) => json(status, &error),
            None => json(status, &Body { error: name, message: &message, field }),
        };
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after() {
            let seconds = after.as_millis().div_ceil(1000).max(1) as u64;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Self::MethodNotAllowed { allowed } = self
            && let Ok(value) = HeaderValue::from_str(allowed.as_str())
        {
            response.headers_mut().insert(header::ALLOW, value);
        }
        response
    }
}

/// Longest words of a peer in a log line, in characters.
const LOG_CHARS: usize = 300;

fn bounded(text: &str) -> String {
    text.chars().take(LOG_CHARS).collect()
}

fn failure_status(code: FailureCode) -> StatusCode {
    match code {
        FailureCode::BadRequest | FailureCode::ContextOverflow => StatusCode::BAD_REQUEST,
        FailureCode::UnknownModel => StatusCode::NOT_FOUND,
        FailureCode::Busy | FailureCode::Overloaded | FailureCode::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        FailureCode::LoadFailed | FailureCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        FailureCode::LinkLost => StatusCode::BAD_GATEWAY,
        FailureCode::Timeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn check(refusal: Refusal, status: u16, retry: Option<&str>, body: &str) {
        let response = refusal.response();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap()), retry);
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), body);
    }

    #[tokio::test]
    async fn other_peoples_clients_get_their_status_and_their_codes() {
        let told = async |refusal: &Refusal, dialect| {
            let response = refusal.response_in(dialect);
            let status = response.status().as_u16();
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            (status, serde_json::from_slice::<serde_json::Value>(&bytes).unwrap())
        };
        let denied = Refusal::Denied(Denied::Wrong);
        assert_eq!(told(&denied, Dialect::Native).await.0, 403);
        let (status, openai) = told(&denied, Dialect::Chat).await;
        assert_eq!((status, &openai["error"]["code"]), (401, &"invalid_api_key".into()));
        let (status, anthropic) = told(&denied, Dialect::Messages).await;
        assert_eq!((status, &anthropic["error"]["type"]), (401, &"authentication_error".into()));
        let busy = Refusal::Busy { who: "CM4 busy", retry_after: Duration::from_secs(1) };
        assert_eq!(told(&busy, Dialect::Chat).await.1["error"]["code"], "busy");
    }

    #[tokio::test]
    async fn answers_have_status_sentence_and_retry_after() {
        check(
            Refusal::Busy { who: "CM4 busy", retry_after: Duration::from_millis(1500) },
            503,
            Some("2"),
            r#"{"error":"CM4 busy","message":"Too many concurrent requests, retry shortly"}"#,
        )
        .await;
        check(
            Refusal::BadRequest { field: Some("top_p".into()), message: "top_p: found 2".into() },
            400,
            None,
            r#"{"error":"bad_request","message":"top_p: found 2","field":"top_p"}"#,
        )
        .await;
        check(
            Refusal::BodyTooLarge { found: 5, limit: 4 },
            413,
            None,
            r#"{"error":"body_too_large","message":"body: found 5 bytes or more, expected at most 4; send a shorter prompt"}"#,
        )
        .await;
    }
}
