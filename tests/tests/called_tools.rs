//! Calls of tools that a service tells apart from its text reach clients as the service made them; so do its refusals, and what its
//! filter says. A stand-in plays the service.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, Instant};

use cerebrum_tests::client::{Answer, Client, eventually};
use cerebrum_tests::stack::{Program, Site};
use cerebrum_tests::stub_service::{Chunk, StubService, delta, finish};
use serde_json::{Value, json};

const QUOTED: &str = "Write <tool_call>{\"name\": \"add\", \"arguments\": {}}</tool_call> to call.";

struct Stack {
    lan: Client,
    service: StubService,
    _appliance: Program,
    _site: Site,
}

async fn stack(chunks: Vec<Chunk>, more: &str) -> Stack {
    let (site, service) = (Site::new().unwrap(), StubService::start(chunks).await.unwrap());
    let open = "auth = \"open\"\n[board]\nbackend = \"off\"\n[stream]\nheartbeat_ms = 100";
    let text = format!("listen = \"{}\"\n{open}\n{}", site.appliance, service.upstream(more));
    let program = Program::start("cerebrumd", &[], &site.write("cerebrum.toml", &text).unwrap()).unwrap();
    let lan = Client::plain(site.appliance, None);
    eventually(&lan, "/health", |health| health["vps_available"] == true).await.unwrap();
    Stack { lan, service, _appliance: program, _site: site }
}

fn chat(stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "2 + 2?"}],
        "tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]})
}

fn messages(stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "max_tokens": 64, "messages": [{"role": "user", "content": "2 + 2?"}],
        "tools": [{"name": "add", "input_schema": {"type": "object"}}]})
}

fn begins(index: u32, id: &str) -> Chunk {
    let function = json!({"name": "add", "arguments": ""});
    delta(json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]}))
}

fn arguments(index: u32, piece: &str) -> Chunk {
    delta(json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))
}

/// What is in a stream of OpenAI's: its text, its calls as id and arguments, and its end.
#[derive(Debug, Default, PartialEq)]
struct Read {
    text: String,
    refusal: String,
    calls: Vec<(String, String)>,
    finish: String,
}

impl Read {
    fn take(&mut self, choice: &Value) {
        let delta = &choice["delta"];
        self.text += delta["content"].as_str().unwrap_or_default();
        self.refusal += delta["refusal"].as_str().unwrap_or_default();
        self.finish += choice["finish_reason"].as_str().unwrap_or_default();
        for part in delta["tool_calls"].as_array().into_iter().flatten() {
            if let Some(id) = part["id"].as_str() {
                assert_eq!((&part["type"], &part["function"]["name"]), (&json!("function"), &json!("add")), "{part}");
                self.calls.push((id.to_owned(), String::new()));
            }
            let call = &mut self.calls[usize::try_from(part["index"].as_u64().unwrap()).unwrap()];
            call.1 += part["function"]["arguments"].as_str().unwrap();
        }
    }
}

/// A stream without the comments that tell how long it took.
fn events(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).replace(": heartbeat\n\n", "")
}

async fn streamed(lan: &Client) -> Read {
    let (mut read, mut stream) = (Read::default(), lan.stream("/v1/chat/completions", &chat(true)).await.unwrap());
    while let Some(event) = stream.next_event().await.unwrap().filter(|event| event.data != "[DONE]") {
        read.take(&serde_json::from_str::<Value>(&event.data).unwrap()["choices"][0]);
    }
    read
}

async fn whole(lan: &Client) -> Read {
    let answer = lan.post("/v1/chat/completions", &chat(false)).await.unwrap().json().unwrap();
    let (choice, mut read) = (&answer["choices"][0], Read::default());
    let calls = choice["message"]["tool_calls"].as_array().cloned().unwrap_or_default();
    let mut delta = choice["message"].clone();
    delta["tool_calls"] = (0..)
        .zip(calls)
        .map(|(index, mut call)| {
            call["index"] = json!(index);
            call
        })
        .collect();
    read.take(&json!({"delta": delta, "finish_reason": choice["finish_reason"]}));
    read
}

/// An answer of Anthropic's, whole, and the arguments of its calls as they were streamed.
async fn anthropic(lan: &Client) -> (Value, Vec<String>) {
    let whole = lan.post("/v1/messages", &messages(false)).await.unwrap().json().unwrap();
    let mut streamed: Vec<String> = Vec::new();
    let events = lan.stream("/v1/messages", &messages(true)).await.unwrap().rest().await.unwrap();
    let (mut ids, mut reason) = (Vec::new(), Value::Null);
    for event in &events {
        match event["content_block"]["type"].as_str() {
            Some("tool_use") => {
                ids.push(event["content_block"]["id"].clone());
                streamed.push(String::new());
            }
            _ if event["type"] == "message_delta" => reason = event["delta"]["stop_reason"].clone(),
            _ => {}
        }
        if let Some(piece) = event["delta"]["partial_json"].as_str() {
            streamed.last_mut().unwrap().push_str(piece);
        }
    }
    let blocks = whole["content"].as_array().unwrap().iter().filter(|block| block["type"] == "tool_use");
    assert_eq!((blocks.map(|block| block["id"].clone()).collect(), &whole["stop_reason"]), (ids, &reason), "{whole}");
    (whole, streamed)
}

#[tokio::test]
async fn calls_keep_their_ids_and_their_arguments_whatever_is_in_them() {
    let tag = "{\"a\": \"</tool_call>\"}";
    let chunks = vec![
        delta(json!({"content": "I shall add."})),
        begins(0, "call_first"),
        arguments(0, &tag[..12]),
        arguments(0, &tag[12..]),
        begins(1, "call_second"),
        arguments(1, "{\"a\": 1, \"b\""),
        finish("tool_calls"),
    ];
    let Stack { lan, service: _service, _appliance, _site } = stack(chunks, "").await;
    let pair = |id: &str, arguments: &str| (id.to_owned(), arguments.to_owned());
    let expected = Read {
        text: "I shall add.".to_owned(),
        calls: vec![pair("call_first", tag), pair("call_second", "{\"a\": 1, \"b\"")],
        finish: "tool_calls".to_owned(),
        ..Read::default()
    };
    assert_eq!(streamed(&lan).await, expected);
    assert_eq!(whole(&lan).await, expected);
    let (message, streamed) = anthropic(&lan).await;
    assert_eq!(streamed, [tag, "{\"a\": 1, \"b\""]);
    assert_eq!(message["content"][1]["id"], "call_first");
    assert_eq!(message["content"][1]["input"], json!({"a": "</tool_call>"}));
    assert_eq!(message["stop_reason"], "tool_use");

    // Once more under a key: the same bytes, ids and all.
    let again = lan.clone().with_header("idempotency-key", "once");
    let first = again.post("/v1/chat/completions", &chat(true)).await.unwrap();
    let second = again.post("/v1/chat/completions", &chat(true)).await.unwrap();
    assert_eq!((events(&second), second.header("idempotent-replayed")), (events(&first), "true"));
    assert!(events(&first).contains("call_second"));

    // Our own words have no calls; nor is one's markup shown.
    let native = lan.post("/v1/complete", &json!({"prompt": "2 + 2?"})).await.unwrap().json().unwrap();
    assert_eq!((&native["result"], &native["finish_reason"]), (&json!("I shall add."), &json!("tool_calls")));
}

#[tokio::test]
async fn a_call_that_no_room_was_left_for_is_one_that_was_cut() {
    let chunks = vec![begins(0, "call_cut"), arguments(0, "{\"a\": [1, 2"), finish("length")];
    let Stack { lan, service: _service, _appliance, _site } = stack(chunks, "").await;
    for read in [streamed(&lan).await, whole(&lan).await] {
        assert_eq!(read.calls, [("call_cut".to_owned(), "{\"a\": [1, 2".to_owned())]);
        assert_eq!((read.text.as_str(), read.finish.as_str()), ("", "length"));
    }
    let (message, _) = anthropic(&lan).await;
    assert_eq!(message["stop_reason"], "max_tokens");
    assert_eq!(message["content"][0]["input"], json!({"INVALID_JSON": "{\"a\": [1, 2"}));
}

#[tokio::test]
async fn a_text_that_quotes_a_call_stays_text() {
    let Stack { lan, service: _service, _appliance, _site } =
        stack(vec![delta(json!({"content": QUOTED})), finish("stop")], "").await;
    let expected = Read { text: QUOTED.to_owned(), finish: "stop".to_owned(), ..Read::default() };
    assert_eq!(streamed(&lan).await, expected);
    assert_eq!(whole(&lan).await, expected);
    let (message, streamed) = anthropic(&lan).await;
    assert_eq!((&message["content"], streamed.len()), (&json!([{"type": "text", "text": QUOTED}]), 0));
    assert_eq!(message["stop_reason"], "end_turn");
}

/// Several answers to one request: each has calls of its own.
#[tokio::test]
async fn every_answer_of_several_has_its_calls() {
    let chunks = vec![begins(0, "call_one"), arguments(0, "{}"), finish("tool_calls")];
    let Stack { lan, service: _service, _appliance, _site } = stack(chunks, "").await;
    let mut ask = chat(true);
    ask["n"] = json!(2);
    let (mut reads, mut stream) =
        ([Read::default(), Read::default()], lan.stream("/v1/chat/completions", &ask).await.unwrap());
    while let Some(event) = stream.next_event().await.unwrap().filter(|event| event.data != "[DONE]") {
        let chunk: Value = serde_json::from_str(&event.data).unwrap();
        let choice = &chunk["choices"][0];
        reads[usize::try_from(choice["index"].as_u64().unwrap()).unwrap()].take(choice);
    }
    for read in reads {
        assert_eq!((read.calls, read.finish.as_str()), (vec![("call_one".to_owned(), "{}".to_owned())], "tool_calls"));
    }
}

/// When a piece is seen, told by what the service still has to say then: no test of a shared machine's speed.
#[tokio::test]
async fn arguments_arrive_as_the_service_writes_them() {
    const PIECES: usize = 18;
    const PAUSE: Duration = Duration::from_millis(150);
    let mut chunks = vec![begins(0, "call_slow")];
    chunks.extend((0..PIECES).map(|_| (PAUSE, arguments(0, "1").1)));
    chunks.push(finish("tool_calls"));
    let Stack { lan, service: _service, _appliance, _site } = stack(chunks, "").await;
    for (path, ask) in [("/v1/chat/completions", chat(true)), ("/v1/messages", messages(true))] {
        let mut stream = lan.stream(path, &ask).await.unwrap();
        let mut arrived = Vec::new();
        while let Some(event) = stream.next_event().await.unwrap().filter(|event| event.data != "[DONE]") {
            let event: Value = serde_json::from_str(&event.data).unwrap();
            let part = &event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"];
            if [part, &event["delta"]["partial_json"]].contains(&&json!("1")) {
                arrived.push(Instant::now());
            }
        }
        assert_eq!(arrived.len(), PIECES, "{path}");
        let took = arrived[PIECES - 1] - arrived[0];
        assert!(took > PAUSE * 9, "{path}: all of them within {took:?}");
    }
}

#[tokio::test]
async fn why_there_is_no_answer_is_told() {
    let refusal = vec![delta(json!({"refusal": "I will "})), delta(json!({"refusal": "not."})), finish("stop")];
    let Stack { lan, service: _service, _appliance, _site } = stack(refusal, "").await;
    for read in [streamed(&lan).await, whole(&lan).await] {
        assert_eq!((read.refusal.as_str(), read.text.as_str(), read.finish.as_str()), ("I will not.", "", "stop"));
    }
    let (message, _) = anthropic(&lan).await;
    assert_eq!((&message["content"][0]["text"], &message["stop_reason"]), (&json!("I will not."), &json!("refusal")));
    let native = lan.post("/v1/complete", &json!({"prompt": "2 + 2?"})).await.unwrap().json().unwrap();
    assert_eq!(native["result"], "I will not.");

    let filtered = vec![delta(json!({"content": "Well"})), finish("content_filter")];
    let Stack { lan, service: _service, _appliance, _site } = stack(filtered, "").await;
    for read in [streamed(&lan).await, whole(&lan).await] {
        assert_eq!((read.text.as_str(), read.finish.as_str()), ("Well", "content_filter"));
    }
    assert_eq!(anthropic(&lan).await.0["stop_reason"], "refusal");
}

#[tokio::test]
async fn a_strict_service_gets_the_words_of_openais_own() {
    let Stack { lan, service, _appliance, _site } =
        stack(vec![delta(json!({"content": "{}"})), finish("stop")], "strict = true").await;
    let mut ask = chat(false);
    ask["max_tokens"] = json!(9);
    let schema = json!({"name": "sum", "description": "of two", "strict": true, "schema": {"type": "object"}});
    ask["response_format"] = json!({"type": "json_schema", "json_schema": schema});
    assert_eq!(lan.post("/v1/chat/completions", &ask).await.unwrap().status, 200);
    let asked = service.asked().unwrap();
    assert_eq!(asked["response_format"], ask["response_format"]);
    assert_eq!((&asked["max_completion_tokens"], asked.get("max_tokens")), (&json!(9), None));
}
