//! Reading the stream of a service that speaks OpenAI's calls, and what it says of a failure.

use std::time::Instant;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::wire::details::TokenLogprob;
use crate::wire::{CallBegin, Completion, Failure, FailureCode, Finish, InferenceEvent, Text, Usage, sse};

#[derive(Deserialize)]
struct Chunk {
    model: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Counted>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
    text: Option<String>,
    finish_reason: Option<String>,
    /// vLLM: the stop string that ended it, or the number of a token.
    stop_reason: Option<Value>,
    logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    /// DeepSeek's name for it, which llama-server took over.
    reasoning_content: Option<String>,
    /// vLLM's and OpenRouter's.
    reasoning: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<CallPart>>,
}

#[derive(Deserialize)]
struct CallPart {
    /// Absent from some that send every call in one part.
    index: Option<u32>,
    id: Option<String>,
    function: Option<FunctionPart>,
}

#[derive(Default, Deserialize)]
struct FunctionPart {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct Logprobs {
    content: Option<Vec<Logprob>>,
}

#[derive(Deserialize)]
struct Logprob {
    token: String,
    logprob: f32,
    bytes: Option<Vec<u8>>,
    #[serde(default)]
    top_logprobs: Vec<Self>,
}

#[derive(Clone, Copy, Deserialize)]
struct Counted {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
    prompt_tokens_details: Option<CountedDetails>,
}

#[derive(Clone, Copy, Deserialize)]
struct CountedDetails {
    cached_tokens: Option<u32>,
}

/// Takes the bytes of a stream in any portions, gives events; exactly one last one, if the stream ends as it should.
#[derive(Debug)]
pub struct Reader {
    decoder: sse::Decoder,
    ready: std::collections::VecDeque<InferenceEvent>,
    /// Calls of tools so far, in the order of their beginning.
    calls: Vec<Calling>,
    finish: Option<Finish>,
    stop_string: Option<Text>,
    usage: Option<Usage>,
    model: String,
    tokens: u32,
    warnings: Vec<String>,
    ended: bool,
    started: Instant,
    first: Option<Instant>,
}

/// A call of a tool whose parts are coming.
#[derive(Debug)]
struct Calling {
    /// The service's number for it.
    number: u32,
    id: String,
    /// It has been told, with its name.
    begun: bool,
    /// Arguments that came before the name.
    held: String,
    /// Some have been told.
    has_arguments: bool,
}

impl Reader {
    /// For a stream that was asked for now.
    pub fn new(model: &str) -> Self {
        Self {
            decoder: sse::Decoder::default(),
            ready: std::collections::VecDeque::new(),
            calls: Vec::new(),
            finish: None,
            stop_string: None,
            usage: None,
            model: model.to_owned(),
            tokens: 0,
            warnings: Vec::new(),
            ended: false,
            started: Instant::now(),
            first: None,
        }
    }

    /// The same, whose last event tells what was left out of the call.
    #[must_use]
    pub fn warning(self, warnings: Vec<String>) -> Self {
        Self { warnings, ..self }
    }

    /// Adds received bytes. Where they make no event they are a sign of life: a token without a text.
    ///
    /// # Errors
    /// A sentence: what they are instead of such a stream.
    pub fn push(&mut self, bytes: &Bytes) -> Result<(), String> {
        self.decoder.push(bytes).map_err(|error| error.to_string())?;
        while let Some(event) = self.decoder.next() {
            if event.data.trim() == "[DONE]" {
                self.end();
                continue;
            }
            let chunk: Chunk = serde_json::from_str(&event.data).map_err(|error| format!("a chunk of it: {error}"))?;
            self.take(chunk);
        }
        if self.ready.is_empty() && !self.ended {
            self.ready.push_back(InferenceEvent::Token { text: "".into(), total_tokens: self.tokens });
        }
        Ok(())
    }

    /// The next event.
    #[expect(clippy::should_implement_trait, reason = "a later push makes more of them, so this is no fused Iterator")]
    pub fn next(&mut self) -> Option<InferenceEvent> {
        self.ready.pop_front()
    }

    /// The stream has ended without a word: what there is counts if it was finished.
    pub fn close(&mut self) {
        if self.finish.is_some() {
            self.end();
        }
    }

    fn take(&mut self, chunk: Chunk) {
        if let Some(error) = chunk.error {
            let failure = failure(FailureCode::Internal, &error);
            return self.ready.push_back(InferenceEvent::Error(failure));
        }
        if let Some(model) = chunk.model {
            self.model = model;
        }
        if let Some(counted) = chunk.usage {
            self.usage = Some(Usage {
                prompt_tokens: counted.prompt_tokens,
                cached_tokens: counted.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0),
                completion_tokens: counted.completion_tokens,
            });
        }
        let Some(choice) = chunk.choices.into_iter().next() else { return };
        if let Some(tokens) = choice.logprobs.and_then(|logprobs| logprobs.content).filter(|tokens| !tokens.is_empty())
        {
            self.ready.push_back(InferenceEvent::Logprobs(tokens.into_iter().map(Logprob::told).collect()));
        }
        let (mut content, mut calls) = (None, None);
        if let Some(delta) = choice.delta {
            let thought = delta.reasoning_content.or(delta.reasoning);
            self.text(thought, |text, total_tokens| InferenceEvent::Reasoning { text, total_tokens });
            self.text(delta.refusal, |text, total_tokens| InferenceEvent::Refusal { text, total_tokens });
            (content, calls) = (delta.content, delta.tool_calls);
        }
        self.text(content.or(choice.text), |text, total_tokens| InferenceEvent::Token { text, total_tokens });
        calls.into_iter().flatten().for_each(|part| self.call(part));
        let Some(reason) = choice.finish_reason else { return };
        self.finish = Some(match reason.as_str() {
            "length" => Finish::Length,
            // The second is what it was called before there were tools.
            "tool_calls" | "function_call" => Finish::ToolCalls,
            "content_filter" => Finish::ContentFilter,
            _ => {
                self.stop_string = choice.stop_reason.as_ref().and_then(Value::as_str).map(Text::from);
                Finish::Stop
            }
        });
    }

    fn text(&mut self, text: Option<String>, event: impl FnOnce(Text, u32) -> InferenceEvent) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            let total_tokens = self.written();
            self.ready.push_back(event(text.into(), total_tokens));
        }
    }

    /// Something was written: tokens so far, as many as there were pieces.
    fn written(&mut self) -> u32 {
        self.first.get_or_insert_with(Instant::now);
        self.tokens += 1;
        self.tokens
    }

    /// A part of a call goes on at once, but for what comes before the tool's name.
    fn call(&mut self, part: CallPart) {
        let FunctionPart { name, arguments } = part.function.unwrap_or_default();
        let (id, name) = (part.id.unwrap_or_default(), name.unwrap_or_default());
        let Some(at) = self.calling(part.index, &id, &name) else { return };
        let calling = &mut self.calls[at];
        if calling.id.is_empty() {
            calling.id = id;
        }
        calling.held.push_str(&arguments.unwrap_or_default());
        // Some name the tool in every part.
        if calling.begun || !name.is_empty() {
            self.tell(at, name);
        }
    }

    /// Which call a part belongs to: the last of its number. It begins another one when it has both a name and another id, since
    /// some number all their calls 0, or none (and then not every call has an id), while others give each part an id of its own.
    fn calling(&mut self, number: Option<u32>, id: &str, name: &str) -> Option<usize> {
        /// Most calls in one answer: as many as OpenAI allows tools. They are a stranger's, and each takes memory.
        const CALLS: usize = 128;
        let numbered = number.is_some();
        let number = number.or_else(|| self.calls.last().map(|last| last.number)).unwrap_or(0);
        let found = self.calls.iter().rposition(|calling| calling.number == number);
        let another = |at: &usize| {
            let calling = &self.calls[*at];
            calling.begun && !name.is_empty() && calling.id != id && !(numbered && id.is_empty())
        };
        match found.filter(|at| !another(at)) {
            Some(at) => Some(at),
            None if self.calls.len() < CALLS => {
                let calling =
                    Calling { number, id: String::new(), begun: false, held: String::new(), has_arguments: false };
                self.calls.push(calling);
                Some(self.calls.len() - 1)
            }
            None => {
                let warning = format!("tool_calls: found more, passed on {CALLS} (the most of one answer)");
                if !self.warnings.contains(&warning) {
                    self.warnings.push(warning);
                }
                None
            }
        }
    }

    /// Tells what there is of a call.
    fn tell(&mut self, at: usize, name: String) {
        let calling = &mut self.calls[at];
        let begins = (!std::mem::replace(&mut calling.begun, true)).then(|| {
            if calling.id.is_empty() {
                calling.id = format!("call_{}", uuid::Uuid::new_v4().simple());
            }
            CallBegin { id: calling.id.as_str().into(), name: name.into() }
        });
        let arguments = std::mem::take(&mut calling.held);
        calling.has_arguments |= !arguments.is_empty();
        if begins.is_some() || !arguments.is_empty() {
            let index = u32::try_from(at).unwrap_or(u32::MAX);
            let total_tokens = self.written();
            self.ready.push_back(InferenceEvent::ToolCall { index, begins, arguments: arguments.into(), total_tokens });
        }
    }

    fn end(&mut self) {
        let cut = self.finish == Some(Finish::Length);
        for at in 0..self.calls.len() {
            let calling = &mut self.calls[at];
            // Clients read arguments as JSON, also those of a tool that has none.
            if !calling.has_arguments && calling.held.is_empty() && !cut {
                calling.held.push_str("{}");
            }
            self.tell(at, String::new());
        }
        self.ended = true;
        self.ready.extend(self.stop_string.take().map(InferenceEvent::StopString));
        let now = Instant::now();
        let first = self.first.unwrap_or(now);
        let us = |from: Instant, to: Instant| u64::try_from((to - from).as_micros()).unwrap_or(u64::MAX);
        let counted = Usage { completion_tokens: self.tokens, ..Usage::default() };
        self.ready.push_back(InferenceEvent::Done(Completion {
            model: self.model.clone(),
            finish: self.finish.unwrap_or(if self.calls.is_empty() { Finish::Stop } else { Finish::ToolCalls }),
            usage: self.usage.unwrap_or(counted),
            prefill_us: us(self.started, first),
            decode_us: us(first, now),
            warnings: std::mem::take(&mut self.warnings),
        }));
    }
}

impl Logprob {
    fn told(self) -> TokenLogprob {
        let bytes = |token: &Self| token.bytes.clone().unwrap_or_else(|| token.token.clone().into_bytes());
        TokenLogprob {
            bytes: bytes(&self),
            logprob: self.logprob,
            top: self.top_logprobs.iter().map(|token| (bytes(token), token.logprob)).collect(),
        }
    }
}

/// What a service says went wrong, whatever form it has: OpenAI's object, a bare sentence, FastAPI's `detail`.
pub fn failure(code: FailureCode, error: &Value) -> Failure {
    let words = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        other => other.get("message").and_then(Value::as_str).map(str::to_owned),
    };
    let inner = error.get("error").or_else(|| error.get("detail")).unwrap_or(error);
    let named = inner.get("code").and_then(Value::as_str);
    let code = match named {
        Some("context_length_exceeded") => FailureCode::ContextOverflow,
        Some("model_not_found") => FailureCode::UnknownModel,
        _ => code,
    };
    let message = words(inner).or_else(|| words(error)).unwrap_or_else(|| "it gave no reason".to_owned());
    Failure { code, message, retry_after_ms: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn whatever_comes_is_a_sign_of_life() {
        let mut reader = Reader::new("m");
        let mut events = |bytes: &'static str| {
            reader.push(&Bytes::from_static(bytes.as_bytes())).unwrap();
            std::iter::from_fn(|| reader.next()).map(without_own_id).collect::<Vec<_>>()
        };
        let alive = |tokens| vec![InferenceEvent::Token { text: "".into(), total_tokens: tokens }];
        assert_eq!(events(": ping\n\n"), alive(0));
        assert_eq!(events("data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"), alive(0));
        let thought = |text: &str, total_tokens| vec![InferenceEvent::Reasoning { text: text.into(), total_tokens }];
        assert_eq!(
            events("data: {\"choices\":[{\"delta\":{\"content\":null,\"reasoning_content\":\"hm\"}}]}\n\n"),
            thought("hm", 1)
        );
        assert_eq!(
            events("data: {\"choices\":[{\"delta\":{\"reasoning\":\"so\",\"reasoning_content\":\"so\"}}]}\n\n"),
            thought("so", 2)
        );
        assert_eq!(
            events(
                "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\"}}]}}]}\n\n"
            ),
            [call(0, Some(("", "f")), "", 3)]
        );
        assert_eq!(events("data: [DONE]\n\n").len(), 2);
        assert!(events(": after all\n\n").is_empty());
    }

    fn call(index: u32, begins: Option<(&str, &str)>, arguments: &str, total_tokens: u32) -> InferenceEvent {
        let begins = begins.map(|(id, name)| CallBegin { id: id.into(), name: name.into() });
        InferenceEvent::ToolCall { index, begins, arguments: arguments.into(), total_tokens }
    }

    /// Ids that were made up here are random.
    fn without_own_id(mut event: InferenceEvent) -> InferenceEvent {
        if let InferenceEvent::ToolCall { begins: Some(begins), .. } = &mut event
            && begins.id.starts_with("call_")
        {
            begins.id = Text::default();
        }
        event
    }

    /// The events that stand for these deltas and their end.
    fn read(deltas: &[Value], reason: &str) -> Vec<InferenceEvent> {
        let mut reader = Reader::new("m");
        let end = json!({"choices": [{"delta": {}, "finish_reason": reason}]});
        for chunk in deltas.iter().map(|delta| json!({"choices": [{"delta": delta}]})).chain([end]) {
            reader.push(&format!("data: {chunk}\n\n").into()).unwrap();
        }
        reader.push(&Bytes::from_static(b"data: [DONE]\n\n")).unwrap();
        let heartbeat = |event: &InferenceEvent| matches!(event, InferenceEvent::Token { text, .. } if text.is_empty());
        std::iter::from_fn(|| reader.next()).filter(|event| !heartbeat(event)).map(without_own_id).collect()
    }

    fn part(number: impl Into<Value>, id: &str, name: &str, arguments: &str) -> Value {
        let mut call = json!({"index": number.into(), "id": id, "function": {"name": name, "arguments": arguments}});
        // As most services leave out what they have said.
        call.as_object_mut().unwrap().retain(|_, value| value != "" && !value.is_null());
        json!({"tool_calls": [call]})
    }

    #[test]
    fn arguments_go_on_as_they_come_whatever_they_are() {
        for pieces in [["{\"a\": ", "\"</tool_call>\"}"], ["{\"a\": 1", ""], ["not JSON", " at all"]] {
            let events =
                read(&[part(0, "c", "f", ""), part(0, "", "", pieces[0]), part(0, "", "", pieces[1])], "length");
            let mut expected = vec![call(0, Some(("c", "f")), "", 1), call(0, None, pieces[0], 2)];
            expected.extend((!pieces[1].is_empty()).then(|| call(0, None, pieces[1], 3)));
            let (done, calls) = events.split_last().unwrap();
            assert_eq!(calls, expected);
            assert!(matches!(done, InferenceEvent::Done(done) if done.finish == Finish::Length));
        }
    }

    #[test]
    fn calls_are_told_apart_however_they_are_numbered() {
        let two = [call(0, Some(("a", "f")), "{}", 1), call(1, Some(("b", "g")), "{}", 2)];
        for numbers in [[json!(0), json!(1)], [json!(0), json!(0)], [json!(null), json!(null)], [json!(7), json!(3)]] {
            let [first, second] = numbers.clone();
            let events = read(&[part(first, "a", "f", "{}"), part(second, "b", "g", "{}")], "tool_calls");
            assert_eq!(events[..2], two, "{numbers:?}");
        }
        // An id of its own for every part, the same one in every part, and the name, too.
        for (id, name) in [("x", ""), ("a", ""), ("a", "f")] {
            let events = read(&[part(0, "a", "f", "{"), part(0, id, name, "}")], "tool_calls");
            assert_eq!(events[..2], [call(0, Some(("a", "f")), "{", 1), call(0, None, "}", 2)], "{id} {name}");
        }
        let nameless = read(&[part(json!(null), "", "f", "{}"), part(json!(null), "", "g", "{}")], "tool_calls");
        assert_eq!(nameless[..2], [call(0, Some(("", "f")), "{}", 1), call(1, Some(("", "g")), "{}", 2)]);
        // Parts of two calls by turns.
        let turns = [part(0, "a", "f", ""), part(1, "b", "g", ""), part(0, "", "", "{}"), part(1, "", "", "[]")];
        assert_eq!(read(&turns, "tool_calls")[2..4], [call(0, None, "{}", 3), call(1, None, "[]", 4)]);
        let many: Vec<Value> = (0..200).map(|number| part(number, "a", "f", "{}")).collect();
        let events = read(&many, "tool_calls");
        let Some(InferenceEvent::Done(done)) = events.last() else { panic!("{events:?}") };
        assert_eq!((events.len(), done.warnings.len()), (129, 1));
    }

    #[test]
    fn a_call_has_an_id_a_name_and_arguments() {
        let events = read(&[part(0, "", "f", "")], "tool_calls");
        assert_eq!(events[..2], [call(0, Some(("", "f")), "", 1), call(0, None, "{}", 2)]);
        // One that no room was left for has none.
        assert_eq!(read(&[part(0, "", "f", "")], "length").len(), 2);
        let late = [part(0, "c", "", "{"), part(0, "", "f", "}")];
        assert_eq!(read(&late, "tool_calls")[0], call(0, Some(("c", "f")), "{}", 1));
    }

    #[test]
    fn a_text_that_quotes_a_call_is_a_text() {
        let quoted = "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>";
        let events = read(&[json!({"content": quoted})], "stop");
        assert_eq!(events[0], InferenceEvent::Token { text: quoted.into(), total_tokens: 1 });
        assert!(matches!(&events[1], InferenceEvent::Done(done) if done.finish == Finish::Stop));
    }

    #[test]
    fn why_a_service_gives_no_answer_is_told() {
        let events = read(&[json!({"content": null, "refusal": "I will not."})], "stop");
        assert_eq!(events[0], InferenceEvent::Refusal { text: "I will not.".into(), total_tokens: 1 });
        let events = read(&[json!({"content": "x"})], "content_filter");
        assert!(matches!(&events[1], InferenceEvent::Done(done) if done.finish == Finish::ContentFilter));
    }

    #[test]
    fn a_service_may_tell_which_stop_string_it_met() {
        for (reason, told) in [("\"END\"", true), ("7", false), ("null", false)] {
            let mut reader = Reader::new("m");
            let end = format!(
                "data: {{\"choices\":[{{\"delta\":{{}},\"finish_reason\":\"stop\",\"stop_reason\":{reason}}}]}}\n\ndata: [DONE]\n\n"
            );
            reader.push(&Bytes::from(end)).unwrap();
            let first = reader.next().unwrap();
            assert_eq!(first == InferenceEvent::StopString("END".into()), told, "{reason}");
        }
    }

    const STREAM: &str = concat!(
        "data: {\"model\":\"theirs\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n",
        ": ping\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"hé\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\"\"}}]}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\":1}\"}}]}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10}}\n\n",
        "data: [DONE]\n\n"
    );

    proptest! {
        #[test]
        fn a_stream_is_read_however_it_is_cut(cut in 1_usize..60) {
            let mut reader = Reader::new("m");
            for portion in STREAM.as_bytes().chunks(cut) {
                reader.push(&Bytes::copy_from_slice(portion)).unwrap();
            }
            let events: Vec<_> = std::iter::from_fn(|| reader.next()).collect();
            let heartbeat = |event: &InferenceEvent| matches!(event, InferenceEvent::Token { text, .. } if text.is_empty());
            let (done, told) = events.split_last().unwrap();
            let told: Vec<_> = told.iter().filter(|event| !heartbeat(event)).cloned().collect();
            let text = InferenceEvent::Token { text: "hé".into(), total_tokens: 1 };
            prop_assert_eq!(told, [text, call(0, Some(("c", "f")), "{\"a\"", 2), call(0, None, ":1}", 3)]);
            let InferenceEvent::Done(done) = done else { panic!("{events:?}") };
            prop_assert_eq!(done.finish, Finish::ToolCalls);
            prop_assert_eq!((done.model.as_str(), done.usage.prompt_tokens, done.usage.completion_tokens), ("theirs", 7, 3));
        }
    }

    #[test]
    fn what_went_wrong_is_found_in_any_form() {
        for (body, code, message) in [
            (
                json!({"error": {"message": "too long", "code": "context_length_exceeded"}}),
                FailureCode::ContextOverflow,
                "too long",
            ),
            (json!({"detail": "no"}), FailureCode::BadRequest, "no"),
            (json!({"error": "bad"}), FailureCode::BadRequest, "bad"),
            (json!({"object": "error", "message": "x", "code": 400}), FailureCode::BadRequest, "x"),
            (json!(null), FailureCode::BadRequest, "it gave no reason"),
        ] {
            let found = failure(FailureCode::BadRequest, &body);
            assert_eq!((found.code, found.message.as_str()), (code, message), "{body}");
        }
    }
}
