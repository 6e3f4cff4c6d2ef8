//! `/v1/embeddings` with the bundled model.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

#[expect(dead_code, reason = "each test program uses its part")]
mod support;

use std::path::Path;

use cerebrum_engine::{Engine, Limits, llama};
use serde_json::{Value, json};
use support::{Answer, Site, site};

fn tiny() -> Site {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let starter = |found: &cerebrum_server::registry::Found| {
        let options = llama::Options { threads: Some(1), ..llama::Options::new(&found.path) };
        Engine::start(&found.name, Limits::default(), options.loader())
    };
    site(&folder, Box::new(starter))
}

/// Asks the bundled model, unless the body names another.
async fn embeddings(site: &Site, path: &str, mut body: Value) -> Answer {
    if body["model"].is_null() {
        body["model"] = json!("cerebrum-tiny");
    }
    site.post(path, body).await
}

fn numbers(vector: &Value) -> Vec<f32> {
    vector.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

// The bytes of a text in base64.
fn bytes(text: &str) -> Vec<u8> {
    let digit = |character: u8| match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<_> = text.trim_end_matches('=').bytes().map(digit).collect();
    let mut bytes = Vec::new();
    for four in digits.chunks(4) {
        let bits = four.iter().fold(0_u32, |bits, digit| bits << 6 | u32::from(*digit)) << (6 * (4 - four.len()));
        bytes.extend(&bits.to_be_bytes()[1..four.len()]);
    }
    bytes
}

#[tokio::test]
async fn texts_and_tokens_become_vectors_as_numbers_and_in_base64() {
    let site = tiny();
    let one = embeddings(&site, "/v1/embeddings", json!({"input": "def add(a, b):"})).await;
    assert_eq!(one.status, 200, "{:?}", one.body);
    let one = one.json();
    assert_eq!((&one["object"], &one["model"]), (&json!("list"), &json!("cerebrum-tiny")));
    assert_eq!((&one["data"][0]["object"], &one["data"][0]["index"]), (&json!("embedding"), &json!(0)));
    let vector = numbers(&one["data"][0]["embedding"]);
    assert!((vector.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-4);
    let usage = one["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(usage > 2 && one["usage"]["total_tokens"] == usage);

    let many = json!({"input": ["x = 1", "def add(a, b):"], "encoding_format": "base64"});
    let many = embeddings(&site, "/embeddings", many).await.json();
    let encoded = bytes(many["data"][1]["embedding"].as_str().unwrap());
    let (encoded, _) = encoded.as_chunks();
    assert_eq!(encoded.iter().map(|number| f32::from_le_bytes(*number)).collect::<Vec<_>>(), vector);
    assert!(many["usage"]["total_tokens"].as_u64().unwrap() > usage);

    let tokens =
        site.post("/tokenize", json!({"model": "cerebrum-tiny", "content": "def add(a, b):"})).await.json()["tokens"]
            .clone();
    let own = embeddings(&site, "/v1/embeddings", json!({"input": tokens})).await.json();
    assert_eq!(own["usage"]["total_tokens"], tokens.as_array().unwrap().len());
    let lists = embeddings(&site, "/v1/embeddings", json!({"input": [tokens, [1, 2]]})).await.json();
    assert_eq!(lists["data"].as_array().unwrap().len(), 2);
    assert_eq!(lists["data"][0]["embedding"], own["data"][0]["embedding"]);
}

#[tokio::test]
async fn mistakes_are_told_by_field() {
    let site = tiny();
    let cases = [
        (json!({}), "input: found nothing"),
        (json!({"input": []}), "input: found an empty list"),
        (json!({"input": ""}), "input: text 0 is empty"),
        (json!({"input": [[-1]]}), "input: the vocabulary has no token -1"),
        (json!({"input": "x", "encoding_format": "int8"}), "encoding_format: found \"int8\""),
        (json!({"input": "x", "dimensions": 3}), "dimensions: found 3"),
        (json!({"input": "x", "adapter": "code"}), "adapter: found \"code\""),
    ];
    for (body, expected) in cases {
        let answer = embeddings(&site, "/v1/embeddings", body.clone()).await;
        let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status == 400 && message.starts_with(expected), "{body}: {} {message}", answer.status);
    }
    let long = embeddings(&site, "/v1/embeddings", json!({"input": "x ".repeat(5000)})).await;
    assert_eq!((long.status, &long.json()["error"]["code"]), (400, &json!("context_length_exceeded")));
    let unknown = embeddings(&site, "/v1/embeddings", json!({"input": "x", "model": "gpt-9"})).await;
    assert_eq!(unknown.status, 404);
}
