//! What the appliance knows of the server's models, and what it does with it: counts by their vocabulary, fits their context,
//! keeps to a conversation's context and model.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use cerebrum_tests::client::{Client, eventually};
use cerebrum_tests::stack::{Program, Site};
use serde_json::{Value, json};

async fn start(more: &str) -> (Site, Program, Program, Client) {
    let site = Site::new().unwrap();
    let server = site.start_server("").unwrap();
    let appliance = site.start_appliance(&format!("{more}\n[board]\nbackend = \"off\"")).unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    eventually(&lan, "/health", |health| health["vps_available"] == true).await.unwrap();
    (site, server, appliance, lan)
}

/// A module of `count` functions, each of its own kind.
fn module(count: usize) -> String {
    (0..count)
        .map(|n| format!("def shape_{n}(width_{n}, height):\n    return width_{n} * height + {n}\n\n\n"))
        .collect()
}

#[tokio::test]
async fn tokens_are_counted_by_the_models_own_vocabulary() {
    let (_site, _server, _appliance, lan) = start("").await;
    let prompt = format!("{}# Ünïcode, \"quotes\" and 12345 numbers\n", module(40));
    let told = lan.post("/v1/prepare", &json!({ "prompt": prompt })).await.unwrap().json().unwrap();
    assert_eq!((&told["tokens_counted"], &told["profile"]), (&json!(true), &json!("smart")), "{told}");
    let tokens = lan.post("/tokenize", &json!({ "content": prompt })).await.unwrap().json().unwrap();
    let (counted, tokens) = (told["original_tokens"].as_u64().unwrap(), tokens["tokens"].as_array().unwrap().len());
    assert_eq!(counted, tokens as u64);
}

#[tokio::test]
async fn a_prompt_is_made_to_fit_the_models_context() {
    let (_site, _server, _appliance, lan) = start("").await;
    let warm = json!({"prompt": "def a():", "max_tokens": 1});
    assert_eq!(lan.post("/v1/complete", &warm).await.unwrap().status, 200);
    let prompt = format!("{}\nRename `shape_7` to `area` and explain it.\n", module(120));
    let answer = lan.post("/v1/complete", &json!({"prompt": prompt, "max_tokens": 32})).await.unwrap();
    let told = answer.json().unwrap();
    assert_eq!(answer.status, 200, "{told}");
    assert!(told["prompt_tokens"].as_u64().unwrap() <= 1024 - 32, "{told}");
}

#[tokio::test]
async fn a_conversation_keeps_its_context_in_the_servers_cache() {
    let (_site, _server, _appliance, lan) = start("").await;
    let turn = async |ask: &str| -> Value {
        let prompt = format!("{}\n{ask}\n", module(60));
        let body = json!({"prompt": prompt, "max_tokens": 8, "temperature": 0, "session_id": "one"});
        let answer = lan.post("/v1/complete", &body).await.unwrap();
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        answer.json().unwrap()
    };
    turn("Explain `shape_3` to me, please.").await;
    turn("Explain `shape_3` again, please.").await;
    let third = turn("What is wrong with `shape_3`?").await;
    let (cached, all) = (third["cached_tokens"].as_u64().unwrap(), third["prompt_tokens"].as_u64().unwrap());
    assert!(cached * 2 > all, "{third}");
}

#[tokio::test]
async fn tiers_and_profiles_choose_models() {
    let (_site, _server, _appliance, lan) = start(
        "[models]\nprofile = \"size\"\nsmall = \"qwen_7b\"\nquality = \"codellama_7b\"\ntiers = { jive = \"cerebrum-tiny\" }",
    ).await;
    let told = async |body: Value| lan.post("/v1/prepare", &body).await.unwrap().json().unwrap();
    let easy = told(json!({"prompt": "Rename `a` to `b` in this:\n\ndef a():\n    return 1\n"})).await;
    assert_eq!((&easy["model"], &easy["model_source"]), (&json!("qwen_7b"), &json!("profile")));
    let hard = told(json!({"prompt": "Find the deadlock in this:\n\ndef a():\n    return 1\n"})).await;
    assert_eq!(hard["model"], "codellama_7b");
    let tier = told(json!({"prompt": "Write a detailed report on sorting.", "model": "jive"})).await;
    assert_eq!((&tier["model"], &tier["max_tokens"]), (&json!("cerebrum-tiny"), &json!(8000)));
    let capped = told(json!({"prompt": "Sort.", "model": "jigga", "max_tokens": 200})).await;
    assert_eq!((&capped["model"], &capped["max_tokens"]), (&json!("qwen_7b"), &json!(200)));
}
