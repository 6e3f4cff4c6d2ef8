//! systemd's watchdog, fed only while the way that requests take is healthy.
//!
//! Owns the probe: a connection to the program's own port, as a client would make it, and an answer in time. A program whose
//! loop is stuck, whose listener is gone or that answers nothing any more is not fed, and systemd starts it anew. What it
//! cannot see: an upstream or a model that does not answer, which is no reason to end the program.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::lifecycle::Tasks;

/// Probes in the time that systemd waits: one may fail, when the machine is busy.
const PROBES: u32 = 3;

/// Feeds the watchdog until the program is told to stop, where systemd wants it fed; how long a stop may last is bounded by
/// the unit. `tls` tells whether the port at `address`
/// speaks TLS.
pub fn start(address: SocketAddr, tls: bool, tasks: &Tasks) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let every = limit / PROBES;
    let own = tasks.clone();
    tasks.spawn(async move {
        while own.until_stopping(feed(address, tls, every)).await.is_some() {
            if own.until_stopping(tokio::time::sleep(every)).await.is_none() {
                return;
            }
        }
    });
}

async fn feed(address: SocketAddr, tls: bool, limit: Duration) {
    match tokio::time::timeout(limit, answers(reachable(address), tls)).await {
        Ok(Ok(())) => crate::lifecycle::notify_alive(),
        Ok(Err(error)) => tracing::warn!(%error, "the program's own port does not answer as it should"),
        Err(_) => tracing::warn!("the program's own port does not answer in {} ms", limit.as_millis()),
    }
}

/// Where a program that listens on `address` can be reached from the same machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Whether the port answers: `200` to `/health` in plain HTTP; with TLS, where a client certificate may be wanted, anything at
/// all to the first bytes.
async fn answers(address: SocketAddr, tls: bool) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut head = [0; 12];
    if tls {
        // Its complaint or its farewell: both come from the loop that serves requests.
        return stream.read(&mut head).await.map(drop);
    }
    stream.read_exact(&mut head).await?;
    if head.starts_with(b"HTTP/1.1 200") {
        return Ok(());
    }
    let found = String::from_utf8_lossy(&head).into_owned();
    Err(std::io::Error::other(format!("found {found:?}, expected HTTP/1.1 200")))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn server(answer: &'static [u8]) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Tasks::new().spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 64];
                stream.read(&mut request).await.unwrap_or_default();
                stream.write_all(answer).await.unwrap_or_default();
            }
        });
        address
    }

    #[tokio::test]
    async fn only_a_good_answer_counts() {
        let good = server(b"HTTP/1.1 200 OK\r\n\r\n").await;
        assert!(answers(good, false).await.is_ok());
        for answer in [&b"HTTP/1.1 503 Service Unavailable\r\n\r\n"[..], b"", b"hello"] {
            let address = server(answer).await;
            assert!(answers(address, false).await.is_err(), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn a_tls_port_that_complains_is_alive_and_one_that_is_gone_is_not() {
        let complains = server(&[21, 3, 3, 0, 2, 2, 40]).await;
        assert!(answers(complains, true).await.is_ok());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = listener.local_addr().unwrap();
        drop(listener);
        assert!(answers(gone, true).await.is_err() && answers(gone, false).await.is_err());
    }

    #[test]
    fn every_address_is_reached_by_its_own() {
        for (listens, reached) in
            [("0.0.0.0:7000", "127.0.0.1:7000"), ("[::]:1", "[::1]:1"), ("192.0.2.7:9", "192.0.2.7:9")]
        {
            assert_eq!(reachable(listens.parse().unwrap()), reached.parse().unwrap());
        }
    }
}
