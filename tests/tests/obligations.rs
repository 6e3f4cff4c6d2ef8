//! What a request holds is given back, however it ends: the place, the slot, the record; and what breaks recovers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use cerebrum_tests::client::{Client, PATIENCE, eventually};
use cerebrum_tests::scripted::{Ending, Script, ScriptedUpstream};
use cerebrum_tests::stack::{Program, Site};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A generation that would go on for long if nobody stopped it: the tiny model's context is full after about a
/// thousand tokens, so the end-of-turn token is banned by asking for continuation of repetitive text.
fn endless() -> Value {
    json!({"prompt": "x = [1, 2, 3,", "language": "python", "max_tokens": 900, "temperature": 1.5, "seed": 3})
}

struct Running {
    site: Site,
    server: Program,
    appliance: Program,
    lan: Client,
}

fn start(server: &str, appliance: &str) -> Running {
    let site = Site::new().unwrap();
    let server = site.start_server(server).unwrap();
    let appliance = site.start_appliance(appliance).unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    Running { site, server, appliance, lan }
}

impl Running {
    /// Both programs have recorded that the client left, and hold nothing any more.
    async fn client_is_gone(&self) {
        for program in [&self.appliance, &self.server] {
            program.log().heard(PATIENCE, |line| line.contains("ClientGone")).await.unwrap();
        }
        eventually(&self.lan, "/health", |health| health["active_count"] == 0).await.unwrap();
        let free = |stats: &Value| {
            let models = stats["vps"]["models"].as_array().cloned().unwrap_or_default();
            !models.is_empty() && models.iter().all(|model| model["active"] == 0 && model["queued"] == 0)
        };
        eventually(&self.lan, "/v1/stats", free).await.unwrap();
    }
}

fn raw_request(running: &Running, path: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\ncontent-length: {}\r\n\r\n{body}",
        running.site.client_key.expose(),
        body.len()
    )
}

#[tokio::test]
async fn a_client_that_leaves_in_mid_stream_frees_everything() {
    let running = start("", "");
    let mut stream = running.lan.stream("/v1/complete/stream", &endless()).await.unwrap();
    while stream.next().await.unwrap().unwrap()["token"].is_null() {}
    drop(stream);
    running.client_is_gone().await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_first_byte_frees_everything() {
    let running = start("", "");
    let mut socket = TcpStream::connect(running.site.appliance).await.unwrap();
    // Not streaming: nothing is sent before the whole answer is there.
    socket.write_all(raw_request(&running, "/v1/complete", &endless()).as_bytes()).await.unwrap();
    eventually(&running.lan, "/health", |health| health["active_count"] == 1).await.unwrap();
    let busy = |stats: &Value| stats["vps"]["models"][0]["active"] == 1;
    eventually(&running.lan, "/v1/stats", busy).await.unwrap();
    drop(socket);
    running.client_is_gone().await;
}

#[tokio::test]
async fn a_client_that_closes_its_half_counts_as_gone() {
    let running = start("", "");
    let mut socket = TcpStream::connect(running.site.appliance).await.unwrap();
    socket.write_all(raw_request(&running, "/v1/complete/stream", &endless()).as_bytes()).await.unwrap();
    let mut first = [0; 256];
    assert!(socket.read(&mut first).await.unwrap() > 0);
    socket.shutdown().await.unwrap();
    running.client_is_gone().await;
}

#[tokio::test]
async fn a_third_request_is_turned_away_while_two_streams_run() {
    // Scripted, since a small model may be done with two streams before the third request is on its way.
    let upstream = ScriptedUpstream::start(Script { ending: Ending::Stall, ..Script::default() }).unwrap();
    let site = Site::new().unwrap();
    let _appliance = site.start_appliance_over(&upstream.url(), "keys_file = \"appliance-keys.toml\"").unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = lan.stream("/v1/complete/stream", &endless()).await.unwrap();
        stream.next().await.unwrap();
        streams.push(stream);
    }
    let refused = lan.post("/v1/complete", &endless()).await.unwrap();
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    let body = refused.json().unwrap();
    assert_eq!((&body["error"], body["message"].is_string()), (&json!("CM4 busy"), true));

    // Streams count until their body ends, and not a moment longer.
    drop(streams);
    upstream.wait_for(PATIENCE, |seen| seen.dropped == 2 && seen.in_progress == 0).await.unwrap();
    eventually(&lan, "/health", |health| health["active_count"] == 0).await.unwrap();
    upstream.follow(Script::default());
    let answer = lan.post("/v1/complete", &json!({"prompt": "def f(", "max_tokens": 2})).await.unwrap();
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_server_that_dies_in_mid_stream_is_told_in_band_and_comes_back_by_itself() {
    // A server that holds answers is waited for that long.
    let mut running = start("hold.time_ms = 500", "[breaker]\nfailures = 2\ncooldown_ms = 60000");
    let mut stream = running.lan.stream("/v1/complete/stream", &endless()).await.unwrap();
    while stream.next().await.unwrap().unwrap()["token"].is_null() {}
    running.server.kill();
    let last = stream.rest().await.unwrap().pop().unwrap();
    assert_eq!((&last["error"], &last["done"]), (&json!("upstream_lost"), &json!(true)), "{last}");

    // The link's own attempts open the breaker; requests are then refused without waiting for anything.
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = running.lan.post("/v1/complete", &endless()).await.unwrap();
        if answer.json().unwrap()["message"].to_string().contains("the next attempt is in") {
            assert_eq!(answer.status, 503);
            break;
        }
        assert!(tokio::time::Instant::now() < until, "the breaker never opened: {answer:?}");
    }
    let degraded = |health: &Value| health["status"] == "degraded" && health["vps_connected"] == false;
    eventually(&running.lan, "/health", degraded).await.unwrap();

    running.server = running.site.start_server("").unwrap();
    eventually(&running.lan, "/health", |health| health["status"] == "healthy").await.unwrap();
    let answer = running.lan.post("/v1/complete", &json!({"prompt": "def f(", "max_tokens": 2})).await.unwrap();
    assert_eq!(answer.status, 200, "{:?}", answer.body);
}

#[tokio::test]
async fn a_stop_lets_streams_end_and_ends_those_that_do_not() {
    let mut running = start("", "[limits]\ndrain_ms = 200");
    let mut stream = running.lan.stream("/v1/complete/stream", &endless()).await.unwrap();
    while stream.next().await.unwrap().unwrap()["token"].is_null() {}
    let stopping = std::thread::spawn(move || {
        let code = running.appliance.terminate(PATIENCE).unwrap();
        (running, code)
    });
    let last = stream.rest().await.unwrap().pop().unwrap();
    let complete = last["done"] == true && last["error"].is_null();
    assert!(complete || last["error"] == "stopping", "{last}");
    let (running, code) = stopping.join().unwrap();
    assert_eq!(code, Some(0));
    running
        .server
        .log()
        .heard(PATIENCE, |line| line.contains("ClientGone") || line.contains("Complete"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_link_that_idles_is_kept_and_reused() {
    let running = start("", "");
    for _ in 0..3 {
        let answer = running.lan.post("/v1/complete", &json!({"prompt": "def f(", "max_tokens": 2})).await.unwrap();
        assert_eq!(answer.status, 200);
        tokio::time::sleep(Duration::from_millis(50)).await; // idle, not waiting for anything
    }
    let connected = running.appliance.log().lines().iter().filter(|line| line.contains("connected")).count();
    assert_eq!(connected, 1);
}

/// Tokens that came while the appliance could not read them: a retransmission on the link, a busy moment of the board.
#[tokio::test]
async fn a_burst_of_unread_tokens_breaks_no_stream() {
    let script = Script { tokens: 3000, first_gap: Duration::from_millis(300), ..Script::default() };
    let upstream = ScriptedUpstream::start(script).unwrap();
    let site = Site::new().unwrap();
    let appliance = site.start_appliance_over(&upstream.url(), "keys_file = \"appliance-keys.toml\"").unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    let body = json!({"prompt": "x", "max_tokens": 3000});
    let mut streams = Vec::new();
    for _ in 0..2 {
        streams.push(lan.stream("/v1/complete/stream", &body).await.unwrap());
    }
    appliance.signal("STOP").unwrap();
    // Long enough for the upstream to fill both streams' windows; less would only make the test weaker.
    tokio::time::sleep(Duration::from_secs(1)).await;
    appliance.signal("CONT").unwrap();
    for mut stream in streams {
        let events = stream.rest().await.unwrap();
        let last = events.last().unwrap();
        assert_eq!((&last["done"], &last["error"]), (&json!(true), &Value::Null), "{last}");
        assert_eq!(events.iter().filter(|event| event["token"].is_string()).count(), 3000);
    }
}

/// A stray line's end behind the body, as some clients send it, hides the client's end from hyper.
#[tokio::test]
async fn a_client_that_sent_more_than_its_request_is_missed_all_the_same() {
    let upstream = ScriptedUpstream::start(Script { ending: Ending::Stall, ..Script::default() }).unwrap();
    let site = Site::new().unwrap();
    // No heartbeat, whose failing write would tell as well.
    let appliance =
        site.start_appliance_over(&upstream.url(), "auth = \"open\"\n[stream]\nheartbeat_ms = 600000").unwrap();
    let body = endless().to_string();
    for (round, path) in (1..).zip(["/v1/complete", "/v1/complete/stream"]) {
        let mut socket = TcpStream::connect(site.appliance).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        socket.write_all(format!("{head}{body}\r\n").as_bytes()).await.unwrap();
        upstream.wait_for(PATIENCE, |seen| seen.in_progress == 1).await.unwrap();
        drop(socket);
        upstream.wait_for(PATIENCE, |seen| seen.in_progress == 0 && seen.dropped == round).await.unwrap();
        appliance.log().heard(PATIENCE, |line| line.contains("ClientGone")).await.unwrap();
    }
}
