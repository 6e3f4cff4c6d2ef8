//! Name lookup, TCP, TLS, HTTP/1.1: each step with its own sentence when it fails.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::failure::Distrust;
use super::{Address, Driven, Failure, chain};

/// How long one address may take to answer. A box on the same network answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// A generation may be silent for minutes, so that only the transport can tell a dead link: after 30 s of silence it asks
/// every 10 s, and the third question without an answer ends the connection.
const QUIET: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_secs(10);
const QUESTIONS: u32 = 3;

/// Opens a connection.
pub(super) async fn dial(
    address: &Address,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<(SendRequest<Full<Bytes>>, Driven), Failure> {
    let tcp = connect(address).await?;
    match tls.filter(|_| address.is_tls()) {
        None => speak(tcp, address).await,
        Some(config) => speak(secure(tcp, address, config).await?, address).await,
    }
}

async fn speak<S>(stream: S, address: &Address) -> Result<(SendRequest<Full<Bytes>>, Driven), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let broken = |error: hyper::Error| Failure::Broken { authority: address.authority().into(), reason: chain(&error) };
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
    Ok((sender, Driven(Some(Box::pin(async move { drop(connection.await) })))))
}

async fn connect(address: &Address) -> Result<TcpStream, Failure> {
    let host = address.host();
    let lookup = tokio::net::lookup_host((host, address.port())).await;
    let found = lookup.map_err(|source| Failure::Lookup { host: host.to_owned(), source })?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in found {
        match attempt(candidate).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(unreachable(address, last))
}

async fn attempt(candidate: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(PATIENCE, TcpStream::connect(candidate)).await.map_err(|_| too_slow("connection"))??;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(QUIET).with_interval(ASK_EVERY).with_retries(QUESTIONS);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

fn too_slow(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no {what} within {} s", PATIENCE.as_secs()))
}

fn unreachable(address: &Address, source: io::Error) -> Failure {
    let authority = address.authority().to_owned();
    match source.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused { authority },
        _ => Failure::Connect { authority, source },
    }
}

async fn secure(
    tcp: TcpStream,
    address: &Address,
    config: &Arc<ClientConfig>,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
    let name = ServerName::try_from(address.host().to_owned())
        .map_err(|_| Failure::Usage(format!("url: {:?} is no name that a certificate could hold", address.host())))?;
    let shaken = timeout(PATIENCE, TlsConnector::from(config.clone()).connect(name, tcp)).await;
    shaken.unwrap_or_else(|_| Err(too_slow("TLS handshake"))).map_err(|error| judge(address, error))
}

/// What a failed handshake means.
fn judge(address: &Address, source: io::Error) -> Failure {
    let authority = address.authority().to_owned();
    match source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => Failure::PlainPort { authority },
        Some(rustls::Error::InvalidCertificate(error)) => {
            Failure::Certificate { authority, distrust: Distrust::of(error) }
        }
        _ => Failure::Tls { authority, source },
    }
}
