//! Bad input gets its status and a sentence, and loses nothing: afterwards the programs serve as before, in the same
//! memory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::pki::{Authority, Role};
use cerebrum_common::tls::{ClientFiles, IdentityFiles};
use cerebrum_tests::client::{Client, PATIENCE, eventually};
use cerebrum_tests::stack::{Program, Site};
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn raw(address: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("no end in time").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Bodies that are no requests: what comes back, and words of its sentence.
const WRONG_BODIES: [(&[u8], u16, &str); 12] = [
    (b"", 400, "found nothing"),
    (b"{\"prompt\":", 400, "found invalid JSON"),
    (b"[1]", 400, "found a list, expected a JSON object"),
    (br#"["def f(","python"]"#, 400, "found a list, expected a JSON object"),
    (b"{}", 400, "prompt: found nothing"),
    (br#"{"prompt":7}"#, 400, "prompt: found integer `7`, expected a string"),
    (br#"{"prompt":"x","max_tokens":"many"}"#, 400, "max_tokens: found string"),
    (br#"{"prompt":"x","temperature":3}"#, 400, "temperature: found 3, expected a number from 0 to 2"),
    (br#"{"prompt":"x","stop":[1]}"#, 400, "stop"),
    (br#"{"prompt":"a\u0000b"}"#, 400, "NUL"),
    (b"{\"prompt\":\"\xff\"}", 400, "not UTF-8"),
    (br#"{"prompt":"x","model":"no_such_model"}"#, 404, "no_such_model"),
];

/// One that is too long to stand here, of 5 MiB.
fn too_large() -> Vec<u8> {
    format!("{{\"prompt\":\"{}\"}}", "x".repeat(5 << 20)).into_bytes()
}

#[tokio::test]
async fn every_wrong_body_gets_its_status_and_a_sentence() {
    let site = Site::new().unwrap();
    let _server = site.start_server("").unwrap();
    let _appliance = site.start_appliance("").unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    let large = too_large();
    for path in ["/v1/complete", "/v1/complete/stream"] {
        let cases = WRONG_BODIES.into_iter().chain([(&*large, 413, "expected at most 4194304")]);
        for (body, status, sentence) in cases {
            let answer = lan.whole(Method::POST, path, Bytes::copy_from_slice(body)).await.unwrap();
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            assert_eq!(answer.status, status, "{path} {shown}: {:?}", answer.body);
            let message = answer.json().unwrap()["message"].to_string();
            assert!(message.contains(sentence), "{path} {shown}: {message}");
            assert!(!answer.header("x-request-id").is_empty());
        }
    }
    for (asked, used) in [(0_u64, 1), (1_000_000_000, 32_768)] {
        let body = json!({"prompt": "def f(", "max_tokens": asked, "stop": [" ", "\n", "e", ":"], "temperature": 0});
        let answer = lan.post("/v1/complete", &body).await.unwrap();
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let warning = answer.json().unwrap()["warnings"][0].to_string();
        assert!(warning.contains(&format!("found {asked}, used {used}")), "{warning}");
    }
}

#[tokio::test]
async fn no_key_and_a_wrong_key_are_refused_on_every_path_but_health() {
    let site = Site::new().unwrap();
    let _server = site.start_server("").unwrap();
    let _appliance = site.start_appliance("").unwrap();
    for key in [None, Some("cbr_wrong")] {
        let stranger = Client::plain(site.appliance, key);
        for path in ["/v1/models", "/v1/anything"] {
            let answer = stranger.get(path).await.unwrap();
            let expected = if path == "/v1/models" { (401, "invalid_api_key") } else { (404, "not_found") };
            let error = &answer.json().unwrap()["error"];
            assert_eq!((answer.status.as_u16(), error["code"].as_str().unwrap()), expected, "{error}");
            assert!(error["message"].is_string(), "{error}");
        }
        let anthropic =
            stranger.clone().with_header("anthropic-version", "2023-06-01").get("/v1/models").await.unwrap();
        assert_eq!((anthropic.status.as_u16(), &anthropic.json().unwrap()["type"]), (401, &json!("error")));
        for path in ["/v1/stats", "/v1/vps/health"] {
            assert_eq!(stranger.get(path).await.unwrap().status, 403, "{path}");
        }
        for path in ["/v1/complete", "/v1/complete/stream", "/v1/vps/health"] {
            assert_eq!(stranger.post(path, &json!({"prompt": "x"})).await.unwrap().status, 403, "{path}");
        }
        assert_eq!(stranger.get("/health").await.unwrap().status, 200);
        assert_eq!(stranger.get("/nowhere").await.unwrap().status, 404);
        assert_eq!(stranger.get("/v1/complete").await.unwrap().status, 405);
    }
}

#[tokio::test]
async fn slow_senders_are_told_and_hold_nothing() {
    let site = Site::new().unwrap();
    let _server = site.start_server("").unwrap();
    let _appliance = site.start_appliance("[limits]\nheader_ms = 300\nbody_ms = 300").unwrap();
    let head = raw(site.appliance, b"POST /v1/complete HTTP/1.1\r\nhost: x\r\nx-slow").await;
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    assert!(head.contains("head did not arrive in time"), "{head}");
    let key = site.client_key.expose();
    let body =
        format!("POST /v1/complete HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: 100\r\n\r\n{{\"pro");
    let body = raw(site.appliance, body.as_bytes()).await;
    assert!(body.starts_with("HTTP/1.1 408 "), "{body}");
    assert!(body.contains("not complete after 300 ms"), "{body}");
    let lan = Client::plain(site.appliance, Some(key));
    eventually(&lan, "/health", |health| health["active_count"] == 0).await.unwrap();
}

#[tokio::test]
async fn http_without_tls_and_rubbish_on_the_tls_port_are_answered() {
    let site = Site::new().unwrap();
    let _server = site.start_server("").unwrap();
    let plain = raw(site.server, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(plain.starts_with("HTTP/1.1 400 ") && plain.contains("this port speaks TLS"), "{plain}");
    let rubbish = raw(site.server, &[0, 1, 2, 3, 4, 5]).await;
    assert!(rubbish.starts_with("HTTP/1.1 400 "), "{rubbish}");
}

#[tokio::test]
async fn expired_and_foreign_certificates_are_refused() {
    let site = Site::new().unwrap();
    let server = site.start_server("").unwrap();
    let expired = site.authority.issue("old", Role::Client, &[], -1).unwrap();
    expired.save(site.folder(), "old").unwrap();
    let foreign = Authority::new().unwrap().issue("stranger", Role::Client, &[], 30).unwrap();
    foreign.save(site.folder(), "stranger").unwrap();
    let identity = |name: &str| {
        let at = |end: &str| site.folder().join(format!("{name}.{end}"));
        IdentityFiles { certificate: at("pem"), key: at("key") }
    };
    for identity in [Some(identity("old")), Some(identity("stranger")), None] {
        let files = ClientFiles { ca: site.folder().join("ca.pem"), identity };
        let client = Client::tls(site.server, Some(site.server_key.expose()), files.clone());
        assert!(client.get("/health").await.is_err(), "{files:?}");
    }
    server
        .log()
        .heard(PATIENCE, |line| line.contains("TLS handshake refused") && line.contains("xpired"))
        .await
        .unwrap();
    let good = ClientFiles { ca: site.folder().join("ca.pem"), identity: Some(identity("appliance")) };
    let client = Client::tls(site.server, Some(site.server_key.expose()), good);
    assert_eq!(client.get("/health").await.unwrap().status, 200);
}

/// A client that shows the server the appliance's identity and key.
fn appliances_own(site: &Site) -> Client {
    let at = |name: &str| site.folder().join(name);
    let identity = IdentityFiles { certificate: at("appliance.pem"), key: at("appliance.key") };
    let files = ClientFiles { ca: at("ca.pem"), identity: Some(identity) };
    Client::tls(site.server, Some(site.server_key.expose()), files)
}

#[tokio::test]
async fn an_unknown_wire_version_is_named() {
    let site = Site::new().unwrap();
    let _server = site.start_server("").unwrap();
    let client = appliances_own(&site);
    let frames = client.clone().with_header("content-type", "application/vnd.cerebrum.v1+postcard");
    let answer =
        frames.whole(Method::POST, "/v1/inference/stream", Bytes::from_static(&[9, 0, 0, 0, 0])).await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.json().unwrap()["message"].to_string().contains("wire version: found 9, expected 1"));
    let other = client.with_header("content-type", "application/vnd.cerebrum.v9+postcard");
    let answer = other.whole(Method::POST, "/v1/inference/stream", Bytes::from_static(&[9, 0, 0, 0, 0])).await.unwrap();
    assert_eq!(answer.status, 415);
}

#[tokio::test]
async fn ten_thousand_idle_connections_lock_nobody_out_and_leak_nothing() {
    const CONNECTIONS: usize = 10_000;
    cerebrum_common::program::raise_open_files();
    let site = Site::new().unwrap();
    let _server = site.start_server("").unwrap();
    let appliance = site.start_appliance("").unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    let warm_up = || async {
        let mut idle = Vec::new();
        for _ in 0..1024 {
            idle.push(TcpStream::connect(site.appliance).await.unwrap());
        }
        for _ in 0..50 {
            lan.post("/v1/complete", &json!({"prompt": "def f(", "max_tokens": 1})).await.unwrap();
        }
    };
    warm_up().await;
    eventually(&lan, "/health", |health| health["active_count"] == 0).await.unwrap();
    let before = appliance.rss().unwrap();

    let mut idle = std::collections::VecDeque::new();
    for n in 0..CONNECTIONS {
        idle.push_back(TcpStream::connect(site.appliance).await.unwrap());
        if idle.len() > 4000 {
            idle.pop_front(); // this end's own limit of open files
        }
        if n % 2000 == 0 {
            let answer: Value = lan.get("/health").await.unwrap().json().unwrap();
            assert_eq!(answer["cm4_status"], "healthy");
        }
    }
    assert_eq!(lan.get("/health").await.unwrap().status, 200);
    drop(idle);
    back_to(&appliance, before).await;
    lan.post("/v1/complete", &json!({"prompt": "def f(", "max_tokens": 1})).await.unwrap();
}

/// Waits until a program's memory is within a tenth of what it was.
async fn back_to(program: &Program, before: u64) {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let after = program.rss().unwrap();
        if after <= before + before / 10 {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "RSS before {before}, after {after}");
        tokio::time::sleep(Duration::from_millis(50)).await; // polling a condition
    }
}

#[tokio::test]
async fn bad_input_of_every_kind_leaks_nothing() {
    const ROUNDS: usize = 60;
    let site = Site::new().unwrap();
    let server = site.start_server("").unwrap();
    let appliance = site.start_appliance("").unwrap();
    let large = too_large();
    let once = || everything_wrong(&site, &large);
    for _ in 0..ROUNDS / 4 {
        once().await;
    }
    let before = (appliance.rss().unwrap(), server.rss().unwrap());
    for _ in 0..ROUNDS {
        once().await;
    }
    back_to(&appliance, before.0).await;
    back_to(&server, before.1).await;
    for program in [&appliance, &server] {
        assert!(!program.log().lines().iter().any(|line| line.contains("panicked")));
    }
}

/// One of each, at both programs; what is answered is the other tests' affair.
async fn everything_wrong(site: &Site, large: &[u8]) {
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    let (link, stranger) = (appliances_own(site), Client::plain(site.appliance, Some("cbr_wrong")));
    let bodies = WRONG_BODIES.into_iter().map(|(body, ..)| body).chain([large]);
    for body in bodies {
        for (client, path) in [(&lan, "/v1/complete/stream"), (&link, "/v1/inference/stream")] {
            let answer = client.whole(Method::POST, path, Bytes::copy_from_slice(body)).await.unwrap();
            assert!(answer.status.is_client_error());
        }
    }
    let frames = link.with_header("content-type", "application/vnd.cerebrum.v1+postcard");
    frames.whole(Method::POST, "/v1/inference", Bytes::from_static(&[1, 255, 255, 255, 255])).await.unwrap();
    assert_eq!(stranger.post("/v1/complete", &json!({"prompt": "x"})).await.unwrap().status, 403);
    raw(site.server, b"GET /health HTTP/1.1\r\n\r\n").await;
    raw(site.appliance, b"\x00\x01\x02\r\n\r\n").await;
    drop(TcpStream::connect(site.appliance).await.unwrap().write_all(b"POST /v1/complete HTT").await);
    let nobody = ClientFiles { ca: site.folder().join("ca.pem"), identity: None };
    assert!(Client::tls(site.server, None, nobody).get("/health").await.is_err());
}

/// Each of these bodies is within its bound, but all of them together are not.
#[tokio::test]
async fn bodies_that_are_on_their_way_have_a_bound_together() {
    let site = Site::new().unwrap();
    let _appliance = site.start_appliance("[limits]\nbody_bytes = 1024\n[board]\nbackend = \"off\"").unwrap();
    let key = site.client_key.expose();
    let head = format!("POST /v1/prepare HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\ncontent-length: 1024\r\n\r\n");
    let mut halves = Vec::new();
    for _ in 0..8 {
        let mut socket = TcpStream::connect(site.appliance).await.unwrap();
        socket.write_all(format!("{head}{}", "x".repeat(1023)).as_bytes()).await.unwrap();
        halves.push(socket);
    }
    let lan = Client::plain(site.appliance, Some(key));
    let ask = json!({"prompt": "x".repeat(900)});
    let until = tokio::time::Instant::now() + PATIENCE;
    let refused = loop {
        let answer = lan.post("/v1/prepare", &ask).await.unwrap();
        if answer.status == 503 {
            break answer;
        }
        assert!(tokio::time::Instant::now() < until, "never full: {answer:?}");
    };
    assert_eq!(refused.header("retry-after"), "1");
    drop(halves);
    while lan.post("/v1/prepare", &ask).await.unwrap().status != 200 {
        assert!(tokio::time::Instant::now() < until, "for ever full");
    }
}
