//! Answers that outlive their client's connection: `Idempotency-Key`, `X-Cerebrum-Resume`, `Last-Event-ID`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::wire::{Failure, FailureCode};
use cerebrum_tests::client::{Client, PATIENCE, eventually, text_of};
use cerebrum_tests::proxy::{FaultProxy, HONEST, Weather};
use cerebrum_tests::scripted::{Ending, Script, ScriptedUpstream};
use cerebrum_tests::stack::{Program, Site};
use http::Method;
use serde_json::{Value, json};

struct Running {
    _site: Site,
    upstream: ScriptedUpstream,
    _appliance: Program,
    lan: Client,
}

fn start(script: Script, more: &str) -> Running {
    let site = Site::new().unwrap();
    let upstream = ScriptedUpstream::start(script).unwrap();
    let settings = format!("auth = \"open\"\n{more}\n[limits]\nmax_in_progress = 8\n[board]\nbackend = \"off\"");
    let appliance = site.start_appliance_over(&upstream.url(), &settings).unwrap();
    let lan = Client::plain(site.appliance, None);
    Running { _site: site, upstream, _appliance: appliance, lan }
}

fn slow() -> Script {
    Script { tokens: 40, gap: Duration::from_millis(10), ..Script::default() }
}

fn ask() -> Value {
    json!({"prompt": "x", "max_tokens": 100})
}

impl Running {
    fn keyed(&self, key: &str) -> Client {
        self.lan.clone().with_header("idempotency-key", key)
    }
}

#[tokio::test]
async fn a_repeated_request_joins_the_one_that_is_running_and_has_its_end_replayed() {
    let running = start(slow(), "");
    let lan = running.keyed("k1");
    let mut first = lan.stream("/v1/complete/stream", &ask()).await.unwrap();
    first.next().await.unwrap().unwrap();
    let mut second = lan.stream("/v1/complete/stream", &ask()).await.unwrap();
    assert_eq!(second.headers["idempotent-replayed"], "true");
    let second = second.rest().await.unwrap();
    let mut whole = vec![json!({"token": " word"})];
    whole.extend(first.rest().await.unwrap());
    assert_eq!(text_of(&second), text_of(&whole));
    assert_eq!(text_of(&second), " word".repeat(40));
    let mut third = lan.stream("/v1/complete/stream", &ask()).await.unwrap();
    assert_eq!(third.rest().await.unwrap(), second);
    assert_eq!(running.upstream.seen().requests, 1);

    let other = lan.post("/v1/complete/stream", &json!({"prompt": "y"})).await.unwrap();
    assert_eq!(other.status, 422);
    assert!(other.json().unwrap()["message"].as_str().unwrap().contains("stands for another request"), "{other:?}");
    let other = lan.post("/v1/chat/completions", &json!({"messages": []})).await.unwrap();
    assert_eq!(
        (other.status.as_u16(), &other.json().unwrap()["error"]["code"]),
        (422, &json!("idempotency_key_reused"))
    );
    running.keyed("k2").post("/v1/complete", &ask()).await.unwrap();
    assert_eq!(running.upstream.seen().requests, 2);
}

#[tokio::test]
async fn an_answer_in_one_piece_is_given_again_byte_for_byte() {
    let running = start(slow(), "");
    let lan = running.keyed("whole");
    let ask = ask();
    let (a, b) = tokio::join!(lan.post("/v1/complete", &ask), lan.post("/v1/complete", &ask));
    assert_eq!(a.unwrap().body, b.unwrap().body);
    assert_eq!(running.upstream.seen().requests, 1);
}

#[tokio::test]
async fn a_client_that_left_goes_on_from_its_last_event() {
    let running = start(slow(), "");
    let id = "7f0c0b2e-3c5e-4a38-9a0e-0d5f8a1b2c3d";
    let lan = running.lan.clone().with_header("x-cerebrum-resume", "true").with_header("x-request-id", id);
    let mut first = lan.stream("/v1/complete/stream", &ask()).await.unwrap();
    let mut text = String::new();
    for number in 1..=5 {
        let event = first.next_event().await.unwrap().unwrap();
        assert_eq!(event.id, number.to_string());
        text += serde_json::from_str::<Value>(&event.data).unwrap()["token"].as_str().unwrap();
    }
    drop(first);
    let path = format!("/v1/answers/{id}");
    let mut rest = running.lan.clone().with_header("last-event-id", "5").watch(&path).await.unwrap();
    let events = rest.rest().await.unwrap();
    assert_eq!(text + &text_of(&events), " word".repeat(40));
    assert_eq!(running.upstream.seen().dropped, 0);
    let late = running.lan.clone().with_header("last-event-id", "4000").get(&path).await.unwrap();
    assert_eq!(late.status, 400);
    assert_eq!(running.lan.get("/v1/answers/nobody").await.unwrap().status, 404);
}

#[tokio::test]
async fn a_client_that_left_for_good_is_waited_for_no_longer_than_told() {
    let endless = Script { tokens: 100_000, ..slow() };
    let running = start(endless, "resume.time_ms = 200");
    let lan = running.keyed("left");
    let mut stream = lan.stream("/v1/complete/stream", &json!({"prompt": "x", "max_tokens": 30000})).await.unwrap();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    running.upstream.wait_for(PATIENCE, |seen| seen.dropped == 1 && seen.in_progress == 0).await.unwrap();
    eventually(&running.lan, "/health", |health| health["active_count"] == 0).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_nobody_wants_can_be_cancelled_and_without_asking_leaving_cancels() {
    let endless = Script { tokens: 100_000, ..slow() };
    let running = start(endless, "resume.time_ms = 3600000");
    let body = json!({"prompt": "x", "max_tokens": 30000});
    let mut stream = running.keyed("gone").stream("/v1/complete/stream", &body).await.unwrap();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    let cancelled = running.lan.whole(Method::DELETE, "/v1/answers/gone", Bytes::new()).await.unwrap();
    assert_eq!(cancelled.status, 204);
    running.upstream.wait_for(PATIENCE, |seen| seen.dropped == 1 && seen.in_progress == 0).await.unwrap();
    let mut stream = running.lan.stream("/v1/complete/stream", &body).await.unwrap();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    running.upstream.wait_for(PATIENCE, |seen| seen.dropped == 2 && seen.in_progress == 0).await.unwrap();
}

#[tokio::test]
async fn what_was_refused_is_tried_again_under_the_same_key() {
    let running = start(slow(), "");
    let lan = running.keyed("again");
    let wrong = json!({"prompt": 7});
    assert_eq!(lan.post("/v1/complete", &wrong).await.unwrap().status, 400);
    let until = tokio::time::Instant::now() + PATIENCE;
    while lan.post("/v1/complete", &ask()).await.unwrap().status != 200 {
        assert!(tokio::time::Instant::now() < until, "the refusal is kept");
    }
}

#[tokio::test]
async fn what_broke_is_tried_again_under_the_same_key() {
    let failure = Failure { code: FailureCode::Internal, message: "no memory".into(), retry_after_ms: None };
    let gap = Duration::from_millis(300);
    let breaks = Script { tokens: 3, first_gap: gap, ending: Ending::Fail(failure), ..Script::default() };
    let running = start(breaks, "");
    let lan = running.keyed("broken");
    let broken = lan.stream("/v1/complete/stream", &ask()).await.unwrap().rest().await.unwrap();
    assert!(broken.last().unwrap()["error"].is_string(), "{broken:?}");
    running.upstream.follow(slow());
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let again = lan.stream("/v1/complete/stream", &ask()).await.unwrap().rest().await.unwrap();
        if again.last().unwrap()["done"] == true && again.last().unwrap()["error"].is_null() {
            assert_eq!(text_of(&again), " word".repeat(40));
            return;
        }
        assert!(tokio::time::Instant::now() < until, "the broken answer is kept: {again:?}");
    }
}

#[tokio::test]
async fn who_comes_back_too_late_is_told_and_nothing_is_generated() {
    let running = start(slow(), "");
    let late = running.keyed("late").with_header("last-event-id", "5");
    let answer = late.post("/v1/complete/stream", &ask()).await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.json().unwrap()["message"].as_str().unwrap().contains("no answer is kept under this key any more"));
    let whole = running.keyed("whole");
    let first = whole.post("/v1/complete", &ask()).await.unwrap();
    let again = whole.with_header("last-event-id", "1").post("/v1/complete", &ask()).await.unwrap();
    assert_eq!((again.status.as_u16(), &again.body), (200, &first.body));
    assert_eq!(running.upstream.seen().requests, 1, "the late one has not been sent on");
}

#[tokio::test]
async fn where_nothing_is_kept_a_key_changes_nothing() {
    let running = start(slow(), "[resume]\ntime_ms = 0");
    for _ in 0..2 {
        assert_eq!(running.keyed("k").post("/v1/complete", &ask()).await.unwrap().status, 200);
    }
    assert_eq!(running.upstream.seen().requests, 2);
}

#[tokio::test]
async fn any_key_names_its_answer() {
    let running = start(slow(), "");
    running.keyed("a/b c").post("/v1/complete", &ask()).await.unwrap();
    let kept = running.lan.get("/v1/answers/a%2Fb%20c").await.unwrap();
    assert_eq!(kept.status, 200, "{:?}", kept.json());
    let unknown = running.lan.get("/v1/answers/a").await.unwrap();
    assert_eq!(unknown.status, 404);
}

/// Reads a stream over a bad LAN: whenever it breaks, it is asked for again from the last event on.
async fn stubborn(client: &Client, key: &str) -> String {
    let mut last = 0_u64;
    let mut text = String::new();
    loop {
        let lan = client.clone().with_header("idempotency-key", key).with_header("last-event-id", &last.to_string());
        let Ok(mut stream) = lan.stream("/v1/complete/stream", &ask()).await else { continue };
        while let Ok(Some(event)) = stream.next_event().await {
            last = event.id.parse().unwrap();
            let event: Value = serde_json::from_str(&event.data).unwrap();
            text += event["token"].as_str().unwrap_or_default();
            if event["done"] == true {
                assert!(event["error"].is_null(), "{event}");
                return text;
            }
        }
    }
}

#[tokio::test]
async fn bad_weather_on_the_lan_changes_no_answer_that_is_asked_for_again() {
    let running = start(Script { tokens: 60, gap: Duration::from_millis(2), ..Script::default() }, "");
    let address = running._site.appliance;
    let proxy = FaultProxy::start(address, 11).unwrap();
    proxy.weather(Some(Weather { bytes: (200, 2500), while_ms: (5, 50), faults: HONEST }));
    let lan = Client::plain(proxy.address(), None);
    for round in 0..6 {
        let keys = [0, 1, 2, 3].map(|caller| format!("weather-{round}-{caller}"));
        let [a, b, c, d] = &keys;
        let all = async { tokio::join!(stubborn(&lan, a), stubborn(&lan, b), stubborn(&lan, c), stubborn(&lan, d)) };
        let (a, b, c, d) = tokio::time::timeout(PATIENCE, all).await.expect("a stream hangs");
        for text in [a, b, c, d] {
            assert_eq!(text, " word".repeat(60));
        }
    }
    println!("{} faults", proxy.struck());
    assert!(proxy.struck() > 5);
    assert_eq!(running.upstream.seen().requests, 24, "nothing was generated twice");
}
