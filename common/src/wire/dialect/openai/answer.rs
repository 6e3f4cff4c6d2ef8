//! Answers in OpenAI's words. What clients rely on: the role in the first delta, `finish_reason` null until the last, `index` in
//! every delta of a tool's call, usage in a chunk of its own and only for who asked, `[DONE]` after all else. Several answers
//! to one request come one after the other, each under its `index`.

use bytes::{BufMut, BytesMut};
use serde_json::{Value, json};

use super::super::tools::{Part, Scanner, Written};
use super::super::{Collected, Dialect, Identity, Problem, Reply, ToolCall, openai_usage};
use crate::wire::details::TokenLogprob;
use crate::wire::native::tokens_per_second;
use crate::wire::{CallBegin, Completion, InferenceEvent, Usage, sse};

/// A whole answer.
pub fn document(identity: &Identity, reply: &Reply, choices: &[(Collected, Completion)]) -> Value {
    let usage = choices.iter().fold(Usage::default(), |sum, (_, completion)| together(sum, completion.usage));
    let warnings = choices.first().map_or(&[][..], |(_, completion)| &completion.warnings);
    let numbered = choices.iter().enumerate();
    let chat = reply.dialect != Dialect::Completions;
    let choices: Vec<Value> = numbered
        .map(|(index, (answer, completion))| match chat {
            true => chat_choice(index, reply, answer, completion),
            false => text_choice(index, answer, completion),
        })
        .collect();
    let mut document = json!({
        "id": id(identity, reply.dialect),
        "object": if chat { "chat.completion" } else { "text_completion" },
        "created": identity.created,
        "model": identity.model,
        "choices": choices,
        "usage": openai_usage(usage),
    });
    if !warnings.is_empty() {
        document["warnings"] = json!(warnings);
    }
    document
}

/// What several answers to one prompt cost: it was read once, however many there are.
fn together(sum: Usage, next: Usage) -> Usage {
    Usage {
        prompt_tokens: next.prompt_tokens,
        cached_tokens: sum.cached_tokens.max(next.cached_tokens),
        completion_tokens: sum.completion_tokens + next.completion_tokens,
    }
}

fn chat_choice(index: usize, reply: &Reply, answer: &Collected, completion: &Completion) -> Value {
    let mut scanner = Scanner::new(reply.forced);
    let (mut text, mut calls) = (String::new(), Vec::new());
    if reply.tools && !answer.calls_apart {
        let mut parts = scanner.push(&answer.text);
        parts.extend(scanner.finish());
        for part in parts {
            match part {
                Part::Text(more) => text.push_str(&more),
                Part::Call(call) => calls.push(tool_call(&own(call))),
            }
        }
    } else {
        text.clone_from(&answer.text);
    }
    let finish = if calls.is_empty() { completion.finish.as_str() } else { "tool_calls" };
    calls.extend(answer.calls.iter().map(tool_call));
    let nothing = text.trim().is_empty() && !(calls.is_empty() && answer.refusal.is_empty());
    let mut message = json!({"role": "assistant", "content": if nothing { Value::Null } else { json!(text) }});
    if !answer.refusal.is_empty() {
        message["refusal"] = json!(answer.refusal);
    }
    if !answer.reasoning.is_empty() {
        message["reasoning_content"] = json!(answer.reasoning);
    }
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    let logprobs = if answer.logprobs.is_empty() { Value::Null } else { chat_logprobs(&answer.logprobs) };
    json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish})
}

fn text_choice(index: usize, answer: &Collected, completion: &Completion) -> Value {
    let logprobs = if answer.logprobs.is_empty() { Value::Null } else { text_logprobs(&answer.logprobs, 0) };
    json!({"index": index, "text": answer.said(), "logprobs": logprobs, "finish_reason": completion.finish.as_str()})
}

/// A call that was found in a text gets its id here.
fn own(call: Written) -> ToolCall {
    let id = format!("call_{}", uuid::Uuid::new_v4().simple());
    ToolCall { id, name: call.name, arguments: call.arguments }
}

fn tool_call(call: &ToolCall) -> Value {
    json!({
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    })
}

/// A part of a call: what it is comes once, its arguments in pieces.
fn call_part(index: u32, begins: Option<&CallBegin>, arguments: &str) -> Value {
    match begins {
        Some(CallBegin { id, name }) => {
            json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
        }
        None => json!({"index": index, "function": {"arguments": arguments}}),
    }
}

fn chat_logprobs(tokens: &[TokenLogprob]) -> Value {
    let one = |bytes: &[u8], logprob: f32| json!({"token": String::from_utf8_lossy(bytes), "logprob": logprob, "bytes": bytes});
    let token = |token: &TokenLogprob| {
        let mut entry = one(&token.bytes, token.logprob);
        entry["top_logprobs"] = token.top.iter().map(|(bytes, logprob)| one(bytes, *logprob)).collect();
        entry
    };
    json!({"content": tokens.iter().map(token).collect::<Vec<_>>()})
}

// Offsets are in characters of the answer, of which `from` came before.
fn text_logprobs(tokens: &[TokenLogprob], from: usize) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let top = |token: &TokenLogprob| -> Value {
        token.top.iter().map(|(bytes, logprob)| (text(bytes), json!(logprob))).collect::<serde_json::Map<_, _>>().into()
    };
    json!({
        "tokens": tokens.iter().map(|token| text(&token.bytes)).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| token.logprob).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets(tokens, from),
    })
}

// A character over several tokens counts where it begins.
fn offsets(tokens: &[TokenLogprob], from: usize) -> Vec<usize> {
    let begins = |bytes: &[u8]| bytes.iter().filter(|byte| !matches!(byte, 0x80..=0xbf)).count();
    let next = |at: &mut usize, token: &TokenLogprob| Some(std::mem::replace(at, *at + begins(&token.bytes)));
    tokens.iter().scan(from, next).collect()
}

fn id(identity: &Identity, dialect: Dialect) -> String {
    let kind = if dialect == Dialect::Completions { "cmpl" } else { "chatcmpl" };
    format!("{kind}-{}", identity.id)
}

/// `{"error":{message,type,param,code}}`.
pub fn error(status: u16, problem: &Problem<'_>) -> Value {
    let kind = match status {
        401 | 403 => "authentication_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        503 => "overloaded_error",
        _ => "server_error",
    };
    json!({"error": {"message": problem.message, "type": kind, "param": problem.field, "code": problem.code}})
}

/// Writes a stream.
#[derive(Debug)]
pub struct Speaker {
    id: String,
    identity: Identity,
    chat: bool,
    /// Tokens are counted at the end.
    counts: bool,
    /// Answers that are still to come behind this one.
    left: u32,
    /// What the answers before this one cost.
    before: Usage,
    /// Nothing but a call of a tool is wanted.
    forced: bool,
    /// Tools may be called.
    tools: bool,
    choice: Choice,
}

/// The answer that is being written.
#[derive(Debug, Default)]
struct Choice {
    index: u32,
    /// Where tools may be called, and calls stand in the text.
    scanner: Option<Scanner>,
    opened: bool,
    /// Of tokens whose text has not come yet.
    logprobs: Vec<TokenLogprob>,
    /// Characters written.
    written: usize,
}

impl Speaker {
    /// For one stream.
    pub fn new(identity: Identity, reply: &Reply) -> Self {
        Self {
            id: id(&identity, reply.dialect),
            identity,
            chat: reply.dialect != Dialect::Completions,
            counts: reply.usage,
            left: reply.choices.saturating_sub(1),
            before: Usage::default(),
            forced: reply.forced,
            tools: reply.tools,
            choice: Choice { scanner: reply.tools.then(|| Scanner::new(reply.forced)), ..Choice::default() },
        }
    }

    /// Said before the first event of an answer: whether its calls of tools come apart from its text.
    pub fn calls_apart(&mut self, apart: bool) {
        self.choice.scanner = (self.tools && !apart).then(|| Scanner::new(self.forced));
    }

    /// Writes an event. A `Done` ends one answer; what follows it belongs to the next, as long as the request wants one.
    pub fn write(&mut self, event: &InferenceEvent, out: &mut BytesMut) {
        match event {
            InferenceEvent::Token { text, .. } => {
                self.open(out);
                self.text(text, out);
            }
            InferenceEvent::Logprobs(tokens) => self.choice.logprobs.extend_from_slice(tokens),
            InferenceEvent::Reasoning { text, .. } if self.chat => {
                self.open(out);
                self.delta(json!({"reasoning_content": text}), Value::Null, out);
            }
            InferenceEvent::ToolCall { index, begins, arguments, .. } if self.chat => {
                self.open(out);
                self.delta(json!({"tool_calls": [call_part(*index, begins.as_ref(), arguments)]}), Value::Null, out);
            }
            InferenceEvent::Reasoning { .. } | InferenceEvent::ToolCall { .. } => sse::write_comment("heartbeat", out),
            InferenceEvent::Refusal { text, .. } if self.chat => {
                self.open(out);
                self.delta(json!({"refusal": text}), Value::Null, out);
            }
            InferenceEvent::Refusal { text, .. } => self.content(text, out),
            InferenceEvent::Done(completion) => self.end(completion, out),
            InferenceEvent::Error(failure) => sse::write_json(&error(500, &failure.into()), out),
            InferenceEvent::Loading { .. } | InferenceEvent::Progress { .. } => self.open(out),
            InferenceEvent::StopString(_) => {}
        }
    }

    fn open(&mut self, out: &mut BytesMut) {
        if self.chat && !std::mem::replace(&mut self.choice.opened, true) {
            self.delta(json!({"role": "assistant", "content": ""}), Value::Null, out);
        }
    }

    fn text(&mut self, text: &str, out: &mut BytesMut) {
        let Some(scanner) = &mut self.choice.scanner else { return self.content(text, out) };
        let before = scanner.calls();
        let parts = scanner.push(text);
        self.parts(parts, before, out);
    }

    fn parts(&mut self, parts: Vec<Part>, mut calls: usize, out: &mut BytesMut) {
        for part in parts {
            match part {
                Part::Text(text) => self.content(&text, out),
                Part::Call(call) => {
                    let mut delta = tool_call(&own(call));
                    delta["index"] = json!(calls);
                    calls += 1;
                    self.delta(json!({"tool_calls": [delta]}), Value::Null, out);
                }
            }
        }
    }

    fn content(&mut self, text: &str, out: &mut BytesMut) {
        let logprobs = self.take_logprobs();
        self.choice.written += text.chars().count();
        match self.chat {
            true => self.delta(json!({"content": text}), logprobs, out),
            false => {
                let choice =
                    json!({"index": self.choice.index, "text": text, "logprobs": logprobs, "finish_reason": null});
                self.chunk(json!([choice]), None, out);
            }
        }
    }

    fn take_logprobs(&mut self) -> Value {
        let tokens = std::mem::take(&mut self.choice.logprobs);
        match (tokens.is_empty(), self.chat) {
            (true, _) => Value::Null,
            (false, true) => chat_logprobs(&tokens),
            (false, false) => text_logprobs(&tokens, self.choice.written),
        }
    }

    fn delta(&self, delta: Value, logprobs: Value, out: &mut BytesMut) {
        let choice = json!({"index": self.choice.index, "delta": delta, "logprobs": logprobs, "finish_reason": null});
        self.chunk(json!([choice]), None, out);
    }

    fn end(&mut self, completion: &Completion, out: &mut BytesMut) {
        self.open(out);
        let before = self.choice.scanner.as_ref().map_or(0, Scanner::calls);
        let rest = self.choice.scanner.as_mut().and_then(Scanner::finish);
        self.parts(rest.into_iter().collect(), before, out);
        let called = self.choice.scanner.as_ref().is_some_and(|scanner| scanner.calls() > 0);
        let finish = if called { "tool_calls" } else { completion.finish.as_str() };
        // Tokens that made no whole character have come without a text.
        let logprobs = self.take_logprobs();
        let index = self.choice.index;
        let last = match self.chat {
            true => json!({"index": index, "delta": {}, "logprobs": logprobs, "finish_reason": finish}),
            false => json!({"index": index, "text": "", "logprobs": logprobs, "finish_reason": finish}),
        };
        self.chunk(json!([last]), None, out);
        let usage = together(self.before, completion.usage);
        if self.left > 0 {
            self.left -= 1;
            self.before = usage;
            let scanner = self.tools.then(|| Scanner::new(self.forced));
            self.choice = Choice { index: index + 1, scanner, ..Choice::default() };
            return;
        }
        if self.counts {
            self.chunk(json!([]), Some((usage, tokens_per_second(completion))), out);
        }
        out.put_slice(b"data: [DONE]\n\n");
    }

    fn chunk(&self, choices: Value, usage: Option<(Usage, f64)>, out: &mut BytesMut) {
        let mut chunk = json!({
            "id": self.id,
            "object": if self.chat { "chat.completion.chunk" } else { "text_completion" },
            "created": self.identity.created,
            "model": self.identity.model,
            "choices": choices,
        });
        if let Some((usage, per_second)) = usage {
            chunk["usage"] = openai_usage(usage);
            chunk["timings"] = json!({"predicted_per_second": per_second});
        }
        sse::write_json(&chunk, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Finish;

    fn completion() -> Completion {
        Completion {
            model: "m".into(),
            finish: Finish::Stop,
            usage: Usage { prompt_tokens: 9, cached_tokens: 4, completion_tokens: 2 },
            prefill_us: 1,
            decode_us: 1,
            warnings: Vec::new(),
        }
    }

    fn stream(reply: &Reply, texts: &[&str]) -> Vec<Value> {
        let mut speaker = Speaker::new(Identity::now("7", "m"), reply);
        let mut out = BytesMut::new();
        for (text, total_tokens) in texts.iter().zip(1..) {
            speaker.write(&InferenceEvent::Token { text: (*text).into(), total_tokens }, &mut out);
        }
        speaker.write(&InferenceEvent::Done(completion()), &mut out);
        let text = String::from_utf8(out.to_vec()).unwrap();
        let mut lines: Vec<&str> = text.split_terminator("\n\n").collect();
        assert_eq!(lines.pop(), Some("data: [DONE]"));
        lines.iter().map(|line| serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap()).collect()
    }

    #[test]
    fn a_stream_has_its_role_first_and_its_reason_last() {
        let reply = Reply { usage: true, ..Reply::whole(Dialect::Chat) };
        let chunks = stream(&reply, &["a", "b"]);
        let choices: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]).collect();
        assert_eq!(choices[0]["delta"]["role"], "assistant");
        assert_eq!((&choices[1]["delta"]["content"], &choices[2]["delta"]["content"]), (&json!("a"), &json!("b")));
        assert!(
            choices[..3]
                .iter()
                .all(|choice| choice["finish_reason"].is_null() && choice.get("finish_reason").is_some())
        );
        assert_eq!((&choices[3]["delta"], &choices[3]["finish_reason"]), (&json!({}), &json!("stop")));
        assert_eq!((&chunks[4]["choices"], &chunks[4]["usage"]["total_tokens"]), (&json!([]), &json!(11)));
        assert!(chunks.iter().all(|chunk| chunk["id"] == "chatcmpl-7"));
        assert!(chunks[..4].iter().all(|chunk| chunk.get("usage").is_none()));
    }

    #[test]
    fn several_answers_have_an_index_each_and_one_end() {
        for dialect in [Dialect::Chat, Dialect::Completions] {
            let reply = Reply { usage: true, choices: 2, ..Reply::whole(dialect) };
            let mut speaker = Speaker::new(Identity::now("7", "m"), &reply);
            let mut out = BytesMut::new();
            for text in ["a", "b"] {
                speaker.write(&InferenceEvent::Token { text: text.into(), total_tokens: 1 }, &mut out);
                speaker.write(&InferenceEvent::Done(completion()), &mut out);
            }
            let text = String::from_utf8(out.to_vec()).unwrap();
            assert_eq!(text.matches("[DONE]").count(), 1);
            let chunks: Vec<Value> =
                text.split("data: ").filter_map(|chunk| serde_json::from_str(chunk.trim()).ok()).collect();
            let indexes: Vec<_> = chunks.iter().filter_map(|chunk| chunk["choices"][0]["index"].as_u64()).collect();
            let chat = dialect == Dialect::Chat;
            assert_eq!(indexes, if chat { vec![0, 0, 0, 1, 1, 1] } else { vec![0, 0, 1, 1] });
            let roles = chunks.iter().filter(|chunk| chunk["choices"][0]["delta"]["role"] == "assistant").count();
            assert_eq!(roles, if chat { 2 } else { 0 });
            let finished = chunks.iter().filter(|chunk| chunk["choices"][0]["finish_reason"] == "stop").count();
            assert_eq!(finished, 2);
            let usages: Vec<&Value> = chunks.iter().map(|chunk| &chunk["usage"]).filter(|u| !u.is_null()).collect();
            assert_eq!(usages.len(), 1);
            assert_eq!((&usages[0]["prompt_tokens"], &usages[0]["completion_tokens"]), (&json!(9), &json!(4)));
        }
    }

    #[test]
    fn calls_of_tools_are_numbered_and_named_once() {
        let reply = Reply { tools: true, ..Reply::whole(Dialect::Chat) };
        let call = r#"<tool_call>{"name":"f","arguments":{"a":1}}</tool_call>"#;
        let chunks = stream(&reply, &["ok", &call[..9], &call[9..], call]);
        let calls: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]["tool_calls"][0]).collect();
        let calls: Vec<&&Value> = calls.iter().filter(|call| call.is_object()).collect();
        assert_eq!(calls.len(), 2);
        assert_eq!((&calls[0]["index"], &calls[1]["index"]), (&json!(0), &json!(1)));
        assert_eq!(calls[1]["function"], json!({"name":"f","arguments":"{\"a\":1}"}));
        assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    }

    const QUOTED: &str = r#"<tool_call>{"name":"f","arguments":{}}</tool_call>"#;

    /// What a service tells: a text that looks like a call, and two calls, the second cut short.
    fn told() -> Vec<InferenceEvent> {
        let call = |index, begins: Option<(&str, &str)>, arguments: &str| {
            let begins = begins.map(|(id, name)| CallBegin { id: id.into(), name: name.into() });
            InferenceEvent::ToolCall { index, begins, arguments: arguments.into(), total_tokens: 1 }
        };
        vec![
            InferenceEvent::Token { text: QUOTED.into(), total_tokens: 1 },
            call(0, Some(("call_a", "f")), ""),
            call(0, None, r#"{"a": "#),
            call(0, None, r#""</tool_call>"}"#),
            call(1, Some(("call_b", "g")), r#"{"b": 1"#),
        ]
    }

    #[test]
    fn calls_that_come_apart_go_on_part_by_part() {
        let reply = Reply { tools: true, forced: true, choices: 2, ..Reply::whole(Dialect::Chat) };
        let mut speaker = Speaker::new(Identity::now("7", "m"), &reply);
        let mut out = BytesMut::new();
        for finish in [Finish::ToolCalls, Finish::Length] {
            speaker.calls_apart(true);
            let done = InferenceEvent::Done(Completion { finish, ..completion() });
            told().iter().chain([&done]).for_each(|event| speaker.write(event, &mut out));
        }
        // Behind a service another upstream may answer, whose calls stand in its text.
        let mut next = Speaker::new(Identity::now("7", "m"), &Reply { choices: 2, ..reply });
        let mut own = BytesMut::new();
        for apart in [true, false] {
            next.calls_apart(apart);
            next.write(&InferenceEvent::Token { text: QUOTED.into(), total_tokens: 1 }, &mut own);
            next.write(&InferenceEvent::Done(completion()), &mut own);
        }
        let chunks = |out: &[u8]| -> Vec<Value> {
            let text = std::str::from_utf8(out).unwrap();
            text.split("data: ").filter_map(|chunk| serde_json::from_str(chunk.trim()).ok()).collect()
        };
        let ends = |chunks: &[Value]| -> Vec<Value> {
            let reasons = chunks.iter().map(|chunk| chunk["choices"][0]["finish_reason"].clone());
            reasons.filter(|reason| !reason.is_null()).collect()
        };
        assert_eq!(ends(&chunks(&own)), ["stop", "tool_calls"]);
        let chunks = chunks(&out);
        assert_eq!(ends(&chunks), ["tool_calls", "length"]);
        let deltas: Vec<&Value> = chunks[..6].iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
        let expected = [
            json!({"role": "assistant", "content": ""}),
            json!({"content": QUOTED}),
            json!({"tool_calls": [{"index": 0, "id": "call_a", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
            json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"a\": "}}]}),
            json!({"tool_calls": [{"index": 0, "function": {"arguments": "\"</tool_call>\"}"}}]}),
            json!({"tool_calls": [{"index": 1, "id": "call_b", "type": "function", "function": {"name": "g", "arguments": "{\"b\": 1"}}]}),
        ];
        assert_eq!(deltas, expected.iter().collect::<Vec<_>>());
    }

    #[test]
    fn calls_that_came_apart_are_whole_in_a_document() {
        let reply = Reply { tools: true, ..Reply::whole(Dialect::Chat) };
        let mut answer = Collected { calls_apart: true, ..Collected::default() };
        told().into_iter().for_each(|event| answer.take(event));
        let ended = |finish| Completion { finish, ..completion() };
        let whole =
            |answer: &Collected| document(&Identity::now("7", "m"), &reply, &[(answer.clone(), ended(Finish::Length))]);
        let choice = whole(&answer)["choices"][0].clone();
        assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("length"), &json!(QUOTED)));
        let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        let expected = json!([call("call_a", "f", "{\"a\": \"</tool_call>\"}"), call("call_b", "g", "{\"b\": 1")]);
        assert_eq!(choice["message"]["tool_calls"], expected);
        answer.text.clear();
        assert_eq!(whole(&answer)["choices"][0]["message"]["content"], Value::Null);
    }

    #[test]
    fn a_refusal_stands_apart_where_there_is_a_place_for_it() {
        let refusal = InferenceEvent::Refusal { text: "no".into(), total_tokens: 1 };
        let done = Completion { finish: Finish::ContentFilter, ..completion() };
        let (mut answer, identity) = (Collected::default(), Identity::now("7", "m"));
        answer.take(refusal.clone());
        for (dialect, delta, whole) in [
            (Dialect::Chat, "/choices/0/delta/refusal", "/choices/0/message/refusal"),
            (Dialect::Completions, "/choices/0/text", "/choices/0/text"),
        ] {
            let reply = Reply::whole(dialect);
            let mut speaker = Speaker::new(identity.clone(), &reply);
            let mut out = BytesMut::new();
            speaker.write(&refusal, &mut out);
            speaker.write(&InferenceEvent::Done(done.clone()), &mut out);
            let text = String::from_utf8(out.to_vec()).unwrap();
            let chunks = text.split("data: ").filter_map(|chunk| serde_json::from_str::<Value>(chunk.trim()).ok());
            assert!(chunks.into_iter().any(|chunk| chunk.pointer(delta) == Some(&json!("no"))), "{text}");
            assert!(text.contains("\"finish_reason\":\"content_filter\""), "{text}");
            let document = document(&identity, &reply, &[(answer.clone(), done.clone())]);
            assert_eq!(document.pointer(whole), Some(&json!("no")), "{document}");
            assert_eq!(document["choices"][0]["finish_reason"], "content_filter");
        }
    }

    #[test]
    fn log_probabilities_are_in_the_chunk_of_their_text() {
        let mut speaker = Speaker::new(Identity::now("7", "m"), &Reply::whole(Dialect::Chat));
        let mut out = BytesMut::new();
        let token = TokenLogprob { bytes: b"a".to_vec(), logprob: -0.5, top: vec![(b"a".to_vec(), -0.5)] };
        speaker.write(&InferenceEvent::Logprobs(vec![token]), &mut out);
        speaker.write(&InferenceEvent::Token { text: "a".into(), total_tokens: 1 }, &mut out);
        let text = String::from_utf8(out.to_vec()).unwrap();
        let last: Value = serde_json::from_str(text.trim_end().rsplit_once("data: ").unwrap().1).unwrap();
        assert_eq!(last["choices"][0]["delta"]["content"], "a");
        assert_eq!(last["choices"][0]["logprobs"]["content"][0]["top_logprobs"][0]["logprob"], -0.5);
    }

    #[test]
    fn what_a_model_says_to_itself_stands_apart() {
        let event = InferenceEvent::Reasoning { text: "hm".into(), total_tokens: 1 };
        let mut speaker = Speaker::new(Identity::now("7", "m"), &Reply::whole(Dialect::Chat));
        let mut out = BytesMut::new();
        speaker.write(&event, &mut out);
        let text = String::from_utf8(out.to_vec()).unwrap();
        let chunks: Vec<Value> =
            text.split("data: ").filter_map(|chunk| serde_json::from_str(chunk.trim()).ok()).collect();
        let deltas: Vec<_> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
        assert_eq!(deltas, [&json!({"role": "assistant", "content": ""}), &json!({"reasoning_content": "hm"})]);
        let mut answer = Collected::default();
        answer.take(event);
        answer.take(InferenceEvent::Token { text: "4".into(), total_tokens: 2 });
        let document = document(&Identity::now("7", "m"), &Reply::whole(Dialect::Chat), &[(answer, completion())]);
        let expected = json!({"role": "assistant", "content": "4", "reasoning_content": "hm"});
        assert_eq!(document["choices"][0]["message"], expected);
    }

    #[test]
    fn a_whole_answer_has_calls_beside_its_text() {
        let reply = Reply { tools: true, ..Reply::whole(Dialect::Chat) };
        let text = r#"<tool_call>{"name":"f","arguments":{}}</tool_call>"#.to_owned();
        let answer = Collected { text, ..Collected::default() };
        let document = document(&Identity::now("7", "m"), &reply, &[(answer, completion())]);
        let choice = &document["choices"][0];
        assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&Value::Null, &json!("tool_calls")));
        assert_eq!(choice["message"]["tool_calls"][0]["function"]["name"], "f");
        assert_eq!(document["usage"]["prompt_tokens_details"]["cached_tokens"], 4);
    }
}
