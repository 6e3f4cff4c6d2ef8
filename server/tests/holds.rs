//! Answers that outlive their connection: held while it is broken, given on from where it broke, and never for longer, for
//! more, or for others than asked.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "each test program uses its part")]
mod support;

use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::event_log::Retention;
use cerebrum_common::wire::{InferenceEvent, InferenceRequest, Sampling, frame, held};
use cerebrum_engine::scripted::Script;
use cerebrum_server::http::hold::RETENTION;
use http::Method;
use http_body_util::BodyExt;
use support::{Answer, KEY, ONE, OTHER_KEY, PATIENCE, Site, Stream, eventually, framed, holding, scripted};

const TEXT_BYTES: usize = 600;

fn slow() -> Script {
    let text: String = (0..TEXT_BYTES).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    Script::saying(text).step_delay(Duration::from_millis(2))
}

fn ask() -> Bytes {
    let sampling = Sampling { temperature: 0.0, repetition_penalty: 1.0, ..Sampling::default() };
    let request =
        InferenceRequest { model: "tiny".into(), prompt: "x".into(), max_tokens: 1000, sampling, stop: Vec::new() };
    frame::to_bytes(&request).unwrap()
}

const TOKEN: u128 = 0x7f0c_0b2e_3c5e_4a38_9a0e_0d5f_8a1b_2c3d;

/// A framed stream over a connection of its own that asks to be held.
async fn open(site: &Site, h2: bool) -> Stream {
    let (name, token) = (held::HEADER, held::token_value(TOKEN));
    let headers = [("x-api-key", KEY), ("content-type", frame::MEDIA_TYPE), (name.as_str(), token.to_str().unwrap())];
    let sending = site.send(h2, Method::POST, "/v1/inference/stream", &headers, ask());
    tokio::time::timeout(PATIENCE, sending).await.expect("no answer in time")
}

/// Events until `count` belong to the answer.
async fn some(stream: &mut Stream, count: usize) -> Vec<InferenceEvent> {
    let mut decoder = frame::Decoder::new(1 << 20);
    let mut events = Vec::new();
    while events.len() < count {
        let part = tokio::time::timeout(PATIENCE, stream.response.body_mut().frame()).await.unwrap();
        decoder.push(part.expect("the stream goes on").unwrap().into_data().unwrap());
        while let Some(event) = decoder.next().unwrap() {
            events.extend(held::is_kept(&event).then_some(event));
        }
    }
    events
}

async fn resume(site: &Site, key: &str, from: usize) -> Answer {
    let from = from.to_string();
    let headers = [("x-api-key", key), ("last-event-id", from.as_str())];
    site.request(Method::GET, &held::path(TOKEN), &headers, "").await
}

fn text(events: &[InferenceEvent]) -> String {
    let of = |event: &InferenceEvent| match event {
        InferenceEvent::Token { text, .. } => text.to_string(),
        _ => String::new(),
    };
    events.iter().map(of).collect()
}

#[tokio::test]
async fn an_answer_goes_on_over_another_connection_without_loss_or_repetition() {
    let site = scripted(slow(), ONE);
    let mut stream = open(&site, true).await;
    assert_eq!(stream.response.headers()[held::HEADER], "500");
    let mut events = some(&mut stream, 5).await;
    stream.cut();
    let rest = resume(&site, KEY, events.len()).await;
    assert_eq!(rest.status, 200, "{:?}", rest.body);
    events.extend(framed(rest.body).into_iter().filter(held::is_kept));
    assert_eq!(text(&events).len(), TEXT_BYTES);
    assert!(text(&events).ends_with("stuvwxyzab"), "{}", text(&events));
    assert!(matches!(events.last(), Some(InferenceEvent::Done(_))));
    // The end may not have arrived either.
    let end = resume(&site, KEY, events.len() - 1).await;
    assert!(matches!(framed(end.body)[..], [InferenceEvent::Done(_)]));
}

#[tokio::test]
async fn a_request_that_comes_again_joins_its_answer() {
    let site = scripted(slow(), ONE);
    let mut stream = open(&site, true).await;
    some(&mut stream, 1).await;
    stream.cut();
    let mut again = open(&site, true).await;
    let body = tokio::time::timeout(PATIENCE, again.response.body_mut().collect()).await.unwrap().unwrap();
    assert_eq!(text(&framed(body.to_bytes())).len(), TEXT_BYTES);
    assert_eq!(site.registry.counts()["tiny"], 1);
}

#[tokio::test]
async fn a_reset_over_a_connection_that_lives_ends_the_generation_at_once() {
    let site = holding(slow(), Retention { time: Duration::from_secs(3600), ..RETENTION });
    let mut stream = open(&site, true).await;
    some(&mut stream, 1).await;
    let Stream { response, connection, sender: _sender, socket: _socket } = stream;
    drop(response);
    // Long before the answer would be complete, and an hour before its time is over.
    site.idle().await;
    assert!(!connection.0.is_finished());
    assert_eq!(site.registry.snapshots()[0].requests, 1);
    assert!(site.registry.snapshots()[0].tokens_generated < TEXT_BYTES as u64);
}

#[tokio::test]
async fn nobody_coming_back_ends_the_generation_when_its_time_is_over() {
    let script = Script::saying("y".repeat(4000)).step_delay(Duration::from_millis(5));
    let site = holding(script, Retention { time: Duration::from_millis(50), ..RETENTION });
    let mut stream = open(&site, true).await;
    some(&mut stream, 1).await;
    stream.cut();
    site.idle().await;
    eventually(|| site.holds.is_empty()).await;
    let late = resume(&site, KEY, 1).await;
    assert_eq!(late.status, 404);
    assert!(late.json()["message"].as_str().unwrap().contains("not held"), "{:?}", late.body);
}

#[tokio::test]
async fn who_left_while_the_link_was_down_is_cancelled_when_it_is_back() {
    let site = holding(slow(), Retention { time: Duration::from_secs(3600), ..RETENTION });
    let mut stream = open(&site, true).await;
    some(&mut stream, 1).await;
    stream.cut();
    let path = held::cancel_path(TOKEN);
    let other = site.request(Method::POST, &path, &[("x-api-key", OTHER_KEY)], "").await;
    assert_eq!(other.status, 404, "another key's answer");
    assert_eq!(resume(&site, OTHER_KEY, 0).await.status, 404, "another key's answer");
    assert_eq!(site.request(Method::POST, &path, &[("x-api-key", KEY)], "").await.status, 204);
    site.idle().await;
    assert!(site.registry.snapshots()[0].tokens_generated < TEXT_BYTES as u64);
}

#[tokio::test]
async fn positions_that_are_not_there_are_refused_with_what_is() {
    let site = scripted(slow(), ONE);
    let mut stream = open(&site, true).await;
    some(&mut stream, 1).await;
    let ahead = resume(&site, KEY, 10_000).await;
    assert_eq!(ahead.status, 400);
    assert!(ahead.json()["message"].as_str().unwrap().contains("found those from 0 to"), "{:?}", ahead.body);
    let headers = [("x-api-key", KEY), ("last-event-id", "many")];
    assert_eq!(site.request(Method::GET, &held::path(TOKEN), &headers, "").await.status, 400);
}

#[tokio::test]
async fn without_places_answers_are_given_without_being_held() {
    let site = holding(slow(), Retention { time: Duration::ZERO, ..RETENTION });
    let mut stream = open(&site, true).await;
    assert!(stream.response.headers().get(held::HEADER).is_none());
    some(&mut stream, 1).await;
    stream.cut();
    site.idle().await;
    assert!(site.registry.snapshots()[0].tokens_generated < TEXT_BYTES as u64);
}
