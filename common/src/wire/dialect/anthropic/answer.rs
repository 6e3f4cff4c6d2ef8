//! Answers in Anthropic's words: blocks of text, of what the model says to itself, and of calls.

use bytes::BytesMut;
use serde_json::{Value, json};

use super::super::tools::{Part, Scanner};
use super::super::{Collected, Identity, Problem, Reply};
use crate::wire::{CallBegin, Completion, Finish, InferenceEvent, Text, Usage, sse};

/// What an answer has beside its text.
#[derive(Clone, Copy, Debug, Default)]
struct Beside {
    /// Calls of tools that were found in the text, and so are whole.
    found: bool,
    /// Calls of tools that came apart from it; one that no room was left for is cut.
    called: bool,
    /// Why the model will not answer.
    refused: bool,
}

/// Why an answer ended: `stop_reason`, and `stop_sequence` where one is known to have ended it.
fn stop(finish: Finish, beside: Beside, stop_string: Option<&Text>) -> (&'static str, Value) {
    match (finish, stop_string) {
        _ if beside.found => ("tool_use", Value::Null),
        _ if beside.refused => ("refusal", Value::Null),
        (Finish::ContentFilter, _) => ("refusal", Value::Null),
        (Finish::Length, _) => ("max_tokens", Value::Null),
        _ if beside.called => ("tool_use", Value::Null),
        (Finish::Stop, Some(text)) => ("stop_sequence", json!(text)),
        (Finish::Stop | Finish::ToolCalls, _) => ("end_turn", Value::Null),
    }
}

fn usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens.saturating_sub(usage.cached_tokens),
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.completion_tokens,
    })
}

fn tool_use(id: &str, name: &str, input: Value) -> Value {
    json!({"type": "tool_use", "id": id, "name": name, "input": input})
}

/// For a call that was found in a text.
fn own_id() -> String {
    format!("toolu_{}", uuid::Uuid::new_v4().simple())
}

/// Arguments as Anthropic's clients take them: as an object. What is none, since it was cut short, must not look like a call without
/// arguments, which a client would carry out; it stands where Anthropic's own guide to unfinished arguments puts it.
fn input(arguments: &str) -> Value {
    match arguments.trim().is_empty() {
        true => json!({}),
        false => serde_json::from_str(arguments).unwrap_or_else(|_| json!({"INVALID_JSON": arguments})),
    }
}

fn message(identity: &Identity, content: Vec<Value>, stop: (Option<&str>, Value), counted: Usage) -> Value {
    let (stop_reason, stop_sequence) = stop;
    json!({
        "id": format!("msg_{}", identity.id),
        "type": "message",
        "role": "assistant",
        "model": identity.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": stop_sequence,
        "usage": usage(counted),
    })
}

/// A whole answer.
pub fn document(identity: &Identity, reply: &Reply, answer: &Collected, completion: &Completion) -> Value {
    let mut scanner = Scanner::new(reply.forced);
    let parts = match reply.tools && !answer.calls_apart {
        // What stands between calls is no answer.
        false if answer.said().trim().is_empty() && !answer.calls.is_empty() => Vec::new(),
        false => vec![Part::Text(answer.said().into_owned())],
        true => {
            let mut parts = scanner.push(&answer.text);
            parts.extend(scanner.finish());
            parts
        }
    };
    let block = |part: &Part| match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Call(call) => tool_use(&own_id(), &call.name, input(&call.arguments)),
    };
    let thought = (reply.thinking && !answer.reasoning.is_empty())
        .then(|| json!({"type": "thinking", "thinking": answer.reasoning, "signature": ""}));
    let calls = answer.calls.iter().map(|call| tool_use(&call.id, &call.name, input(&call.arguments)));
    let content = thought.into_iter().chain(parts.iter().map(block)).chain(calls).collect();
    let beside =
        Beside { found: scanner.calls() > 0, called: !answer.calls.is_empty(), refused: !answer.refusal.is_empty() };
    let (reason, sequence) = stop(completion.finish, beside, answer.stop_string.as_ref());
    message(identity, content, (Some(reason), sequence), completion.usage)
}

/// `{"type":"error","error":{type,message}}`.
pub fn error(status: u16, problem: &Problem<'_>) -> Value {
    let kind = match status {
        400 | 408 | 413 | 415 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": problem.message}})
}

/// Writes a stream: one block of text, and one for each call of a tool.
#[derive(Debug)]
pub struct Speaker {
    identity: Identity,
    /// Where tools may be called, and calls stand in the text.
    scanner: Option<Scanner>,
    begun: bool,
    /// With what the model says to itself.
    thinking: bool,
    /// Blocks begun so far, and of what kind the last is, where it is still open.
    blocks: u32,
    open: Option<&'static str>,
    /// The blocks of the calls that come apart from the text.
    calls: Vec<u32>,
    refused: bool,
    stop_string: Option<Text>,
}

impl Speaker {
    /// For one stream.
    pub fn new(identity: Identity, reply: &Reply) -> Self {
        let scanner = reply.tools.then(|| Scanner::new(reply.forced));
        let thinking = reply.thinking;
        let (open, calls, stop_string) = (None, Vec::new(), None);
        Self { identity, scanner, thinking, begun: false, blocks: 0, open, calls, refused: false, stop_string }
    }

    /// Said before the first event: whether calls of tools come apart from the text.
    pub fn calls_apart(&mut self, apart: bool) {
        if apart {
            self.scanner = None;
        }
    }

    /// Writes an event.
    pub fn write(&mut self, event: &InferenceEvent, out: &mut BytesMut) {
        match event {
            InferenceEvent::Token { text, .. } => {
                self.begin(out);
                let parts = match &mut self.scanner {
                    None => vec![Part::Text(text.to_string())],
                    Some(scanner) => scanner.push(text),
                };
                self.parts(&parts, out);
            }
            InferenceEvent::Done(completion) => self.end(completion, out),
            InferenceEvent::Error(failure) => named("error", &error(500, &failure.into()), out),
            // The prompt has not been counted yet; what comes next says how long it is.
            InferenceEvent::Loading { .. } => {}
            InferenceEvent::Progress { total, .. } => {
                self.identity.prompt_tokens = *total;
                self.begin(out);
            }
            InferenceEvent::StopString(text) => self.stop_string = Some(text.clone()),
            InferenceEvent::Reasoning { text, .. } if self.thinking => {
                self.begin(out);
                self.more("thinking", json!({"type": "thinking", "thinking": "", "signature": ""}), out);
                self.delta(json!({"type": "thinking_delta", "thinking": text}), out);
            }
            InferenceEvent::Reasoning { .. } => sse::write_comment("heartbeat", out),
            InferenceEvent::ToolCall { index, begins, arguments, .. } => {
                self.begin(out);
                self.call(*index, begins.as_ref(), arguments, out);
            }
            InferenceEvent::Refusal { text, .. } => {
                self.begin(out);
                self.refused = true;
                self.parts(&[Part::Text(text.to_string())], out);
            }
            InferenceEvent::Logprobs(_) => {}
        }
    }

    /// Goes on with the open block, or with a new one where that is of another kind.
    fn more(&mut self, kind: &'static str, block: Value, out: &mut BytesMut) {
        if self.open != Some(kind) {
            self.close(out);
            self.start_block(block, out);
            self.open = Some(kind);
        }
    }

    fn begin(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.begun, true) {
            let counted = Usage { prompt_tokens: self.identity.prompt_tokens, ..Usage::default() };
            let message = message(&self.identity, Vec::new(), (None, Value::Null), counted);
            named("message_start", &json!({"type": "message_start", "message": message}), out);
        }
    }

    fn parts(&mut self, parts: &[Part], out: &mut BytesMut) {
        for part in parts {
            match part {
                Part::Text(text) => {
                    self.more("text", json!({"type": "text", "text": ""}), out);
                    self.delta(json!({"type": "text_delta", "text": text}), out);
                }
                Part::Call(call) => {
                    self.close(out);
                    self.start_block(tool_use(&own_id(), &call.name, json!({})), out);
                    self.delta(json!({"type": "input_json_delta", "partial_json": call.arguments}), out);
                    self.open = Some("tool_use");
                    self.close(out);
                }
            }
        }
    }

    fn call(&mut self, index: u32, begins: Option<&CallBegin>, arguments: &str, out: &mut BytesMut) {
        if let Some(CallBegin { id, name }) = begins {
            self.close(out);
            self.start_block(tool_use(id, name, json!({})), out);
            self.open = Some("tool_use");
            self.calls.push(self.blocks - 1);
        }
        // A service may go on with a call that another has followed: clients go by the block's number.
        let block = self.calls.get(index as usize).filter(|_| !arguments.is_empty());
        if let Some(block) = block {
            self.delta_of(*block, json!({"type": "input_json_delta", "partial_json": arguments}), out);
        }
    }

    fn start_block(&mut self, block: Value, out: &mut BytesMut) {
        self.blocks += 1;
        let start = json!({"type": "content_block_start", "index": self.blocks - 1, "content_block": block});
        named("content_block_start", &start, out);
    }

    fn delta(&self, delta: Value, out: &mut BytesMut) {
        self.delta_of(self.blocks.saturating_sub(1), delta, out);
    }

    fn delta_of(&self, block: u32, delta: Value, out: &mut BytesMut) {
        let event = json!({"type": "content_block_delta", "index": block, "delta": delta});
        named("content_block_delta", &event, out);
    }

    fn close(&mut self, out: &mut BytesMut) {
        if self.open.take().is_some() {
            let stop = json!({"type": "content_block_stop", "index": self.blocks.saturating_sub(1)});
            named("content_block_stop", &stop, out);
        }
    }

    fn end(&mut self, completion: &Completion, out: &mut BytesMut) {
        self.begin(out);
        let rest = self.scanner.as_mut().and_then(Scanner::finish);
        self.parts(rest.as_slice(), out);
        self.close(out);
        let found = self.scanner.as_ref().is_some_and(|scanner| scanner.calls() > 0);
        let beside = Beside { found, called: !self.calls.is_empty(), refused: self.refused };
        let (reason, sequence) = stop(completion.finish, beside, self.stop_string.as_ref());
        let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
        let event = json!({"type": "message_delta", "delta": delta, "usage": usage(completion.usage)});
        named("message_delta", &event, out);
        named("message_stop", &json!({"type": "message_stop"}), out);
    }
}

fn named(name: &str, event: &Value, out: &mut BytesMut) {
    sse::write_named(name, &event.to_string(), out);
}

#[cfg(test)]
mod tests {
    use super::super::super::Dialect;
    use super::*;

    #[test]
    fn what_a_model_says_to_itself_is_a_block_for_who_asked() {
        for thinking in [false, true] {
            let reply = Reply { thinking, ..Reply::whole(Dialect::Messages) };
            let mut speaker = Speaker::new(Identity::now("7", "m"), &reply);
            let mut out = BytesMut::new();
            for _ in 0..2 {
                speaker.write(&InferenceEvent::Reasoning { text: "hm".into(), total_tokens: 1 }, &mut out);
            }
            speaker.write(&InferenceEvent::Token { text: "4".into(), total_tokens: 2 }, &mut out);
            let text = String::from_utf8(out.to_vec()).unwrap();
            assert_eq!(text.matches("thinking_delta").count(), if thinking { 2 } else { 0 });
            assert_eq!(text.matches("event: content_block_start").count(), if thinking { 2 } else { 1 });
            assert_eq!(text.matches("event: content_block_stop").count(), usize::from(thinking));
            assert!(text.contains(&format!("\"index\":{},\"delta\":{{\"type\":\"text_delta\"", u8::from(thinking))));
        }
    }

    fn completion(finish: Finish) -> Completion {
        let usage = Usage { prompt_tokens: 12, cached_tokens: 4, completion_tokens: 3 };
        Completion { model: "m".into(), finish, usage, prefill_us: 0, decode_us: 0, warnings: Vec::new() }
    }

    #[test]
    fn the_stop_string_that_ended_an_answer_is_named() {
        let cases = [
            (Finish::Stop, Some("END"), json!("stop_sequence"), json!("END")),
            (Finish::Stop, None, json!("end_turn"), Value::Null),
            (Finish::Length, None, json!("max_tokens"), Value::Null),
        ];
        let (reply, identity) = (Reply::whole(Dialect::Messages), Identity::now("7", "m"));
        for (finish, stop, reason, sequence) in cases {
            let (mut answer, mut speaker) = (Collected::default(), Speaker::new(identity.clone(), &reply));
            let mut out = BytesMut::new();
            if let Some(event) = stop.map(|text| InferenceEvent::StopString(text.into())) {
                speaker.write(&event, &mut out);
                answer.take(event);
            }
            speaker.write(&InferenceEvent::Done(completion(finish)), &mut out);
            let whole = document(&identity, &reply, &answer, &completion(finish));
            assert_eq!((&whole["stop_reason"], &whole["stop_sequence"]), (&reason, &sequence));
            let end = events(&out).into_iter().find(|event| event["type"] == "message_delta").unwrap();
            assert_eq!((&end["delta"]["stop_reason"], &end["delta"]["stop_sequence"]), (&reason, &sequence));
            assert_eq!((&end["usage"]["input_tokens"], &end["usage"]["output_tokens"]), (&json!(8), &json!(3)));
        }
    }

    #[test]
    fn a_stream_begins_with_the_tokens_of_its_prompt() {
        let identity = Identity { prompt_tokens: 9, ..Identity::now("7", "m") };
        let loading = InferenceEvent::Loading { permille: 5 };
        let progress = InferenceEvent::Progress { processed: 0, total: 12 };
        for (before, tokens) in [(vec![], 9), (vec![loading.clone()], 9), (vec![loading, progress], 12)] {
            let mut speaker = Speaker::new(identity.clone(), &Reply::whole(Dialect::Messages));
            let mut out = BytesMut::new();
            before.iter().for_each(|event| speaker.write(event, &mut out));
            speaker.write(&InferenceEvent::Done(completion(Finish::Stop)), &mut out);
            assert_eq!(events(&out)[0]["message"]["usage"]["input_tokens"], tokens);
        }
    }

    fn events(out: &[u8]) -> Vec<Value> {
        let lines = std::str::from_utf8(out).unwrap().lines();
        lines.filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect()
    }

    const QUOTED: &str = r#"<tool_call>{"name":"f","arguments":{}}</tool_call>"#;

    fn call(index: u32, begins: Option<(&str, &str)>, arguments: &str) -> InferenceEvent {
        let begins = begins.map(|(id, name)| CallBegin { id: id.into(), name: name.into() });
        InferenceEvent::ToolCall { index, begins, arguments: arguments.into(), total_tokens: 1 }
    }

    #[test]
    fn calls_that_come_apart_are_blocks_written_as_they_come() {
        let reply = Reply { tools: true, ..Reply::whole(Dialect::Messages) };
        let told = [
            InferenceEvent::Token { text: QUOTED.into(), total_tokens: 1 },
            call(0, Some(("call_a", "f")), ""),
            call(0, None, r#"{"a": "#),
            call(1, Some(("call_b", "g")), r#"{"b": 1"#),
            call(0, None, r#""</tool_call>"}"#),
        ];
        for (finish, reason) in
            [(Finish::ToolCalls, "tool_use"), (Finish::Stop, "tool_use"), (Finish::Length, "max_tokens")]
        {
            let mut speaker = Speaker::new(Identity::now("7", "m"), &reply);
            speaker.calls_apart(true);
            let mut answer = Collected { calls_apart: true, ..Collected::default() };
            let mut out = BytesMut::new();
            for event in &told {
                speaker.write(event, &mut out);
                answer.take(event.clone());
            }
            speaker.write(&InferenceEvent::Done(completion(finish)), &mut out);
            let events = events(&out);
            let of = |kind: &str, field: &str| -> Vec<Value> {
                let those = events.iter().filter(|event| event["type"] == kind);
                those.map(|event| json!([event["index"], event[field]])).collect()
            };
            let block = |id: &str, name: &str| json!({"type": "tool_use", "id": id, "name": name, "input": {}});
            let blocks = [json!({"type": "text", "text": ""}), block("call_a", "f"), block("call_b", "g")];
            let blocks: Vec<Value> = (0..).zip(blocks).map(|(index, block)| json!([index, block])).collect();
            assert_eq!(of("content_block_start", "content_block"), blocks);
            let json_delta = |text: &str| json!({"type": "input_json_delta", "partial_json": text});
            let deltas = [
                json!([0, {"type": "text_delta", "text": QUOTED}]),
                json!([1, json_delta("{\"a\": ")]),
                json!([2, json_delta("{\"b\": 1")]),
                json!([1, json_delta("\"</tool_call>\"}")]),
            ];
            assert_eq!(of("content_block_delta", "delta"), deltas);
            assert_eq!(of("content_block_stop", "none").len(), 3);
            assert_eq!(events[events.len() - 2]["delta"]["stop_reason"], reason);

            let whole = document(&Identity::now("7", "m"), &reply, &answer, &completion(finish));
            let block = |id: &str, name: &str, input: Value| json!({"type": "tool_use", "id": id, "name": name, "input": input});
            let expected = json!([{"type": "text", "text": QUOTED}, block("call_a", "f", json!({"a": "</tool_call>"})),
                block("call_b", "g", json!({"INVALID_JSON": "{\"b\": 1"}))]);
            assert_eq!((&whole["content"], &whole["stop_reason"]), (&expected, &json!(reason)));
        }
    }

    #[test]
    fn a_refusal_is_a_text_and_a_reason() {
        let refusal = InferenceEvent::Refusal { text: "no".into(), total_tokens: 1 };
        let text = InferenceEvent::Token { text: "no".into(), total_tokens: 1 };
        for (event, finish) in [(refusal, Finish::Stop), (text, Finish::ContentFilter)] {
            let (reply, identity) = (Reply::whole(Dialect::Messages), Identity::now("7", "m"));
            let (mut speaker, mut answer) = (Speaker::new(identity.clone(), &reply), Collected::default());
            let mut out = BytesMut::new();
            speaker.write(&event, &mut out);
            speaker.write(&InferenceEvent::Done(completion(finish)), &mut out);
            let events = events(&out);
            assert_eq!(events[2]["delta"], json!({"type": "text_delta", "text": "no"}));
            assert_eq!(events[events.len() - 2]["delta"]["stop_reason"], "refusal");
            answer.take(event);
            let whole = document(&identity, &reply, &answer, &completion(finish));
            assert_eq!((&whole["content"][0]["text"], &whole["stop_reason"]), (&json!("no"), &json!("refusal")));
        }
    }

    #[test]
    fn a_stream_opens_and_closes_every_block() {
        let reply = Reply { tools: true, ..Reply::whole(Dialect::Messages) };
        let mut speaker = Speaker::new(Identity::now("7", "m"), &reply);
        let mut out = BytesMut::new();
        let text = r#"ok<tool_call>{"name":"f","arguments":{}}</tool_call>"#;
        speaker.write(&InferenceEvent::Token { text: text.into(), total_tokens: 1 }, &mut out);
        speaker.write(&InferenceEvent::Done(completion(Finish::Stop)), &mut out);
        let text = String::from_utf8(out.to_vec()).unwrap();
        let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
        assert_eq!(
            names,
            [
                "message_start",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop"
            ]
        );
        assert!(text.contains(r#""stop_reason":"tool_use""#));
    }
}
