//! The calls of other people's clients through both programs: the appliance says what the server would say itself.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use cerebrum_tests::client::Client;
use cerebrum_tests::stack::Site;
use serde_json::{Value, json};

fn chat(stream: bool) -> Value {
    json!({"model": "cerebrum-tiny", "max_tokens": 16, "temperature": 0, "stream": stream,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "def add(a, b):"}]})
}

#[tokio::test]
async fn every_dialect_arrives_whole_and_streamed() {
    let site = Site::new().unwrap();
    let _server = site.start_server("").unwrap();
    let _appliance = site.start_appliance("[board]\nbackend = \"off\"").unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));

    let whole = lan.post("/v1/chat/completions", &chat(false)).await.unwrap();
    assert_eq!(whole.status, 200, "{:?}", whole.json());
    let whole = whole.json().unwrap();
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(!text.is_empty());
    let answer = lan.post("/chat/completions", &chat(true)).await.unwrap();
    let body = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
    let said: String =
        chunks(&body).iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, text);

    let prompt = json!({"model": "cerebrum-tiny", "prompt": "def add(a, b):\n", "max_tokens": 8, "temperature": 0});
    let ours = lan.post("/v1/complete", &prompt).await.unwrap().json().unwrap();
    let theirs = lan.post("/v1/completions", &prompt).await.unwrap().json().unwrap();
    assert_eq!(ours["result"], theirs["choices"][0]["text"]);

    let ask = json!({"model": "cerebrum-tiny", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]});
    let message = lan.post("/v1/messages", &ask).await.unwrap().json().unwrap();
    assert_eq!((&message["type"], &message["stop_reason"]), (&json!("message"), &json!("max_tokens")));

    let gap = json!({"model": "cerebrum-tiny", "input_prefix": "def add(a, b):\n    ret", "input_suffix": "\n", "n_predict": 4,
        "input_extra": [{"filename": "a.py", "text": "import os\n"}], "response_fields": ["content", "timings/predicted_n"]});
    let filled = lan.post("/infill", &gap).await.unwrap().json().unwrap();
    assert_eq!((filled["content"].is_string(), &filled["timings/predicted_n"]), (true, &json!(4)));

    let several = json!({"model": "cerebrum-tiny", "prompt": "x", "max_tokens": 4, "n": 2});
    let several = lan.post("/v1/completions", &several).await.unwrap().json().unwrap();
    assert_eq!(several["choices"].as_array().unwrap().len(), 2);

    several_in_one_stream(&lan).await;
    several_in_one_stream(&site.direct_client()).await;

    let tokens = lan.post("/tokenize", &json!({"content": "def add"})).await.unwrap().json().unwrap();
    let back = lan.post("/detokenize", &tokens).await.unwrap().json().unwrap();
    assert!(back["content"].as_str().unwrap().ends_with("def add"), "{back}");
    let models = lan.get("/models").await.unwrap().json().unwrap();
    assert_eq!(models["data"][0]["id"], "cerebrum-tiny");
}

#[tokio::test]
async fn messages_are_counted_before_they_are_read_and_tell_what_ended_them() {
    let site = Site::new().unwrap();
    let _server = site.start_server("").unwrap();
    let _appliance = site.start_appliance("[board]\nbackend = \"off\"").unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    let ask = |more: Value| {
        let mut body = json!({"model": "cerebrum-tiny", "max_tokens": 24, "temperature": 0, "system": "Be brief.",
            "messages": [{"role": "user", "content": "def add(a, b):"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let whole = lan.post("/v1/messages", &ask(json!({}))).await.unwrap().json().unwrap();
    let read =
        |usage: &Value| usage["input_tokens"].as_u64().unwrap() + usage["cache_read_input_tokens"].as_u64().unwrap();
    let tokens = read(&whole["usage"]);

    // The vocabulary comes while the first requests are answered.
    let counted = async |more: Value| {
        let mut body = ask(more);
        body.as_object_mut().unwrap().remove("max_tokens");
        let answer = lan.post("/v1/messages/count_tokens", &body).await.unwrap();
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        answer.json().unwrap()["input_tokens"].as_u64().unwrap()
    };
    let mut exact = counted(json!({})).await;
    for _ in 0..100 {
        if exact.abs_diff(tokens) <= 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        exact = counted(json!({})).await;
    }
    assert!(exact.abs_diff(tokens) <= 2, "counted {exact}, read {tokens}");
    let tools = json!({"tools": [{"name": "look", "description": "Looks it up.", "input_schema": {"type": "object"}}]});
    assert!(counted(tools).await > exact + 5);
    let wrong = lan.post("/v1/messages/count_tokens", &json!({"messages": 7})).await.unwrap();
    assert_eq!((wrong.status.as_u16(), &wrong.json().unwrap()["type"]), (400, &json!("error")));

    let stop: String = whole["content"][0]["text"].as_str().unwrap().chars().skip(8).take(4).collect();
    // Streamed last, when the answer is remembered.
    for stream in [false, true] {
        let answer =
            lan.post("/v1/messages", &ask(json!({"stop_sequences": ["never", stop], "stream": stream}))).await.unwrap();
        let end = match stream {
            false => answer.json().unwrap(),
            true => {
                let events = spoken(&answer.body);
                let begun = events[0]["message"]["usage"]["input_tokens"].as_u64().unwrap();
                assert!(begun.abs_diff(tokens) <= 2, "{begun} instead of {tokens}");
                events.into_iter().find(|event| event["type"] == "message_delta").unwrap()["delta"].take()
            }
        };
        assert_eq!((&end["stop_reason"], &end["stop_sequence"]), (&json!("stop_sequence"), &json!(stop)));
    }
}

fn spoken(body: &[u8]) -> Vec<Value> {
    let lines = std::str::from_utf8(body).unwrap().lines();
    lines.filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect()
}

#[tokio::test]
async fn refusals_are_in_the_clients_words() {
    let site = Site::new().unwrap();
    let _server = site.start_server("").unwrap();
    let _appliance = site.start_appliance("[board]\nbackend = \"off\"").unwrap();
    let stranger = Client::plain(site.appliance, Some("wrong"));
    let refused = stranger.post("/v1/chat/completions", &chat(false)).await.unwrap();
    assert_eq!(
        (refused.status.as_u16(), &refused.json().unwrap()["error"]["type"]),
        (401, &json!("authentication_error"))
    );

    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    for stream in [false, true] {
        let mut body = chat(stream);
        body["model"] = json!("gpt-9");
        let refused = lan.post("/v1/chat/completions", &body).await.unwrap();
        assert_eq!(
            (refused.status.as_u16(), &refused.json().unwrap()["error"]["code"]),
            (404, &json!("model_not_found"))
        );
    }
    let refused = lan.post("/v1/messages", &json!({"messages": 7})).await.unwrap();
    assert_eq!((refused.status.as_u16(), &refused.json().unwrap()["type"]), (400, &json!("error")));
}

/// What each of them says, and why it ended, by its index.
async fn several_in_one_stream(client: &Client) {
    let options = json!({"include_usage": true});
    let prompt = json!({"model": "cerebrum-tiny", "prompt": "x", "max_tokens": 4, "n": 3, "seed": 1, "stream": true,
        "stream_options": options});
    let messages = json!([{"role": "user", "content": "x"}]);
    let chat = json!({"model": "cerebrum-tiny", "messages": messages, "max_tokens": 4, "n": 3, "seed": 1, "stream": true,
        "stream_options": options});
    for (path, mut ask) in [("/v1/completions", prompt), ("/v1/chat/completions", chat)] {
        let answer = client.post(path, &ask).await.unwrap();
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let body = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(body.ends_with("data: [DONE]\n\n") && body.matches("[DONE]").count() == 1, "{body}");
        let chunks = chunks(&body);
        let (usage, chunks) = chunks.split_last().unwrap();
        assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
        ask["stream"] = json!(false);
        let whole = client.post(path, &ask).await.unwrap().json().unwrap();
        assert_eq!(usage["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
        for index in 0..3 {
            let choices = chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|choice| choice["index"] == index);
            let (said, ends): (Vec<_>, Vec<_>) = choices
                .map(|choice| {
                    let text = choice["text"].as_str().or(choice["delta"]["content"].as_str()).unwrap_or_default();
                    (text, choice["finish_reason"].as_str())
                })
                .unzip();
            assert!(ends.last().unwrap().is_some() && ends.iter().flatten().count() == 1, "{ends:?}");
            let whole = &whole["choices"][index];
            let text = whole["text"].as_str().or(whole["message"]["content"].as_str()).unwrap();
            assert_eq!(said.concat(), text);
        }
    }
}

fn chunks(body: &str) -> Vec<Value> {
    let data = body.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    data.filter_map(|data| serde_json::from_str(data).ok()).collect()
}
