//! What services of other people stream beside an answer's text, and what they are told beside the messages: a stand-in plays the
//! service.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use bytes::Bytes;
use cerebrum_tests::client::{Answer, Client, eventually};
use cerebrum_tests::stack::{MODEL, Program, Site};
use cerebrum_tests::stub_service::{STUB_MODEL, StubService, delta, finish};
use http::Method;
use serde_json::{Value, json};

async fn appliance(site: &Site, service: &StubService, more: &str) -> (Program, Client) {
    let open = "auth = \"open\"\n[board]\nbackend = \"off\"";
    let text = format!("listen = \"{}\"\n{open}\n{more}\n{}", site.appliance, service.upstream(""));
    let program = Program::start("cerebrumd", &[], &site.write("cerebrum.toml", &text).unwrap()).unwrap();
    let lan = Client::plain(site.appliance, None);
    eventually(&lan, "/health", |health| health["vps_available"] == true).await.unwrap();
    (program, lan)
}

fn ask(stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "2 + 2?"}]})
}

/// The model thinks for several times as long as a silent server may be silent.
#[tokio::test]
async fn a_model_that_thinks_is_not_silent_and_its_thoughts_are_passed_on() {
    let thought =
        |number: u32| (Duration::from_millis(500), delta(json!({"reasoning_content": format!("{number} ")})).1);
    let mut chunks = vec![delta(json!({"role": "assistant", "content": ""}))];
    chunks.extend((0..10).map(thought));
    chunks.extend([delta(json!({"content": "4"})), finish("stop")]);
    let (site, service) = (Site::new().unwrap(), StubService::start(chunks).await.unwrap());
    let (_appliance, lan) = appliance(&site, &service, "[stream]\nidle_ms = 3000\nheartbeat_ms = 100").await;
    let whole = lan.post("/v1/chat/completions", &ask(false)).await.unwrap();
    assert_eq!(whole.status, 200, "{:?}", whole.body);
    let message = &whole.json().unwrap()["choices"][0]["message"];
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!("4"), &json!("0 1 2 3 4 5 6 7 8 9 ")));

    let mut stream = lan.stream("/v1/chat/completions", &ask(true)).await.unwrap();
    let (mut thoughts, mut said) = (String::new(), String::new());
    while let Some(event) = stream.next_event().await.unwrap().filter(|event| event.data != "[DONE]") {
        let chunk: Value = serde_json::from_str(&event.data).unwrap();
        let delta = &chunk["choices"][0]["delta"];
        thoughts += delta["reasoning_content"].as_str().unwrap_or_default();
        said += delta["content"].as_str().unwrap_or_default();
    }
    assert_eq!((thoughts.as_str(), said.as_str()), ("0 1 2 3 4 5 6 7 8 9 ", "4"));

    let mut anthropic = ask(false);
    anthropic["max_tokens"] = json!(9);
    let plain = lan.post("/v1/messages", &anthropic).await.unwrap().json().unwrap();
    assert_eq!(plain["content"], json!([{"type": "text", "text": "4"}]));
    anthropic["thinking"] = json!({"type": "enabled", "budget_tokens": 1024});
    let thinking = lan.post("/v1/messages", &anthropic).await.unwrap().json().unwrap();
    assert_eq!((&thinking["content"][0]["type"], &thinking["content"][1]["text"]), (&json!("thinking"), &json!("4")));
}

#[tokio::test]
async fn a_service_is_told_which_tools_to_call() {
    let call = json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "add", "arguments": "{\"a\": 1}"}}]});
    let chunks = vec![delta(call), finish("tool_calls")];
    let (site, service) = (Site::new().unwrap(), StubService::start(chunks).await.unwrap());
    let (_appliance, lan) = appliance(&site, &service, "").await;
    let mut body = ask(false);
    body["tools"] = json!([{"type": "function", "function": {"name": "add"}}]);
    body["tool_choice"] = json!("required");
    body["parallel_tool_calls"] = json!(false);
    body["reasoning_effort"] = json!("low");
    body["top_k"] = json!(3);
    let answer = lan.post("/v1/chat/completions", &body).await.unwrap().json().unwrap();
    let function = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(function, &json!({"name": "add", "arguments": "{\"a\": 1}"}), "{answer}");
    let asked = service.asked().unwrap();
    for field in ["tools", "tool_choice", "parallel_tool_calls", "reasoning_effort", "top_k"] {
        assert_eq!(asked[field], body[field], "{field}");
    }
    assert!(asked.get("response_format").is_none(), "{asked}");
}

#[tokio::test]
async fn models_of_every_upstream_are_listed() {
    let (site, service) =
        (Site::new().unwrap(), StubService::start(vec![delta(json!({"content": "x"})), finish("stop")]).await.unwrap());
    let _server = site.start_server("").unwrap();
    let upstreams = format!("[board]\nbackend = \"off\"\n{}", service.upstream("priority = 9"));
    let _appliance = site.start_appliance(&upstreams).unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    let listed = |models: &Value, name: &str| {
        models["data"].as_array().is_some_and(|data| data.iter().any(|model| model["id"] == name))
    };
    let both = |models: &Value| listed(models, STUB_MODEL) && listed(models, MODEL);
    eventually(&lan, "/v1/models", both).await.unwrap();
    assert_eq!(lan.get(&format!("/v1/models/{STUB_MODEL}")).await.unwrap().status, 200);
    // Clients write what is special in a path as %XX, and names of models have slashes.
    let coded = format!("/v1/models/{}", STUB_MODEL.replace('-', "%2D"));
    assert_eq!(lan.get(&coded).await.unwrap().status, 200);
}

#[tokio::test]
async fn only_pages_that_the_settings_name_may_call() {
    let chunks = vec![delta(json!({"content": "x"})), finish("stop")];
    let (site, service) = (Site::new().unwrap(), StubService::start(chunks).await.unwrap());
    let (_appliance, lan) = appliance(&site, &service, "[cors]\norigins = [\"https://app.example\"]").await;
    let ours = lan.clone().with_header("origin", "https://app.example");
    let preflight = ours.clone().with_header("access-control-request-method", "POST");
    let preflight = preflight.with_header("access-control-request-headers", "authorization");
    let answer = preflight.whole(Method::OPTIONS, "/v1/chat/completions", Bytes::new()).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-headers")), (204, "authorization"));
    let told = |answer: &Answer| answer.header("access-control-allow-origin").to_owned();
    assert_eq!(told(&answer), "https://app.example");
    assert_eq!(told(&ours.post("/v1/chat/completions", &ask(false)).await.unwrap()), "https://app.example");
    assert_eq!(told(&ours.post("/v1/chat/completions", &ask(true)).await.unwrap()), "https://app.example");
    assert_eq!(told(&ours.get("/nowhere").await.unwrap()), "https://app.example", "refusals, too");
    let foreign = lan.with_header("origin", "https://other.example");
    assert_eq!(told(&foreign.get("/v1/models").await.unwrap()), "");
    let refused = foreign.with_header("access-control-request-method", "POST");
    assert_eq!(refused.whole(Method::OPTIONS, "/v1/models", Bytes::new()).await.unwrap().status, 405);
}

#[tokio::test]
async fn a_stream_and_a_document_give_the_model_one_name() {
    let chunks = vec![delta(json!({"content": "x"})), finish("stop")];
    let (site, service) = (Site::new().unwrap(), StubService::start(chunks).await.unwrap());
    let (_appliance, lan) = appliance(&site, &service, "").await;
    let whole = lan.post("/v1/chat/completions", &ask(false)).await.unwrap().json().unwrap();
    let events = lan.stream("/v1/chat/completions", &ask(true)).await.unwrap().next_event().await.unwrap().unwrap();
    let streamed: Value = serde_json::from_str(&events.data).unwrap();
    assert_eq!((&whole["model"], &streamed["model"]), (&json!("m"), &json!("m")));
}
