//! What a request holds is given back however it ends: the slot, the record; and the record is written exactly once.

#[expect(dead_code, reason = "each test program uses its part")]
mod support;

use std::time::Duration;

use cerebrum_engine::Limits;
use cerebrum_engine::scripted::Script;
use http::Method;
use serde_json::{Value, json};
use support::{KEY, ONE, PATIENCE, Site, Stream, eventually, lines, log, scripted};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn endless() -> Script {
    Script::saying("y".repeat(4000)).step_delay(Duration::from_millis(2))
}

fn ask() -> Value {
    json!({"prompt": "very_secret_prompt", "max_tokens": 4000})
}

/// The slot is free again, and the one record of a request that the caller left is there.
async fn gone(site: &Site) {
    site.idle().await;
    eventually(|| !lines("outcome=ClientGone").is_empty()).await;
    let records = lines("outcome=");
    assert_eq!(records.len(), 1, "{records:?}");
    let answer = site.post("/v1/inference", json!({"prompt": "x", "max_tokens": 1})).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
}

#[tokio::test]
async fn a_caller_that_closes_its_connection_frees_the_slot() {
    log();
    let site = scripted(endless(), ONE);
    let mut stream = site.open(false, ask()).await;
    stream.until("\"token\"").await;
    drop(stream);
    gone(&site).await;
}

#[tokio::test]
async fn a_caller_that_resets_its_http2_stream_frees_the_slot() {
    log();
    let site = scripted(endless(), ONE);
    let mut stream = site.open(true, ask()).await;
    stream.until("\"token\"").await;
    // Only the body: the connection stays, as it does in an appliance.
    let Stream { response, connection, sender: _sender, socket: _socket } = stream;
    drop(response);
    gone(&site).await;
    assert!(!connection.0.is_finished());
}

fn raw(path: &str) -> String {
    let body = ask().to_string();
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[tokio::test]
async fn a_caller_that_closes_its_half_frees_the_slot() {
    log();
    let site = scripted(endless(), ONE);
    let mut socket = TcpStream::connect(site.address).await.unwrap();
    socket.write_all(raw("/v1/inference/stream").as_bytes()).await.unwrap();
    assert!(socket.read(&mut [0; 64]).await.unwrap() > 0);
    socket.shutdown().await.unwrap();
    gone(&site).await;
}

#[tokio::test]
async fn a_caller_that_leaves_before_the_first_byte_frees_the_slot() {
    log();
    let site = scripted(endless(), ONE);
    let mut socket = TcpStream::connect(site.address).await.unwrap();
    socket.write_all(raw("/v1/inference").as_bytes()).await.unwrap();
    eventually(|| site.registry.snapshots().iter().any(|model| model.active == 1)).await;
    drop(socket);
    gone(&site).await;
}

#[tokio::test]
async fn each_end_has_its_record_without_a_word_of_the_prompt() {
    log();
    let site = scripted(Script::saying("very_secret_answer"), Limits::default());
    let ids = [(200, "Complete"), (404, "Refused")].map(|(status, outcome)| (status, outcome, uuid(status)));
    for (status, outcome, id) in &ids {
        let model = if *status == 200 { "tiny" } else { "nope" };
        let headers = [("x-api-key", KEY), ("x-request-id", id.as_str())];
        let body = json!({"prompt": "very_secret_prompt", "model": model}).to_string();
        let answer = site.request(Method::POST, "/v1/inference", &headers, body).await;
        assert_eq!(answer.status, *status);
        let records = lines(id);
        assert_eq!(records.len(), 1, "{records:?}");
        assert!(records[0].contains(&format!("outcome={outcome}")) && records[0].contains("client=\"test\""));
    }
    assert!(lines("very_secret").is_empty(), "{:?}", lines("very_secret"));
    assert!(lines(&ids[0].2)[0].contains("prompt_tokens=19") && lines(&ids[0].2)[0].contains("tokens=18"));
}

fn uuid(number: u16) -> String {
    format!("7f0c0b2e-3c5e-4a38-9a0e-{number:012}")
}

#[tokio::test]
async fn a_stop_tells_streams_that_outlive_the_grace() {
    log();
    let site = scripted(endless(), ONE);
    let mut stream = site.open(false, ask()).await;
    stream.until("\"token\"").await;
    let (in_time, rest) = tokio::join!(site.tasks.drain(Duration::from_millis(50)), stream.until("\"done\":true"));
    assert!(!in_time);
    assert!(rest.contains("\"error\":\"stopping\"") && rest.contains("shutting down"), "{rest}");
    assert_eq!(lines("outcome=Failed").len(), 1);
    tokio::time::timeout(PATIENCE, site.registry.shut_down()).await.unwrap();
    assert!(site.registry.loaded().is_empty());
}

#[tokio::test]
async fn a_stop_lets_a_short_stream_end() {
    let script = Script::saying("hello").step_delay(Duration::from_millis(20));
    let site = scripted(script, ONE);
    let mut stream = site.open(false, json!({"prompt": "x"})).await;
    let (in_time, rest) = tokio::join!(site.tasks.drain(PATIENCE), stream.until("\"done\":true"));
    assert!(in_time && !rest.contains("error"), "{rest}");
}

#[tokio::test]
async fn silence_is_filled_with_heartbeats() {
    let script = Script::saying("x").step_delay(Duration::from_millis(300));
    let site = scripted(script, ONE);
    let mut stream = site.open(false, json!({"prompt": "x"})).await;
    let whole = stream.until("\"done\":true").await;
    assert!(whole.contains(": heartbeat\n\n"), "{whole}");
}
