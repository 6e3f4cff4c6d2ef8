//! A small HTTP client for tests: one connection a request, nothing hidden, so that a test sees statuses, headers and
//! events as they were sent.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use cerebrum_board::{Page, Snapshot, render};
use cerebrum_common::tls::{ClientFiles, TlsFiles};
use cerebrum_common::wire::{InferenceEvent, frame, sse};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How long any single wait of a test may take; generous, since machines are shared. Reaching it is a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where requests go, and with what key.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    key: Option<String>,
    tls: Option<ClientFiles>,
    headers: Vec<(&'static str, String)>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// With the body, when it is none.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {:?}", self.body))
    }

    /// A header as text, empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Client {
    /// Speaks HTTP/1.1 without TLS.
    pub fn plain(address: SocketAddr, key: Option<&str>) -> Self {
        Self { address, key: key.map(str::to_owned), tls: None, headers: Vec::new() }
    }

    /// Speaks HTTP/2 over TLS to `localhost`.
    pub fn tls(address: SocketAddr, key: Option<&str>, files: ClientFiles) -> Self {
        Self { tls: Some(files), ..Self::plain(address, key) }
    }

    /// The same with one more header.
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// GET.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.whole(Method::GET, path, Bytes::new()).await
    }

    /// POST with a JSON body.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        let typed = self.clone().with_header("content-type", "application/json");
        typed.whole(Method::POST, path, body.to_string().into()).await
    }

    /// Any method, any bytes.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn whole(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Answer> {
        let exchange = async {
            let (response, _connection) = self.send(method, path, body).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(PATIENCE, exchange).await.context("no answer in time")?
    }

    /// POST whose answer is read event by event.
    ///
    /// # Errors
    /// When no answer comes, or another status than 200.
    pub async fn stream(&self, path: &str, body: &Value) -> anyhow::Result<Stream> {
        self.events(Method::POST, path, body.to_string().into()).await
    }

    /// GET whose answer is read event by event.
    ///
    /// # Errors
    /// As [`Self::stream`].
    pub async fn watch(&self, path: &str) -> anyhow::Result<Stream> {
        self.events(Method::GET, path, Bytes::new()).await
    }

    async fn events(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Stream> {
        let sending = self.send(method, path, body);
        let (response, connection) = tokio::time::timeout(PATIENCE, sending).await.context("no answer in time")??;
        if response.status() != StatusCode::OK {
            let status = response.status();
            bail!("status {status}: {:?}", response.into_body().collect().await?.to_bytes());
        }
        Ok(Stream {
            headers: response.headers().clone(),
            body: response.into_body(),
            decoder: sse::Decoder::default(),
            connection,
        })
    }

    /// POST of one frame; the events that come back.
    ///
    /// # Errors
    /// When no answer comes, or it is not frames.
    pub async fn frames(&self, path: &str, body: Bytes) -> anyhow::Result<Vec<InferenceEvent>> {
        let client = self.clone().with_header("content-type", frame::MEDIA_TYPE);
        let answer = client.whole(Method::POST, path, body).await?;
        anyhow::ensure!(answer.status == StatusCode::OK, "status {}: {:?}", answer.status, answer.body);
        let mut decoder = frame::Decoder::new(1 << 20);
        decoder.push(answer.body);
        let mut events = Vec::new();
        while let Some(event) = decoder.next()? {
            events.push(event);
        }
        Ok(events)
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<(Response<Incoming>, Connection)> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => self.http1(stream, self.request(method, path.to_owned(), body)?).await,
            Some(files) => {
                let connector = tokio_rustls::TlsConnector::from(files.build()?);
                let stream = connector.connect("localhost".try_into()?, stream).await?;
                let uri = format!("https://localhost:{}{path}", self.address.port());
                self.http2(stream, self.request(method, uri, body)?).await
            }
        }
    }

    fn request(&self, method: Method, uri: String, body: Bytes) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut builder = Request::builder().method(method).uri(uri);
        if self.tls.is_none() {
            builder = builder.header("host", self.address.to_string());
        }
        if let Some(key) = &self.key {
            builder = builder.header("x-api-key", key);
        }
        for (name, value) in &self.headers {
            builder = builder.header(*name, value);
        }
        Ok(builder.body(Full::new(body))?)
    }

    async fn http1<I>(&self, io: I, request: Request<Full<Bytes>>) -> anyhow::Result<(Response<Incoming>, Connection)>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
        let connection = Connection::run(connection);
        Ok((sender.send_request(request).await?, connection))
    }

    async fn http2<I>(&self, io: I, request: Request<Full<Bytes>>) -> anyhow::Result<(Response<Incoming>, Connection)>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await?;
        let connection = Connection::run(connection);
        Ok((sender.send_request(request).await?, connection))
    }
}

/// An open connection; dropping it closes the socket at once.
#[derive(Debug)]
pub struct Connection(AbortHandle);

impl Connection {
    /// Drives it in the background.
    pub fn run<F>(connection: F) -> Self
    where
        F: Future<Output = Result<(), hyper::Error>> + Send + 'static,
    {
        #[expect(clippy::disallowed_methods, reason = "a test's connection ends with the test, not with a program")]
        let task = tokio::spawn(async move { drop(connection.await) });
        Self(task.abort_handle())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An event stream in progress; dropping it is a client that goes away.
#[derive(Debug)]
pub struct Stream {
    /// The answer's headers.
    pub headers: HeaderMap,
    body: Incoming,
    decoder: sse::Decoder,
    #[expect(dead_code, reason = "closes the socket when dropped")]
    connection: Connection,
}

impl Stream {
    /// The next event's JSON; `None` at the end of the stream.
    ///
    /// # Errors
    /// When the stream breaks, or nothing comes in time.
    pub async fn next(&mut self) -> anyhow::Result<Option<Value>> {
        Ok(self.next_named().await?.map(|(_, event)| event))
    }

    /// The next event's name (empty when it has none) and JSON.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn next_named(&mut self) -> anyhow::Result<Option<(String, Value)>> {
        let Some(event) = self.next_event().await? else { return Ok(None) };
        Ok(Some((event.name, serde_json::from_str(&event.data)?)))
    }

    /// The next event as it was sent.
    ///
    /// # Errors
    /// When the stream breaks, or nothing comes in time.
    pub async fn next_event(&mut self) -> anyhow::Result<Option<sse::Event>> {
        loop {
            if let Some(event) = self.decoder.next() {
                return Ok(Some(event));
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.context("no event in time")?;
            let Some(frame) = frame else { return Ok(None) };
            if let Ok(data) = frame?.into_data() {
                self.decoder.push(&data)?;
            }
        }
    }

    /// All events to the end.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn rest(&mut self) -> anyhow::Result<Vec<Value>> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await? {
            events.push(event);
        }
        Ok(events)
    }
}

/// The text of a stream's token events.
pub fn text_of(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["token"].as_str()).collect()
}

/// The first picture of the appliance's display that is not the splash.
///
/// # Errors
/// No answer, or the splash stays.
pub async fn first_page(client: &Client) -> anyhow::Result<String> {
    let splash = render(&Snapshot::default(), Page::Splash).to_terminal();
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let picture = String::from_utf8(client.get("/display.txt").await?.body.to_vec())?;
        if picture != splash {
            return Ok(picture);
        }
        if tokio::time::Instant::now() >= until {
            bail!("the display shows nothing but the splash");
        }
        tokio::time::sleep(Duration::from_millis(50)).await; // polling a condition, not waiting for a time
    }
}

/// Waits until so many upstreams are available.
///
/// # Errors
/// When they are not in time, with the figures.
pub async fn upstreams_up(client: &Client, wanted: usize) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let figures = String::from_utf8(client.get("/metrics").await?.body.to_vec())?;
        let available = figures.lines().filter(|line| line.starts_with("cerebrum_upstream_available{"));
        if available.filter(|line| line.ends_with(" 1.0")).count() == wanted {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < until, "{figures}");
        tokio::time::sleep(Duration::from_millis(10)).await; // polling a condition
    }
}

/// Asks again and again until `wanted` holds.
///
/// # Errors
/// With the last answer, when it does not within [`PATIENCE`].
pub async fn eventually(client: &Client, path: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = client.get(path).await?.json()?;
        if wanted(&answer) {
            return Ok(answer);
        }
        if tokio::time::Instant::now() >= until {
            bail!("{path} never became as wanted: {answer}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await; // polling a condition, not waiting for a time
    }
}
