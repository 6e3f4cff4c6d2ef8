//! The other side of these calls: asking a service that speaks them.

use serde_json::{Map, Value, json};

use super::super::{Call, Said, SchemaLabel, ToolChoice};
use crate::wire::Sampling;
use crate::wire::details::{Constraint, Input};

/// What a service is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// It has no text completions: prompts go as a user's messages.
    pub chats_only: bool,
    /// It refuses fields that OpenAI's own service does not know, and those that OpenAI's newer models know no longer.
    pub strict: bool,
}

/// A call as a service takes it.
#[derive(Debug)]
pub struct Asked {
    /// Below its base URL.
    pub path: &'static str,
    /// What it is sent.
    pub body: Value,
    /// What of the call was left out, as sentences.
    pub warnings: Vec<String>,
}

/// A call as this service takes it. `model` is the service's own name.
pub fn ask(call: &Call, model: &str, manner: Manner) -> Asked {
    let Manner { chats_only, strict } = manner;
    let (mut body, mut warnings) = (Map::new(), Vec::new());
    body.insert("model".into(), model.into());
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
    let path = match &call.details.input {
        Input::Chat(chat) => {
            body.insert("messages".into(), parse(&chat.messages));
            if !chat.tools.is_empty() {
                body.insert("tools".into(), parse(&chat.tools));
                tool_use(&call.said, &mut body);
            }
            if let Some(effort) = &call.said.reasoning_effort {
                body.insert("reasoning_effort".into(), effort.as_str().into());
            }
            if !chat.variables.is_empty() {
                body.insert("chat_template_kwargs".into(), parse(&chat.variables));
            }
            "/chat/completions"
        }
        Input::Prompt if chats_only => {
            body.insert("messages".into(), json!([{"role": "user", "content": &*call.request.prompt}]));
            "/chat/completions"
        }
        Input::Prompt => {
            body.insert("prompt".into(), (*call.request.prompt).into());
            "/completions"
        }
        Input::Infill(gap) => {
            body.insert("prompt".into(), format!("{}{}", &*gap.prefix, &*gap.prompt).into());
            body.insert("suffix".into(), (*gap.suffix).into());
            "/completions"
        }
    };
    body.insert("stream".into(), true.into());
    body.insert("stream_options".into(), json!({"include_usage": true}));
    // OpenAI's models that reason take the newer name alone; its text completions have the older one only.
    let newer = strict && path == "/chat/completions";
    let limit = if newer { "max_completion_tokens" } else { "max_tokens" };
    body.insert(limit.into(), call.request.max_tokens.into());
    sampling(&call.request.sampling, &mut body);
    let further = [("top_k", call.said.top_k.map(Value::from)), ("min_p", call.said.min_p.map(rounded))];
    for (name, value) in further.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        match strict {
            true => {
                warnings.push(format!("{name}: found {value}, left out (the service that answers does not know it)"))
            }
            false => drop(body.insert(name.into(), value)),
        }
    }
    if !call.request.stop.is_empty() {
        body.insert("stop".into(), call.request.stop.iter().map(|stop| &**stop).collect());
    }
    match &call.details.constraint {
        Constraint::Free => {}
        Constraint::Grammar(grammar) => drop(body.insert("grammar".into(), (**grammar).into())),
        Constraint::JsonSchema(schema) => {
            body.insert("response_format".into(), format(parse(schema), call.said.schema.as_ref()));
        }
    }
    match (call.details.logprobs, path) {
        (None, _) => {}
        (Some(top), "/completions") => drop(body.insert("logprobs".into(), top.into())),
        (Some(top), _) => {
            body.insert("logprobs".into(), true.into());
            body.insert("top_logprobs".into(), top.into());
        }
    }
    Asked { path, body: Value::Object(body), warnings }
}

fn tool_use(said: &Said, body: &mut Map<String, Value>) {
    match &said.tool_choice {
        ToolChoice::Auto => {}
        ToolChoice::Required => drop(body.insert("tool_choice".into(), "required".into())),
        ToolChoice::Named(name) => {
            drop(body.insert("tool_choice".into(), json!({"type": "function", "function": {"name": name}})));
        }
    }
    if let Some(parallel) = said.parallel_tool_calls {
        body.insert("parallel_tool_calls".into(), parallel.into());
    }
}

fn rounded(value: f32) -> Value {
    json!((f64::from(value) * 1e4).round() / 1e4)
}

fn format(schema: Value, label: Option<&SchemaLabel>) -> Value {
    if label.is_none() && schema.as_object().is_some_and(Map::is_empty) {
        return json!({"type": "json_object"});
    }
    let SchemaLabel { name, description, strict } = label.cloned().unwrap_or_default();
    // OpenAI's service asks for a name.
    let mut named = json!({"name": name.as_deref().unwrap_or("answer"), "schema": schema});
    if let Some(description) = description {
        named["description"] = json!(description);
    }
    if let Some(strict) = strict {
        named["strict"] = json!(strict);
    }
    json!({"type": "json_schema", "json_schema": named})
}

/// Only what OpenAI itself knows, and only what differs from its defaults: some services refuse what they do not know.
fn sampling(sampling: &Sampling, body: &mut Map<String, Value>) {
    body.insert("temperature".into(), rounded(sampling.temperature));
    if sampling.temperature > 0.0 {
        body.insert("top_p".into(), rounded(sampling.top_p));
    }
    for (name, value) in
        [("frequency_penalty", sampling.frequency_penalty), ("presence_penalty", sampling.presence_penalty)]
    {
        if value != 0.0 {
            body.insert(name.into(), rounded(value));
        }
    }
    if let Some(seed) = sampling.seed {
        body.insert("seed".into(), seed.into());
    }
    if !sampling.logit_bias.is_empty() {
        let bias = sampling.logit_bias.iter().map(|(token, bias)| (token.to_string(), rounded(*bias)));
        body.insert("logit_bias".into(), Value::Object(bias.collect()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::dialect::{self, Dialect};
    use crate::wire::native::Limits;

    fn call(dialect: Dialect, body: &Value) -> Call {
        dialect::read(dialect, body.to_string().as_bytes(), Limits::default()).unwrap()
    }

    #[test]
    fn a_call_goes_on_as_it_came() {
        let body = json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}],
            "tools": [{"type": "function"}], "stop": ["x"], "temperature": 0.7, "seed": 3, "max_tokens": 9,
            "response_format": {"type": "json_object"}, "logprobs": true, "top_logprobs": 2});
        let Asked { path, body: asked, .. } = ask(&call(Dialect::Chat, &body), "their-name", Manner::default());
        assert_eq!((path, &asked["model"]), ("/chat/completions", &json!("their-name")));
        for field in
            ["messages", "tools", "stop", "temperature", "seed", "max_tokens", "response_format", "top_logprobs"]
        {
            assert_eq!(asked[field], body[field], "{field}");
        }
        let prompt = call(Dialect::Native, &json!({"prompt": "x"}));
        assert_eq!(ask(&prompt, "m", Manner::default()).path, "/completions");
        let chats_only = Manner { chats_only: true, ..Manner::default() };
        assert_eq!(ask(&prompt, "m", chats_only).body["messages"][0]["content"], "x");
    }

    #[test]
    fn a_schema_keeps_what_it_goes_by() {
        let schema = json!({"type": "object"});
        let asked = |format: Value| {
            let body = json!({"messages": [{"role": "user", "content": "x"}], "response_format": format});
            ask(&call(Dialect::Chat, &body), "m", Manner::default()).body["response_format"].clone()
        };
        for named in [
            json!({"name": "sum", "description": "of two", "strict": true, "schema": schema}),
            json!({"name": "any", "strict": false, "schema": {}}),
        ] {
            let format = json!({"type": "json_schema", "json_schema": named});
            assert_eq!(asked(format.clone()), format);
        }
        let unnamed = json!({"type": "json_schema", "json_schema": {"strict": null, "schema": schema}});
        assert_eq!(asked(unnamed)["json_schema"], json!({"name": "answer", "schema": schema}));
        let llama_cpp = json!({"type": "json_object", "schema": schema});
        assert_eq!(asked(llama_cpp)["json_schema"], json!({"name": "answer", "schema": schema}));
    }

    #[test]
    fn a_strict_service_is_told_the_limit_by_its_newer_name() {
        let strict = Manner { strict: true, ..Manner::default() };
        let chat = json!({"messages": [{"role": "user", "content": "x"}], "max_tokens": 9});
        let prompt = json!({"prompt": "x", "max_tokens": 9});
        for (dialect, body, manner, name, other) in [
            (Dialect::Chat, &chat, strict, "max_completion_tokens", "max_tokens"),
            (Dialect::Native, &prompt, Manner { chats_only: true, ..strict }, "max_completion_tokens", "max_tokens"),
            (Dialect::Chat, &chat, Manner::default(), "max_tokens", "max_completion_tokens"),
            (Dialect::Native, &prompt, strict, "max_tokens", "max_completion_tokens"),
        ] {
            let asked = ask(&call(dialect, body), "m", manner).body;
            assert_eq!((&asked[name], asked.get(other)), (&json!(9), None), "{asked}");
        }
    }

    #[test]
    fn what_is_said_of_tools_and_reasoning_goes_on() {
        let named = json!({"type": "function", "function": {"name": "f"}});
        let mut body = json!({"messages": [{"role": "user", "content": "x"}], "tools": [named], "top_k": 3, "min_p": 0.1,
            "parallel_tool_calls": false, "reasoning_effort": "low"});
        for choice in [json!("required"), named.clone()] {
            body["tool_choice"] = choice;
            let asked = ask(&call(Dialect::Chat, &body), "m", Manner::default());
            for field in ["tool_choice", "parallel_tool_calls", "reasoning_effort", "top_k", "min_p"] {
                assert_eq!(asked.body[field], body[field], "{field}");
            }
            // The grammar is for servers that are told by it.
            assert!(asked.body.get("response_format").is_none() && asked.warnings.is_empty());
        }
        let strict = ask(&call(Dialect::Chat, &body), "m", Manner { strict: true, ..Manner::default() });
        assert!(strict.body.get("top_k").is_none() && strict.body.get("min_p").is_none());
        assert_eq!(strict.warnings[0], "top_k: found 3, left out (the service that answers does not know it)");
        let silent = ask(&call(Dialect::Native, &json!({"prompt": "x"})), "m", Manner::default());
        assert!(silent.body.get("top_k").is_none() && silent.body.get("tool_choice").is_none());
        let anthropic = json!({"messages": [{"role": "user", "content": "x"}], "tools": [{"name": "f"}],
            "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true}});
        let asked = ask(&call(Dialect::Messages, &anthropic), "m", Manner::default());
        assert_eq!((&asked.body["tool_choice"], &asked.body["parallel_tool_calls"]), (&named, &json!(false)));
    }
}
