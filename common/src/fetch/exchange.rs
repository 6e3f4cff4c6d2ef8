//! One HTTP exchange for a file, from some byte on. Follows redirections; decides what is worth another attempt.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::keys::Secret;
use crate::lifecycle::Tasks;
use crate::tls::client_roots;

/// Why an exchange gave nothing (more).
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may go better another time.
    Passing(String),
    /// It will not.
    Lasting(String),
}

impl Trouble {
    fn passing(reason: impl ToString) -> Self {
        Self::Passing(reason.to_string())
    }

    fn lasting(reason: impl ToString) -> Self {
        Self::Lasting(reason.to_string())
    }
}

/// How patient to be.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Silence after which a connection counts as dead.
    pub idle: Duration,
    /// Exchanges in a row that may bring not a single byte.
    pub attempts: u32,
    /// Pause after the first of them; twice as long after each further one.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60), attempts: 6, pause: Duration::from_secs(1) }
    }
}

/// A client that fetches files.
pub struct Client {
    tls: TlsConnector,
    token: Option<Secret>,
    pub(super) patience: Patience,
    tasks: Tasks,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// An answer whose head has arrived.
pub(super) struct Answer {
    /// The file's byte with which it begins.
    pub(super) from: u64,
    /// Length of the whole file, where the other end says it.
    pub(super) total: Option<u64>,
    /// By which a later request can ask for the rest of this same file.
    pub(super) validator: Option<String>,
    /// SHA-256 of the whole file, where the hub says it.
    pub(super) sha256: Option<String>,
    /// Nothing when the file has no byte more.
    body: Option<Incoming>,
    idle: Duration,
}

impl Answer {
    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Trouble> {
        let Some(body) = &mut self.body else { return Ok(None) };
        loop {
            match tokio::time::timeout(self.idle, body.frame()).await {
                Err(_) => return Err(Trouble::passing("nothing came any more")),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(Trouble::passing(format!("the connection was cut ({error})"))),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    Err(_trailers) => {}
                },
            }
        }
    }
}

impl Client {
    /// A client that trusts whom the system trusts. A `token` is shown to those who are asked first, not to where they send on.
    pub fn new(token: Option<Secret>, patience: Patience) -> Self {
        // A root that cannot be read is one less to trust; without any, the handshake says so.
        let config = match client_roots(None) {
            Ok(config) => config,
            Err(error) => unreachable!("ring has the default versions, and no file is read: {error}"),
        };
        Self { tls: TlsConnector::from(Arc::new(config)), token, patience, tasks: Tasks::new() }
    }

    /// Asks for the file from byte `from` on, if it is still the one that `validator` was given for; otherwise for all of it.
    pub(super) async fn get(&self, url: &Uri, from: u64, validator: Option<&str>) -> Result<Answer, Trouble> {
        let mut range = validator.filter(|_| from > 0).map(|validator| (from, validator));
        let mut at = url.clone();
        let mut sha256 = None;
        for _ in 0..REDIRECTIONS {
            // What proves who asks is for the one who was asked.
            let known = at.authority() == url.authority();
            let response = self.exchange(&at, range, known).await?;
            sha256 = sha256.or_else(|| hash(response.headers()));
            match redirection(&response) {
                None if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && range.is_some() => {
                    let unit = text(&response, header::CONTENT_RANGE).and_then(|told| told.strip_prefix("bytes */"));
                    if unit.and_then(|total| total.parse().ok()) == Some(from) {
                        let validator = validator.map(str::to_owned);
                        let idle = self.patience.idle;
                        return Ok(Answer { from, total: Some(from), validator, sha256, body: None, idle });
                    }
                    // What is here is no beginning of what is there.
                    range = None;
                }
                None => return self.answer(response, range, sha256),
                Some(location) => {
                    let refused =
                        || Trouble::lasting(format!("sent on to {location:?}, where nothing is fetched from"));
                    at = redirected(&at, &location).ok_or_else(refused)?;
                }
            }
        }
        Err(Trouble::lasting("sent from one place to the next without end"))
    }

    async fn exchange(
        &self,
        url: &Uri,
        range: Option<(u64, &str)>,
        known: bool,
    ) -> Result<Response<Incoming>, Trouble> {
        let answered = async {
            let host = url.host().unwrap_or_default();
            let secure = url.scheme_str() == Some("https");
            let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let socket = TcpStream::connect((bare, port)).await.map_err(Trouble::passing)?;
            let request = self.request(url, range, known)?;
            if !secure {
                return self.send(socket, request).await;
            }
            let name = ServerName::try_from(bare.to_owned()).map_err(Trouble::lasting)?;
            let stream = self.tls.connect(name, socket).await.map_err(Trouble::lasting)?;
            self.send(stream, request).await
        };
        let late = |_| Trouble::passing("no answer in time");
        tokio::time::timeout(self.patience.idle, answered).await.map_err(late)?
    }

    fn request(&self, url: &Uri, range: Option<(u64, &str)>, known: bool) -> Result<Request<Empty<Bytes>>, Trouble> {
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let host = url.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::get(path)
            .header(header::HOST, host.rsplit('@').next().unwrap_or(host))
            .header(header::USER_AGENT, concat!("cerebrum/", env!("CARGO_PKG_VERSION")))
            // The bytes as they are: hash and ranges are about them.
            .header(header::ACCEPT_ENCODING, "identity");
        if let Some((from, validator)) = range {
            request = request.header(header::RANGE, format!("bytes={from}-")).header(header::IF_RANGE, validator);
        }
        if let Some(token) = self.token.as_ref().filter(|_| known) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        request.body(Empty::new()).map_err(Trouble::lasting)
    }

    async fn send<S>(&self, stream: S, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, Trouble>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Trouble::passing)?;
        // Ends with the answer's body; what goes wrong is seen there.
        self.tasks.spawn(async { drop(connection.await) });
        sender.send_request(request).await.map_err(Trouble::passing)
    }

    fn answer(
        &self,
        response: Response<Incoming>,
        range: Option<(u64, &str)>,
        sha256: Option<String>,
    ) -> Result<Answer, Trouble> {
        let text = |name| text(&response, name);
        let (from, total) = match response.status() {
            StatusCode::OK => (0, text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok())),
            StatusCode::PARTIAL_CONTENT => {
                let range = text(header::CONTENT_RANGE).and_then(content_range).zip(range);
                let ((begins, total), (from, _)) =
                    range.ok_or_else(|| Trouble::lasting("sent a part nobody asked for"))?;
                if begins != from {
                    return Err(Trouble::lasting(format!("sent from byte {begins}, asked for {from}")));
                }
                (from, total)
            }
            status => return Err(refused(status)),
        };
        // By a weak one, two files that differ may be taken for one.
        let strong = text(header::ETAG).filter(|tag| tag.starts_with('"'));
        let validator = strong.or_else(|| text(header::LAST_MODIFIED)).map(str::to_owned);
        Ok(Answer { from, total, validator, sha256, idle: self.patience.idle, body: Some(response.into_body()) })
    }
}

fn text<B>(response: &Response<B>, name: header::HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

fn refused(status: StatusCode) -> Trouble {
    let reason = format!("answered {status}");
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Trouble::Passing(reason),
        _ if status.is_server_error() => Trouble::Passing(reason),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Trouble::Lasting(format!("{reason}: it may want a token")),
        _ => Trouble::Lasting(reason),
    }
}

fn redirection(response: &Response<Incoming>) -> Option<String> {
    text(response, header::LOCATION).filter(|_| response.status().is_redirection()).map(str::to_owned)
}

// The hub names large files by their SHA-256, first of all in the answer that sends on to where they are stored.
fn hash(headers: &HeaderMap) -> Option<String> {
    let tag = headers.get("x-linked-etag").or_else(|| headers.get(header::ETAG))?.to_str().ok()?;
    let tag = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
    let is_hash = tag.len() == 64 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| tag.to_ascii_lowercase())
}

// `bytes 10-99/100`: the first byte, and the length where it is known.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

const REDIRECTIONS: u32 = 8;

/// The place that an answer sends to, as seen from where it came from. Never from TLS to the clear.
fn redirected(from: &Uri, location: &str) -> Option<Uri> {
    let to: Uri = match location.starts_with('/') && !location.starts_with("//") {
        true => format!("{}://{}{location}", from.scheme_str()?, from.authority()?).parse().ok()?,
        false => location.parse().ok()?,
    };
    let kept = from.scheme_str() == to.scheme_str() || to.scheme_str() == Some("https");
    Some(to).filter(|to| kept && to.host().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_stay_safe() {
        let to = |from: &str, location: &str| redirected(&from.parse().unwrap(), location).map(|to| to.to_string());
        assert_eq!(to("https://h:1/a", "/b?c").as_deref(), Some("https://h:1/b?c"));
        assert_eq!(to("https://h/a", "https://cdn/b").as_deref(), Some("https://cdn/b"));
        assert_eq!(to("http://h/a", "https://cdn/b").as_deref(), Some("https://cdn/b"));
        for location in ["http://cdn/b", "//cdn/b", "b", ""] {
            assert_eq!(to("https://h/a", location), None, "{location}");
        }
    }
}
