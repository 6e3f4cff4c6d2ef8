//! The main job: a prompt goes in on the LAN side, prepared code comes back from a real model. Both real programs, mutual
//! TLS between them, loopback ports.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use cerebrum_common::tls::{ClientFiles, IdentityFiles};
use cerebrum_common::wire::{InferenceEvent, InferenceRequest, Sampling, frame};
use cerebrum_prompt::{Profile, prepare};
use cerebrum_tests::client::{Client, text_of};
use cerebrum_tests::stack::{MODEL, Site};
use serde_json::{Value, json};

/// More than 1500 characters of code with copies in it, and an instruction: a prompt that is reduced.
fn long_prompt() -> String {
    let unit: String = (0..40).map(|n| format!("def value_{n}(x):\n    return compute(x, {n})\n")).collect();
    let code: String = unit.chars().take(849).chain(['\n']).collect::<String>().repeat(5);
    format!("{code}\n# REFACTOR: rename value_3 to third")
}

fn greedy(prompt: &str, max_tokens: u32) -> Value {
    json!({"prompt": prompt, "language": "python", "max_tokens": max_tokens, "temperature": 0, "seed": 7})
}

fn own_identity(site: &Site) -> ClientFiles {
    let at = |name: &str| site.folder().join(name);
    let identity = IdentityFiles { certificate: at("appliance.pem"), key: at("appliance.key") };
    ClientFiles { ca: at("ca.pem"), identity: Some(identity) }
}

fn request(prompt: &str, max_tokens: u32) -> InferenceRequest {
    InferenceRequest {
        model: "qwen_7b".into(),
        prompt: prompt.into(),
        max_tokens,
        sampling: Sampling { temperature: 0.0, seed: Some(7), ..Sampling::default() },
        stop: Vec::new(),
    }
}

fn tokens(events: &[InferenceEvent]) -> String {
    let text = |event: &InferenceEvent| match event {
        InferenceEvent::Token { text, .. } => text.to_string(),
        _ => String::new(),
    };
    events.iter().map(text).collect()
}

#[tokio::test]
async fn the_tokens_through_the_appliance_are_those_of_the_server() {
    let site = Site::new().unwrap();
    let _server = site.start_server("").unwrap();
    // Not the default profile, which goes by what it has measured: here the same has to come out three times.
    let appliance = site.start_appliance("[prepare]\nprofile = \"classic\"").unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    let prompt = long_prompt();

    let whole = lan.post("/v1/complete", &greedy(&prompt, 48)).await.unwrap();
    assert_eq!(whole.status, 200, "{:?}", whole.body);
    let whole = whole.json().unwrap();
    let mut stream = lan.stream("/v1/complete/stream", &greedy(&prompt, 48)).await.unwrap();
    let events = stream.rest().await.unwrap();

    // The server asked directly, with the prompt as the appliance prepares it.
    let prepared = prepare(&prompt, Profile::Classic);
    assert!(prepared.prompt.len() < prompt.len() / 2, "the example must be one that is reduced");
    let direct = Client::tls(site.server, Some(site.server_key.expose()), own_identity(&site));
    let body = frame::to_bytes(&request(&prepared.prompt, 48)).unwrap();
    let answer = direct.frames("/v1/inference/stream", body).await.unwrap();

    let text = tokens(&answer);
    assert!(!text.is_empty());
    assert_eq!(whole["result"], text);
    assert_eq!(text_of(&events), text);
    check_whole(&whole, &prompt, &prepared.prompt);
    check_done(events.last().unwrap(), &whole);
    drop(appliance);
}

fn check_whole(whole: &Value, prompt: &str, prepared: &str) {
    assert_eq!(whole["model_used"], MODEL);
    assert_eq!((&whole["language"], &whole["source"]), (&json!("python"), &json!("vps")));
    assert_eq!(whole["prepared"]["original_chars"], prompt.chars().count());
    assert_eq!(whole["prepared"]["final_chars"], prepared.chars().count());
    assert_eq!(whole["prepared"]["outcome"], "reduced");
    assert!(whole["tokens_generated"].as_u64().unwrap() > 0);
    assert!(whole["inference_time_seconds"].as_f64().unwrap() > 0.0);
    assert!(whole["timestamp"].as_str().unwrap().ends_with('Z'));
}

fn check_done(done: &Value, whole: &Value) {
    assert_eq!(done["done"], true);
    assert_eq!(done["total_tokens"], whole["tokens_generated"]);
    for field in ["language", "prepared", "finish_reason", "prompt_tokens"] {
        assert_eq!(done[field], whole[field], "{field}");
    }
    assert_eq!(done["model"], whole["model_used"]);
}

#[tokio::test]
async fn one_request_id_goes_through_both_logs_and_no_prompt_through_either() {
    let site = Site::new().unwrap();
    let server = site.start_server("").unwrap();
    let appliance = site.start_appliance("").unwrap();
    let id = "7f0c0b2e-3c5e-4a38-9a0e-0d5f8a1b2c3d";
    let lan = Client::plain(site.appliance, Some(site.client_key.expose())).with_header("x-request-id", id);
    let answer = lan.post("/v1/complete", &greedy("def very_secret_name(", 4)).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("x-request-id")), (200, id), "{:?}", answer.body);

    let patience = cerebrum_tests::client::PATIENCE;
    for program in [&appliance, &server] {
        program.log().heard(patience, |line| line.contains(id) && line.contains("Complete")).await.unwrap();
        assert!(program.log().lines().iter().all(|line| !line.contains("very_secret_name")));
    }
}

#[tokio::test]
async fn health_models_and_statistics_are_told() {
    let site = Site::new().unwrap();
    let _server = site.start_server("").unwrap();
    let _appliance = site.start_appliance("").unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    let healthy = |health: &Value| health["status"] == "healthy" && health["vps_connected"] == true;
    let health = cerebrum_tests::client::eventually(&lan, "/health", healthy).await.unwrap();
    assert_eq!((&health["active_count"], &health["queue_count"]), (&json!(0), &json!(0)));
    assert_eq!(health["cm4_status"], "healthy");

    lan.post("/v1/complete", &greedy("def f(", 4)).await.unwrap();
    let stats = lan.get("/v1/stats").await.unwrap().json().unwrap();
    assert_eq!(stats["cm4"]["vps_client"]["requests_successful"], 1);
    assert_eq!(stats["cm4"]["vps_client"]["success_rate_percent"], 100.0);
    assert!(stats["vps"].is_object(), "{stats}");
    let models = lan.get("/v1/models").await.unwrap().json().unwrap();
    assert!(models["available_models"].as_array().unwrap().contains(&json!(MODEL)), "{models}");
    assert_eq!(models["cached_models"], json!([MODEL]));
    assert_eq!(models["object"], "list");
    for ask in [lan.get("/v1/vps/health").await, lan.post("/v1/vps/health", &json!({})).await] {
        assert_eq!(ask.unwrap().json().unwrap()["available"], true);
    }
}

#[tokio::test]
async fn a_prompt_over_the_context_is_refused_with_both_numbers() {
    let site = Site::new().unwrap();
    let _server = site.start_server("").unwrap();
    let _appliance = site.start_appliance("[prepare]\nprofile = \"off\"").unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    let prompt = "value = compute(7)\n".repeat(1000);
    for path in ["/v1/complete", "/v1/complete/stream"] {
        let answer = lan.post(path, &greedy(&prompt, 4)).await.unwrap();
        assert_eq!(answer.status, 400, "{path}: {:?}", answer.body);
        let message = answer.json().unwrap()["message"].to_string();
        let numbers: Vec<u64> =
            message.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect();
        assert!(numbers.contains(&1024) && numbers.iter().any(|&n| n > 4000), "{message}");
    }
}
