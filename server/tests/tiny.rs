//! The bundled model through the whole server: llama.cpp behind the same calls.

#[expect(dead_code, reason = "each test program uses its part")]
mod support;

use std::path::Path;

use cerebrum_common::wire::{InferenceEvent, InferenceRequest, Sampling, frame};
use cerebrum_engine::{Engine, Limits, llama};
use serde_json::{Value, json};
use support::{Site, events, framed, site};

const MODEL: &str = "cerebrum-tiny";

fn tiny() -> Site {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    assert!(folder.join(format!("{MODEL}.gguf")).exists(), "the bundled model is missing");
    let starter = |found: &cerebrum_server::registry::Found| {
        // One thread: several wait for each other by spinning, which takes for ever on a machine that is busy.
        let options = llama::Options { threads: Some(1), ..llama::Options::new(&found.path) };
        Engine::start(&found.name, Limits::default(), options.loader())
    };
    site(&folder, Box::new(starter))
}

fn greedy() -> Value {
    json!({"prompt": "def add(a, b):\n    return", "model": MODEL, "max_tokens": 24, "temperature": 0, "seed": 1})
}

#[tokio::test]
async fn all_three_ways_of_asking_give_the_same_text() {
    let site = tiny();
    let whole = site.post("/v1/inference", greedy()).await.json();
    let text = whole["result"].as_str().unwrap();
    assert!(!text.is_empty());
    assert_eq!(whole["model"], MODEL);

    let stream = events(&site.post("/v1/inference/stream", greedy()).await.body);
    let streamed: String = stream.iter().filter_map(|event| event["token"].as_str()).collect();
    assert_eq!(streamed, text);
    assert_eq!(stream.last().unwrap()["total_tokens"], whole["tokens_generated"]);

    let request = InferenceRequest {
        model: MODEL.into(),
        prompt: "def add(a, b):\n    return".into(),
        max_tokens: 24,
        sampling: Sampling { temperature: 0.0, seed: Some(1), ..Sampling::default() },
        stop: Vec::new(),
    };
    let frames = framed(site.frames(frame::to_bytes(&request).unwrap()).await.body);
    let framed: String = frames
        .iter()
        .filter_map(|event| match event {
            InferenceEvent::Token { text, .. } => Some(&**text),
            _ => None,
        })
        .collect();
    assert_eq!(framed, text);
    assert_eq!(site.post(&format!("/v1/unload/{MODEL}"), "").await.status, 200);
}

#[tokio::test]
async fn sampling_reaches_the_model() {
    let site = tiny();
    let ask = |more: Value| {
        let mut body = greedy();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let site = &site;
        async move { site.post("/v1/inference", body).await.json()["result"].as_str().unwrap().to_owned() }
    };
    let base = ask(json!({})).await;
    assert_eq!(ask(json!({})).await, base);
    let hot = json!({"temperature": 2.0, "top_k": 0, "top_p": 1.0, "seed": 5});
    assert_ne!(ask(hot.clone()).await, base);
    assert_eq!(ask(hot.clone()).await, ask(hot).await, "the same seed gives the same text");
    let first: String = base.chars().take_while(|c| !c.is_whitespace() || base.starts_with(*c)).take(4).collect();
    assert!(!ask(json!({"stop": [first.clone()]})).await.contains(&first));
    assert_ne!(ask(json!({"repetition_penalty": 2.0})).await, ask(json!({"repetition_penalty": 1.0})).await);
}
