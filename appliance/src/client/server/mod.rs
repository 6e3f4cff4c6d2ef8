//! One connection per question. The connection lives inside the value that is waited on (no task drives it), so dropping
//! that value closes it at once: this is how a generation is stopped.

mod address;
mod dial;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cerebrum_common::keys::Secret;
use cerebrum_common::wire::native::Generate;
use cerebrum_common::wire::sse::{self, Decoder};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::Instant;

pub use address::Address;

use super::answer::Events;
use super::failure::Failure;
use super::pair::{Begun, Decision};

/// Longest answer that is read as one document, in bytes: 32,768 tokens of code are about 150 KB.
const ANSWER_BYTES: usize = 16 << 20;

/// An appliance, and the key it shall see.
#[derive(Clone, Debug)]
pub struct Server {
    address: Address,
    key: Option<HeaderValue>,
    tls: Option<Arc<ClientConfig>>,
}

/// A report with what came beside it.
#[derive(Debug)]
pub struct Answered {
    /// From the connection's beginning to the answer's.
    pub took: Duration,
    /// The appliance's clock.
    pub date: Option<SystemTime>,
    /// The report.
    pub body: Value,
}

impl Server {
    /// The appliance at `address`; `tls` is needed where the address says so.
    ///
    /// # Errors
    /// A key that no HTTP header can carry.
    pub fn new(address: Address, key: Option<&Secret>, tls: Option<Arc<ClientConfig>>) -> Result<Self, Failure> {
        let key = key.map(|key| HeaderValue::from_str(key.expose())).transpose();
        let mut key = key.map_err(|_| {
            Failure::Usage("the API key holds a character that no key has: is the right file named?".to_owned())
        })?;
        if let Some(key) = &mut key {
            key.set_sensitive(true);
        }
        Ok(Self { address, key, tls })
    }

    /// Host and port, for sentences.
    pub fn authority(&self) -> &str {
        self.address.authority()
    }

    /// Asks for a report.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn report<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send(Method::GET, path, Bytes::new()).await?.document().await
    }

    /// Asks for a report, and keeps what the answer tells about the appliance itself.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn answered(&self, path: &str) -> Result<Answered, Failure> {
        let asked = Instant::now();
        let exchange = self.send(Method::GET, path, Bytes::new()).await?;
        let took = asked.elapsed();
        let date = text(exchange.response.headers(), &header::DATE);
        let date =
            date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| SystemTime::from(date.timestamp()));
        Ok(Answered { took, date, body: exchange.document().await? })
    }

    /// Whether a key is shown.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Whether TLS is spoken.
    pub fn is_tls(&self) -> bool {
        self.address.is_tls()
    }

    /// Asks for a whole answer.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn complete<T: DeserializeOwned>(&self, request: &Generate) -> Result<T, Failure> {
        self.send(Method::POST, "/v1/complete", body(request)?).await?.document().await
    }

    /// Asks for a stream of tokens; dropping it stops the generation.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn stream(&self, request: &Generate) -> Result<Events, Failure> {
        let exchange = self.send(Method::POST, "/v1/complete/stream", body(request)?).await?;
        exchange.expect_type("text/event-stream")?;
        let Exchange { authority, connection, response } = exchange;
        Ok(Events::new(authority, connection, response.into_body()))
    }

    /// Asks with a body of its own.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn ask<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Failure> {
        self.send(Method::POST, path, body.to_string().into()).await?.document().await
    }

    /// The appliance's address as it is typed.
    pub fn url(&self) -> String {
        let scheme = if self.address.is_tls() { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.address.prefix())
    }

    /// Asks for a key under `name`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn pair(&self, name: &str) -> Result<Begun, Failure> {
        self.ask("/v1/pair", &serde_json::json!({ "name": name })).await
    }

    /// What a person has decided; waits a while for it.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn decision(&self, begun: &Begun) -> Result<Decision, Failure> {
        let mut request = self.request(Method::GET, &format!("/v1/pair/{}", begun.id), Bytes::new())?;
        let claim = HeaderValue::from_str(&begun.claim).map_err(|error| Failure::Usage(error.to_string()))?;
        request.headers_mut().insert("x-pairing-claim", claim);
        self.exchange(request).await?.document().await
    }

    /// Watches a stream that goes on until it is dropped.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn watch(&self, path: &str) -> Result<Watch, Failure> {
        let exchange = self.send(Method::GET, path, Bytes::new()).await?;
        exchange.expect_type("text/event-stream")?;
        let Exchange { authority, connection, response } = exchange;
        Ok(Watch { authority, connection, body: response.into_body(), decoder: Decoder::default() })
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Exchange, Failure> {
        self.exchange(self.request(method, path, body)?).await
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Exchange, Failure> {
        let (mut sender, mut connection) = dial::dial(&self.address, self.tls.as_ref()).await?;
        let response = connection.run(sender.send_request(request)).await;
        let response = response.map_err(|error| no_answer(self.authority(), &error))?;
        let exchange = Exchange { authority: self.authority().to_owned(), connection, response };
        if exchange.response.status().is_success() { Ok(exchange) } else { Err(exchange.refusal().await) }
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.address.prefix()))
            .header(header::HOST, self.authority())
            .header(header::USER_AGENT, concat!("cerebrum/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "application/json, text/event-stream");
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = &self.key {
            request = request.header("x-api-key", key);
        }
        request.body(Full::new(body)).map_err(|error| Failure::Usage(format!("--url: {error}")))
    }
}

/// The request as JSON. What was not said stays away, so that every appliance applies its own default.
fn body(request: &Generate) -> Result<Bytes, Failure> {
    let wrong = |error: serde_json::Error| Failure::Usage(error.to_string());
    // By way of text, since a 32-bit 0.2 made a `Value` directly would travel as 0.20000000298023224.
    let text = serde_json::to_string(request).map_err(wrong)?;
    let mut fields: Map<String, Value> = serde_json::from_str(&text).map_err(wrong)?;
    fields.retain(|_, value| !(value.is_null() || *value == Value::Bool(false) || *value == Value::Array(Vec::new())));
    Ok(Bytes::from(Value::Object(fields).to_string()))
}

fn no_answer(authority: &str, error: &hyper::Error) -> Failure {
    let authority = authority.to_owned();
    if error.is_parse() {
        return Failure::NotHttp { authority };
    }
    Failure::Broken { authority, reason: chain(error) }
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// A connection that moves only while something on it is waited for.
pub(super) struct Driven(Option<Pin<Box<dyn Future<Output = ()>>>>);

impl Driven {
    /// Waits for `work`, moving the connection meanwhile.
    pub(super) async fn run<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|cx| {
            if self.0.as_mut().is_some_and(|connection| connection.as_mut().poll(cx).is_ready()) {
                // Its error, if any, reaches `work` through hyper's own channels.
                self.0 = None;
            }
            work.as_mut().poll(cx)
        })
        .await
    }
}

/// A stream of named events.
pub struct Watch {
    authority: String,
    connection: Driven,
    body: Incoming,
    decoder: Decoder,
}

impl Watch {
    /// The next event; `None` at the stream's end.
    ///
    /// # Errors
    /// A stream that breaks.
    pub async fn next(&mut self) -> Result<Option<sse::Event>, Failure> {
        loop {
            if let Some(event) = self.decoder.next() {
                return Ok(Some(event));
            }
            let broken = |reason| Failure::Broken { authority: self.authority.clone(), reason };
            match self.connection.run(self.body.frame()).await {
                None => return Ok(None),
                Some(Err(error)) => return Err(broken(chain(&error))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.decoder.push(&data).map_err(|error| broken(error.to_string()))?;
                    }
                }
            }
        }
    }
}

struct Exchange {
    authority: String,
    connection: Driven,
    response: Response<Incoming>,
}

impl Exchange {
    async fn document<T: DeserializeOwned>(self) -> Result<T, Failure> {
        self.expect_type("application/json")?;
        let authority = self.authority.clone();
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::NotCerebrum { authority, found: format!("its JSON does not fit: {error}") })
    }

    async fn bytes(mut self) -> Result<Bytes, Failure> {
        let body = Limited::new(self.response.into_body(), ANSWER_BYTES);
        let read = self.connection.run(body.collect()).await;
        read.map(http_body_util::Collected::to_bytes)
            .map_err(|error| Failure::Broken { authority: self.authority, reason: chain(error.as_ref()) })
    }

    fn expect_type(&self, expected: &str) -> Result<(), Failure> {
        let found = text(self.response.headers(), &header::CONTENT_TYPE).unwrap_or("no content type");
        if found.starts_with(expected) {
            return Ok(());
        }
        Err(Failure::NotCerebrum { authority: self.authority.clone(), found: format!("{found} instead of {expected}") })
    }

    async fn refusal(self) -> Failure {
        let status = self.response.status();
        let retry_after = text(self.response.headers(), &header::RETRY_AFTER).and_then(|value| value.parse().ok());
        let authority = self.authority.clone();
        let Ok(bytes) = self.bytes().await else { return unlike(authority, status) };
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match sentence(&answer) {
            Some(message) => Failure::Refusal { status, message: message.to_owned(), retry_after },
            None => unlike(authority, status),
        }
    }
}

fn unlike(authority: String, status: StatusCode) -> Failure {
    Failure::NotCerebrum { authority, found: format!("status {status} without a Cerebrum message") }
}

fn text<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The sentence of an error answer: ours, the original appliance's (below `detail`), or OpenAI's (below `error`).
fn sentence(answer: &Value) -> Option<&str> {
    ["/message", "/detail/message", "/error/message", "/detail"]
        .iter()
        .find_map(|at| answer.pointer(at).and_then(Value::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_said_is_not_sent() {
        let request = Generate {
            prompt: Some("x".into()),
            temperature: Some(0.2),
            stop: vec!["END".into()],
            ..Generate::default()
        };
        let sent: Value = serde_json::from_slice(&body(&request).unwrap()).unwrap();
        assert_eq!(sent, serde_json::json!({"prompt": "x", "temperature": 0.2, "stop": ["END"]}));
    }

    #[test]
    fn every_family_of_error_answers_has_its_sentence_found() {
        for text in [r#"{"error":"e","message":"m"}"#, r#"{"detail":{"message":"m"}}"#, r#"{"detail":"m"}"#] {
            assert_eq!(sentence(&serde_json::from_str(text).unwrap()), Some("m"), "{text}");
        }
        assert_eq!(sentence(&Value::Null), None);
    }
}
