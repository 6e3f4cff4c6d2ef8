//! One client's connection: requests one after another, timed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::bail;
use bytes::Bytes;
use cerebrum_common::wire::sse;
use cerebrum_tests::client::Connection;
use cerebrum_tests::scripted::stamp;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

/// An HTTP/1.1 connection that is kept.
#[derive(Debug)]
pub(crate) struct Caller {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    key: String,
    #[expect(dead_code, reason = "closes the socket when dropped")]
    connection: Connection,
}

/// A token's event, as far as it matters here.
#[derive(Deserialize)]
struct Event {
    token: Option<String>,
    #[serde(default)]
    done: bool,
}

impl Caller {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr, key: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, host: address.to_string(), key: key.to_owned(), connection: Connection::run(connection) })
    }

    /// Time until the answer is read to its end, and its status.
    pub(crate) async fn whole(&mut self, body: &Bytes) -> anyhow::Result<(StatusCode, Duration)> {
        let request = self.request("/v1/complete", body)?;
        let sent = Instant::now();
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        response.into_body().collect().await?;
        Ok((status, sent.elapsed()))
    }

    /// Asks for a stream; its events are read by [`Tokens::next`].
    pub(crate) async fn stream(&mut self, body: &Bytes) -> anyhow::Result<Tokens> {
        let response = self.sender.send_request(self.request("/v1/complete/stream", body)?).await?;
        if response.status() != StatusCode::OK {
            bail!("status {}: {:?}", response.status(), response.into_body().collect().await?.to_bytes());
        }
        Ok(Tokens { body: response.into_body(), decoder: sse::Decoder::default(), read: Instant::now() })
    }

    /// Time from the request to its first token. Reads the stream to its end.
    pub(crate) async fn first_token(&mut self, body: &Bytes) -> anyhow::Result<Duration> {
        let sent = Instant::now();
        let mut tokens = self.stream(body).await?;
        let Some(first) = tokens.next().await? else { bail!("a stream without a token") };
        while tokens.next().await?.is_some() {}
        Ok(first.read - sent)
    }

    fn request(&self, path: &str, body: &Bytes) -> anyhow::Result<Request<Full<Bytes>>> {
        Ok(Request::post(path)
            .header("host", &self.host)
            .header("content-type", "application/json")
            .header("x-api-key", &self.key)
            .body(Full::new(body.clone()))?)
    }
}

/// The tokens of a stream.
#[derive(Debug)]
pub(crate) struct Tokens {
    body: Incoming,
    decoder: sse::Decoder,
    read: Instant,
}

/// A token that has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    /// When its bytes were read.
    pub(crate) read: Instant,
    /// Time since the upstream wrote it.
    pub(crate) way: Duration,
}

impl Tokens {
    /// The next token; `None` after the last event, when the whole body has been read.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Token>> {
        let mut arrived = 0;
        loop {
            if let Some(event) = self.decoder.next() {
                let event: Event = serde_json::from_str(&event.data)?;
                if let Some(text) = event.token {
                    let written: u64 = text.parse()?;
                    let arrived = if arrived == 0 { stamp() } else { arrived };
                    return Ok(Some(Token {
                        read: self.read,
                        way: Duration::from_nanos(arrived.saturating_sub(written)),
                    }));
                }
                if event.done {
                    while self.body.frame().await.transpose()?.is_some() {}
                    return Ok(None);
                }
                continue;
            }
            let Some(frame) = self.body.frame().await.transpose()? else { bail!("a stream without its last event") };
            if let Ok(data) = frame.into_data() {
                (self.read, arrived) = (Instant::now(), stamp());
                self.decoder.push(&data)?;
            }
        }
    }
}
