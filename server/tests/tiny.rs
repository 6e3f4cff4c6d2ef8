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

#[tokio::test]
async fn an_answer_takes_the_shape_asked_for() {
    let site = tiny();
    let with = |key: &str, value: Value| {
        let mut body = greedy();
        body[key] = value;
        body
    };
    let literal = site.post("/v1/inference", with("grammar", json!("root ::= \" a + b\\n\""))).await.json();
    assert_eq!((&literal["result"], &literal["finish_reason"]), (&json!(" a + b\n"), &json!("stop")));
    let schema = json!({"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2});
    let shaped = site.post("/v1/inference", with("json_schema", schema)).await.json();
    let value: Vec<bool> = serde_json::from_str(shaped["result"].as_str().unwrap()).expect("an array of booleans");
    assert!((1..=2).contains(&value.len()));

    for (key, value) in [("grammar", json!("root ::= (")), ("json_schema", json!({"type": "nonsense"}))] {
        let refused = site.post("/v1/inference", with(key, value)).await;
        assert_eq!(refused.status, 400, "{:?}", refused.body);
        assert!(
            refused.json()["message"].as_str().unwrap().contains("the grammar cannot be used"),
            "{:?}",
            refused.body
        );
    }
    let mut both = with("grammar", json!("root ::= \"a\""));
    both["json_schema"] = json!({});
    assert_eq!(site.post("/v1/inference", both).await.status, 400);
}

#[tokio::test]
async fn texts_become_tokens_and_texts_again() {
    let site = tiny();
    let text = "def né(🦀): <|im_start|>";
    let answer = site.post("/tokenize", json!({"model": MODEL, "content": text})).await.json();
    let tokens = answer["tokens"].as_array().unwrap();
    assert!(tokens.len() > 5 && tokens.iter().all(Value::is_u64), "{answer}");
    let back = site.post("/detokenize", json!({"model": MODEL, "tokens": tokens})).await.json();
    assert!(back["content"].as_str().unwrap().ends_with(text), "{back}");
    assert_eq!(back["content"], text, "no token that begins a prompt");
    let special = site.post("/tokenize", json!({"model": MODEL, "content": text, "add_special": true})).await.json();
    assert_eq!(special["tokens"].as_array().unwrap()[1..], tokens[..], "{special}");
    // Only who asks for it gets control tokens.
    let markup = site.post("/tokenize", json!({"model": MODEL, "content": text, "parse_special": true})).await.json();
    assert!(markup["tokens"].as_array().unwrap().len() < tokens.len());

    let pieces = site.post("/tokenize", json!({"model": MODEL, "content": text, "with_pieces": true})).await.json();
    let bytes: Vec<u8> = pieces["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|token| match &token["piece"] {
            Value::String(piece) => piece.clone().into_bytes(),
            bytes => serde_json::from_value(bytes.clone()).unwrap(),
        })
        .collect();
    assert!(String::from_utf8(bytes).unwrap().ends_with(text));

    for (path, body, status) in [
        ("/tokenize", json!({}), 400),
        ("/tokenize", json!({"content": 7}), 400),
        ("/tokenize", json!({"content": "x", "model": "gpt"}), 404),
        ("/detokenize", json!({"tokens": "x"}), 400),
        ("/detokenize", json!({"model": MODEL, "tokens": [-1, 1_000_000]}), 200),
    ] {
        let answer = site.post(path, body).await;
        assert_eq!(answer.status, status, "{path}: {:?}", answer.body);
    }
}

#[tokio::test]
async fn an_editor_gets_its_gap_filled() {
    let site = tiny();
    // As llama.vim sends it.
    let ask = |n_predict: i64, extra: Vec<Value>, fields: Value| {
        json!({"model": MODEL, "id_slot": 0, "input_prefix": "def add(a, b):\n    ret", "input_suffix": "\n\nprint(add(1, 2))\n",
            "input_extra": extra, "prompt": "", "n_predict": n_predict, "stop": [], "n_indent": 4, "top_k": 40, "top_p": 0.9,
            "samplers": ["top_k", "top_p", "infill"], "stream": false, "cache_prompt": true, "t_max_prompt_ms": 60_000,
            "t_max_predict_ms": 60_000, "response_fields": fields})
    };
    let extra = |lines: usize| json!({"filename": "other.py", "text": "import os\n".repeat(lines)});
    let warm = site.post("/infill", ask(0, vec![extra(3)], json!([""]))).await;
    assert_eq!((warm.status, warm.json()), (200, json!({})));

    let fields =
        json!(["content", "timings/prompt_n", "timings/predicted_n", "timings/cache_n", "truncated", "tokens_cached"]);
    let filled = site.post("/infill", ask(8, vec![extra(3)], fields)).await.json();
    assert!(!filled["content"].as_str().unwrap().is_empty(), "{filled}");
    assert!(
        filled["timings/cache_n"].as_u64().unwrap() > 10 && filled["timings/prompt_n"].as_u64().unwrap() < 10,
        "{filled}"
    );
    assert_eq!(filled["truncated"], false);
    // More than fits: the last is kept.
    let much = site.post("/infill", ask(8, vec![extra(2000), extra(3)], json!(null))).await.json();
    assert_eq!(much["truncated"], true);
    assert!(much["timings"]["predicted_n"].as_u64().unwrap() > 0 && much["stop"] == true, "{much}");

    let refused = site.post("/infill", ask(-7, Vec::new(), json!(null))).await;
    assert_eq!(refused.status, 400);
}
