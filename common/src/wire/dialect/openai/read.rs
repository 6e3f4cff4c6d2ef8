//! Reading the stream of a service that speaks OpenAI's calls, and what it says of a failure.

use std::time::Instant;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::wire::details::TokenLogprob;
use crate::wire::{Completion, Failure, FailureCode, Finish, InferenceEvent, Text, Usage, sse};

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
    tool_calls: Option<Vec<CallPart>>,
}

#[derive(Deserialize)]
struct CallPart {
    #[serde(default)]
    index: usize,
    function: Option<FunctionPart>,
}

#[derive(Deserialize)]
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
    /// Calls of tools so far: name and arguments.
    calls: Vec<(String, String)>,
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
            let thought = delta.reasoning_content.or(delta.reasoning).filter(|text| !text.is_empty());
            thought.into_iter().for_each(|text| self.thought(text));
            (content, calls) = (delta.content, delta.tool_calls);
        }
        if let Some(text) = content.or(choice.text).filter(|text| !text.is_empty()) {
            self.text(text);
        }
        calls.into_iter().flatten().for_each(|part| self.call(part));
        match choice.finish_reason.as_deref() {
            None => {}
            Some("length") => self.finish = Some(Finish::Length),
            Some(_) => {
                self.finish = Some(Finish::Stop);
                self.stop_string = choice.stop_reason.as_ref().and_then(Value::as_str).map(Text::from);
            }
        }
    }

    fn text(&mut self, text: String) {
        self.first.get_or_insert_with(Instant::now);
        self.tokens += 1;
        self.ready.push_back(InferenceEvent::Token { text: text.into(), total_tokens: self.tokens });
    }

    fn thought(&mut self, text: String) {
        self.first.get_or_insert_with(Instant::now);
        self.tokens += 1;
        self.ready.push_back(InferenceEvent::Reasoning { text: text.into(), total_tokens: self.tokens });
    }

    fn call(&mut self, part: CallPart) {
        /// More than any model calls at once; the index is a stranger's.
        const CALLS: usize = 64;
        let Some(function) = part.function.filter(|_| part.index < CALLS) else { return };
        if self.calls.len() <= part.index {
            self.calls.resize(part.index + 1, (String::new(), String::new()));
        }
        let (name, arguments) = &mut self.calls[part.index];
        name.push_str(&function.name.unwrap_or_default());
        arguments.push_str(&function.arguments.unwrap_or_default());
    }

    fn end(&mut self) {
        // As models write them that were taught to: whoever answers the client reads them again.
        for (name, arguments) in std::mem::take(&mut self.calls) {
            let arguments = if arguments.trim().is_empty() { "{}" } else { &arguments };
            self.text(format!(
                "<tool_call>\n{{\"name\": {}, \"arguments\": {arguments}}}\n</tool_call>\n",
                json!(name)
            ));
        }
        self.ended = true;
        self.ready.extend(self.stop_string.take().map(InferenceEvent::StopString));
        let now = Instant::now();
        let first = self.first.unwrap_or(now);
        let us = |from: Instant, to: Instant| u64::try_from((to - from).as_micros()).unwrap_or(u64::MAX);
        let counted = Usage { completion_tokens: self.tokens, ..Usage::default() };
        self.ready.push_back(InferenceEvent::Done(Completion {
            model: self.model.clone(),
            finish: self.finish.unwrap_or(Finish::Stop),
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

    #[test]
    fn whatever_comes_is_a_sign_of_life() {
        let mut reader = Reader::new("m");
        let mut events = |bytes: &'static str| {
            reader.push(&Bytes::from_static(bytes.as_bytes())).unwrap();
            std::iter::from_fn(|| reader.next()).collect::<Vec<_>>()
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
            alive(2)
        );
        assert_eq!(events("data: [DONE]\n\n").len(), 2);
        assert!(events(": after all\n\n").is_empty());
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
            let texts: Vec<_> = events.iter().filter_map(|event| match event {
                InferenceEvent::Token { text, .. } if !text.is_empty() => Some(text.to_string()),
                _ => None,
            }).collect();
            prop_assert_eq!(texts, ["hé", "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\":1}}\n</tool_call>\n"]);
            let Some(InferenceEvent::Done(done)) = events.last() else { panic!("{events:?}") };
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
