//! Every call over a real socket: who may make it, what wrong input gets, what right input gets.

#[expect(dead_code, reason = "each test program uses its part")]
mod support;

use cerebrum_common::wire::{Finish, InferenceEvent, InferenceRequest, Sampling, frame};
use cerebrum_engine::scripted::Script;
use cerebrum_engine::{Limits, LoadError};
use cerebrum_server::guards::Vitals;
use cerebrum_server::http::ROUTES;
use http::Method;
use serde_json::{Value, json};
use support::{KEY, ONE, ROOM, events, eventually, framed, scripted};

fn request(model: &str, prompt: &str) -> InferenceRequest {
    InferenceRequest {
        model: model.into(),
        prompt: prompt.into(),
        max_tokens: 32,
        sampling: Sampling::default(),
        stop: Vec::new(),
    }
}

#[tokio::test]
async fn every_route_but_health_needs_a_key() {
    let site = scripted(Script::saying("x"), Limits::default());
    let keys: [&[(&str, &str)]; 4] =
        [&[], &[("x-api-key", "K")], &[("authorization", "Basic a2s=")], &[("authorization", "Bearer ")]];
    for (method, pattern) in ROUTES {
        let path = pattern.replace("{model}", "tiny");
        let body =
            r#"{"prompt":"x","input":"x","content":"x","tokens":[120],"messages":[{"role":"user","content":"x"}]}"#;
        for headers in keys {
            let answer = site.request(method.clone(), &path, headers, body).await;
            let expected = if path == "/health" { 200 } else { 403 };
            assert_eq!(answer.status, expected, "{method} {path} {headers:?}");
        }
        let answer = site.request(method.clone(), &path, &[("x-api-key", KEY)], body).await;
        let expected = match pattern {
            // The scripted model's file is none, and has no vocabulary.
            "/v1/models/{model}/vocabulary" => 500,
            // No answer is held under that.
            "/v1/inference/held/{token}" | "/v1/inference/cancel/{token}" => 404,
            _ => 200,
        };
        assert_eq!(answer.status, expected, "{method} {path} {:?}", answer.body);
        assert!(!answer.header("x-request-id").is_empty());
    }
    // Who has no key does not learn which paths exist.
    for path in ["/nowhere", "/v1/unload/", "/"] {
        assert_eq!(site.request(Method::GET, path, &[], "").await.status, 403, "{path}");
        assert_eq!(site.get(path).await.status, 404, "{path}");
    }
    let answer = site.get("/v1/inference").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn a_whole_answer_says_everything() {
    let site = scripted(Script::answering(|prompt| format!("<{prompt}>")), Limits::default());
    let id = "7f0c0b2e-3c5e-4a38-9a0e-0d5f8a1b2c3d";
    let headers = [("x-api-key", KEY), ("x-request-id", id)];
    let body = json!({"prompt": "añb", "model": "qwen_7b", "max_tokens": 40}).to_string();
    let answer = site.request(Method::POST, "/v1/inference", &headers, body).await;
    assert_eq!((answer.status, answer.header("x-request-id")), (200, id));
    let document = answer.json();
    assert_eq!((&document["result"], &document["model"]), (&json!("<añb>"), &json!("tiny")));
    assert_eq!((&document["tokens_generated"], &document["finish_reason"]), (&json!(6), &json!("stop")));
    assert_eq!(document["usage"], json!({"prompt_tokens": 5, "cached_tokens": 0, "completion_tokens": 6}));
    assert!(document["timestamp"].as_str().unwrap().ends_with('Z'));
    assert!(document["inference_time_seconds"].is_number() && document["tokens_per_second"].is_number());
    assert_eq!(document["warnings"], Value::Null);
    let models = site.get("/v1/models").await.json();
    assert_eq!(models["available_models"], json!(["other", "tiny"]));
    assert_eq!((&models["cached_models"], &models["inference_counts"]), (&json!(["tiny"]), &json!({"tiny": 1})));
}

#[tokio::test]
async fn a_stream_gives_tokens_then_done() {
    let site = scripted(Script::saying("héllo"), Limits::default());
    let answer = site.post("/v1/inference/stream", json!({"prompt": "x", "stop": ["o"]})).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"));
    let mut events = events(&answer.body);
    let done = events.pop().unwrap();
    let text: String = events.iter().map(|event| event["token"].as_str().unwrap()).collect();
    assert_eq!(text, "héll");
    assert_eq!((&done["done"], &done["model"], &done["finish_reason"]), (&json!(true), &json!("tiny"), &json!("stop")));
    assert_eq!((&done["prompt_tokens"], &done["cached_tokens"]), (&json!(2), &json!(0)));
    assert!(done["total_tokens"].as_u64().unwrap() >= 5);
    assert!(done["inference_time"].is_number() && done["tokens_per_second"].is_number(), "{done}");
}

#[tokio::test]
async fn loading_and_reading_are_shown_as_comments_or_events() {
    let slow = Script::saying("x").load_delay(std::time::Duration::from_millis(400));
    let site = scripted(slow, Limits { chunk_tokens: 8, ..Limits::default() });
    let first = site.post("/v1/inference/stream", json!({"prompt": "x".repeat(40)})).await;
    let text = String::from_utf8_lossy(&first.body);
    assert!(text.contains(": loading 0.") && text.contains(": progress 1.00"), "{text}");
    let second = site.post("/v1/inference/stream", json!({"prompt": "y".repeat(40), "progress": true})).await;
    assert!(events(&second.body).iter().any(|event| event["progress"] == 1.0), "{:?}", second.body);
}

#[tokio::test]
async fn frames_in_frames_out() {
    let site = scripted(Script::saying("hello"), Limits::default());
    let answer = site.frames(frame::to_bytes(&request("qwen_7b", "x")).unwrap()).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, frame::MEDIA_TYPE));
    let mut events = framed(answer.body);
    let Some(InferenceEvent::Done(done)) = events.pop() else { panic!("{events:?}") };
    assert_eq!((done.model.as_str(), done.finish, done.usage.completion_tokens), ("tiny", Finish::Stop, 5));
    let text: String = events
        .iter()
        .filter_map(|event| match event {
            InferenceEvent::Token { text, .. } => Some(&**text),
            _ => None,
        })
        .collect();
    assert_eq!(text, "hello");
}

#[tokio::test]
async fn other_wire_versions_and_broken_frames_are_named() {
    let site = scripted(Script::saying("x"), Limits::default());
    let good = frame::to_bytes(&request("tiny", "x")).unwrap();
    let (mut version, mut longer) = (good.to_vec(), good.to_vec());
    version[0] = 9;
    longer.push(0);
    let cases = [
        (version, "wire version: found 9, expected 1"),
        (good[..good.len() - 2].to_vec(), "ends inside a frame: 2 bytes"),
        (longer, "not valid"),
        (Vec::new(), "ends inside a frame"),
        (vec![1, 255, 255, 255, 255], "frame length"),
        (frame::to_bytes(&request("tiny", " ")).unwrap().to_vec(), "prompt: found an empty string"),
        (
            frame::to_bytes(&InferenceRequest {
                sampling: Sampling { temperature: f32::NAN, ..Sampling::default() },
                ..request("tiny", "x")
            })
            .unwrap()
            .to_vec(),
            "temperature is NaN",
        ),
    ];
    // Loaded, so that the engine judges at once.
    site.post("/v1/inference", json!({"prompt": "x"})).await;
    for (body, sentence) in cases {
        let answer = site.frames(body.into()).await;
        assert_eq!(answer.status, 400, "{sentence}: {:?}", answer.body);
        assert!(answer.json()["message"].as_str().unwrap().contains(sentence), "{sentence}: {:?}", answer.body);
    }
    let headers = [("x-api-key", KEY), ("content-type", "application/vnd.cerebrum.v2+postcard")];
    let answer = site.request(Method::POST, "/v1/inference/stream", &headers, good).await;
    assert_eq!(answer.status, 415);
    assert!(answer.json()["message"].as_str().unwrap().contains("wire version: found 2, expected 1"));
}

#[tokio::test]
async fn wrong_bodies_get_their_status_and_a_sentence() {
    let site = scripted(Script::saying("x").context(64), Limits::default());
    let long = json!({"prompt": "x".repeat(100)}).to_string();
    let cases = [
        ("{", 400, "invalid JSON"),
        ("", 400, "found nothing, expected a JSON object"),
        ("7", 400, "expected an object"),
        ("{}", 400, "prompt: found nothing"),
        (r#"{"prompt":7}"#, 400, "prompt: found integer `7`, expected a string"),
        (r#"{"prompt":"a\u0000"}"#, 400, "NUL"),
        (r#"{"prompt":"x","temperature":3}"#, 400, "temperature: found 3"),
        (r#"{"prompt":"x","max_tokens":"many"}"#, 400, "max_tokens: found string"),
        (r#"{"prompt":"x","model":"../tiny"}"#, 404, "expected one of other, tiny, qwen_7b"),
        (r#"{"prompt":"x","model":"gpt"}"#, 404, "model: found \"gpt\""),
        (long.as_str(), 400, "the prompt has 101 tokens, the context holds 64"),
    ];
    for path in ["/v1/inference", "/v1/inference/stream"] {
        for (body, status, sentence) in cases {
            let answer = site.post(path, body).await;
            assert_eq!(answer.status, status, "{path} {body}: {:?}", answer.body);
            assert!(answer.json()["message"].as_str().unwrap().contains(sentence), "{path} {body}: {:?}", answer.body);
        }
        let huge = site.post(path, "x".repeat(100 << 10)).await;
        assert_eq!(huge.status, 413);
    }
}

#[tokio::test]
async fn max_tokens_is_clamped_with_a_warning() {
    let site = scripted(Script::saying("y".repeat(200)).context(64), Limits::default());
    let document =
        site.post("/v1/inference", json!({"prompt": "x".repeat(9), "max_tokens": 1_000_000_000})).await.json();
    assert_eq!((&document["finish_reason"], &document["tokens_generated"]), (&json!("length"), &json!(54)));
    assert_eq!(
        document["warnings"],
        json!([
            "max_tokens: found 1000000000, used 32768 (expected 1 to 32768)",
            "max_tokens: found 32768, used 54 (the context of 64 tokens also holds the prompt's 10)",
        ])
    );
    let document = site.post("/v1/inference", json!({"prompt": "x", "max_tokens": 0})).await.json();
    assert_eq!(
        (&document["result"], &document["warnings"][0]),
        (&json!("y"), &json!("max_tokens: found 0, used 1 (expected 1 to 32768)"))
    );
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_says_why_and_may_be_tried_again() {
    let error = LoadError::Damaged { path: "tiny.gguf".into(), reason: "cut short".into() };
    let site = scripted(Script::saying("x").load_error(error), Limits::default());
    for path in ["/v1/inference", "/v1/inference/stream"] {
        let answer = site.post(path, json!({"prompt": "x"})).await;
        assert_eq!(answer.status, 500);
        let body = answer.json();
        assert_eq!(body["error"], "model_load_failed");
        assert!(body["message"].as_str().unwrap().contains("cut short"), "{body}");
    }
}

#[tokio::test]
async fn short_of_memory_one_can_still_free_it() {
    let site = scripted(Script::saying("x"), Limits::default());
    assert_eq!(site.post("/v1/inference", json!({"prompt": "x"})).await.status, 200);
    site.vitals.send_replace(Vitals { ram_available: 100 << 20, ..ROOM });
    for path in ["/v1/inference", "/v1/inference/stream"] {
        let answer = site.post(path, json!({"prompt": "x"})).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "10"));
        let body = answer.json();
        assert_eq!(body["error"], "overloaded");
        assert!(body["message"].as_str().unwrap().contains("found 100 MiB available, expected at least 1024 MiB"));
    }
    let health = site.get("/health").await.json();
    assert_eq!((&health["status"], &health["available"]), (&json!("overloaded"), &json!(false)));
    assert_eq!((&health["ram_available_gb"], &health["models_in_cache"]), (&json!(0.1), &json!(["tiny"])));
    assert_eq!(site.post("/v1/unload/other", "").await.status, 404);
    assert_eq!(site.post("/v1/unload/qwen_7b", "").await.json(), json!({"status": "unloaded", "model": "tiny"}));
    assert_eq!(site.post("/v1/unload/tiny", "").await.status, 404);
    let cleaned = json!({"status": "cleaned", "models_removed": 0, "models_remaining": 0});
    assert_eq!(site.post("/v1/cleanup", "").await.json(), cleaned);
    site.vitals.send_replace(ROOM);
    assert_eq!(site.post("/v1/inference", json!({"prompt": "x"})).await.status, 200);
}

#[tokio::test]
async fn only_other_programs_count_as_processor_load() {
    let site = scripted(Script::saying("x"), Limits::default());
    site.vitals.send_replace(Vitals { cpu_percent: 100.0, others_percent: 10.0, ..ROOM });
    assert_eq!(site.post("/v1/inference", json!({"prompt": "x"})).await.status, 200);
    site.vitals.send_replace(Vitals { cpu_percent: 100.0, others_percent: 90.0, ..ROOM });
    let answer = site.post("/v1/inference", json!({"prompt": "x"})).await;
    assert_eq!(answer.status, 503);
    assert!(answer.json()["message"].as_str().unwrap().contains("other programs use 90 %"), "{:?}", answer.body);
}

#[tokio::test]
async fn a_full_server_says_when_to_come_back_and_cleanup_leaves_who_is_at_work() {
    let site = scripted(endless(), ONE);
    let mut stream = site.open(false, json!({"prompt": "x", "max_tokens": 4000})).await;
    stream.until("\"token\"").await;
    let answer = site.post("/v1/inference/stream", json!({"prompt": "x"})).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "5"));
    assert_eq!(answer.json()["error"], "busy");
    let cleaned = json!({"status": "cleaned", "models_removed": 0, "models_remaining": 1});
    assert_eq!(site.post("/v1/cleanup", "").await.json(), cleaned);
    let stats = site.get("/v1/stats").await.json();
    assert_eq!((&stats["models"][0]["active"], &stats["models"][0]["queued"]), (&json!(1), &json!(0)));
    // Asked for by name, it goes at once, and the stream is told.
    assert_eq!(site.post("/v1/unload/tiny", "").await.status, 200);
    let rest = stream.until("\"done\":true").await;
    assert!(rest.contains("the model was unloaded during the generation"), "{rest}");
    eventually(|| site.registry.loaded().is_empty()).await;
}

fn endless() -> Script {
    Script::saying("y".repeat(4000)).step_delay(std::time::Duration::from_millis(2))
}
