//! Accepting connections and speaking HTTP on them, until they end or the script cuts them.

use std::convert::Infallible;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{Shared, calls};

/// Streams of one HTTP/2 connection: more than any benchmark opens.
const H2_STREAMS: u32 = 4096;

/// Serves connections until dropped; they end with it.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // A connection that breaks is the caller's affair; tests look at what they have seen of it.
    let mut preface = [0; 4];
    let Ok(()) = stream.set_nodelay(true) else { return };
    match &shared.tls {
        Some(tls) => {
            let acceptor = tokio_rustls::TlsAcceptor::from(tls.current());
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            speak(stream, h2, &shared).await;
        }
        None => {
            let Ok(count) = stream.peek(&mut preface).await else { return };
            let h2 = &preface[..count] == b"PRI ";
            speak(stream, h2, &shared).await;
        }
    }
}

async fn speak(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, h2: bool, shared: &Arc<Shared>) {
    let cut = Arc::new(Notify::new());
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, cut) = (shared.clone(), cut.clone());
        async move { Ok::<_, Infallible>(calls::call(&shared, request, &cut).await) }
    });
    let io = TokioIo::new(io);
    let ended = async {
        if h2 {
            http2::Builder::new(TokioExecutor::new())
                .max_concurrent_streams(H2_STREAMS)
                .initial_connection_window_size(1 << 20)
                .serve_connection(io, service)
                .await
        } else {
            http1::Builder::new().serve_connection(io, service).await
        }
    };
    tokio::select! {
        _broken = ended => {}
        () = cut.notified() => {}
    }
}
