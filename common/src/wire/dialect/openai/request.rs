//! Bodies of `/v1/chat/completions` and `/v1/completions`. Fields that nobody here knows are ignored, as clients expect.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::{Call, Dialect, Reply, Said, SchemaLabel, ToolChoice};
use super::fim;
use crate::wire::details::{Chat, Constraint, Details, Infill, Input, Urgency};
use crate::wire::json::{self, JsonError};
use crate::wire::native::{Generate, Limits, TokenLimit, refuse};
use crate::wire::{InferenceRequest, Text};

/// What both calls have beside what they share with [`Generate`].
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    messages: Option<Vec<Value>>,
    suffix: Option<Text>,
    echo: Option<bool>,
    max_completion_tokens: Option<TokenLimit>,
    n_predict: Option<i64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<u32>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    reasoning_effort: Option<String>,
    response_format: Option<ResponseFormat>,
    json_schema: Option<Value>,
    grammar: Option<Text>,
    logprobs: Option<Value>,
    top_logprobs: Option<u32>,
    logit_bias: Option<Value>,
    chat_template_kwargs: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct ResponseFormat {
    r#type: Option<String>,
    json_schema: Option<NamedSchema>,
    schema: Option<Value>,
}

#[derive(Deserialize)]
struct NamedSchema {
    schema: Option<Value>,
    #[serde(flatten)]
    label: SchemaLabel,
}

/// Most alternatives that may be asked for beside a token, and most answers to one request: each is work for every token.
const LOGPROBS: u32 = 20;
const CHOICES: u32 = 8;

/// Reads a body of `/v1/chat/completions`.
///
/// # Errors
/// What is wrong with it, by field.
pub fn chat(body: &[u8], limits: Limits) -> Result<Call, JsonError> {
    let (generate, mut body) = both(body)?;
    let messages = messages(body.messages.take())?;
    let choice = tool_choice(body.tool_choice.as_ref())?;
    let tools = body.tools.take().filter(|_| choice.is_some()).unwrap_or_default();
    let said = Said {
        tool_choice: choice.unwrap_or_default().among(&tools)?,
        parallel_tool_calls: body.parallel_tool_calls,
        reasoning_effort: body.reasoning_effort.take(),
        ..Said::of(&generate)
    };
    let input = Input::Chat(Chat {
        messages,
        tools: if tools.is_empty() { Text::default() } else { Value::Array(tools).to_string().into() },
        variables: body
            .chat_template_kwargs
            .take()
            .map(|map| Value::Object(map).to_string())
            .unwrap_or_default()
            .into(),
    });
    let logprobs = chat_logprobs(&body)?;
    call(Dialect::Chat, generate, body, (input, said), logprobs, limits)
}

/// Reads a body of `/v1/completions`.
///
/// # Errors
/// What is wrong with it, by field.
pub fn completions(body: &[u8], limits: Limits) -> Result<Call, JsonError> {
    let (mut generate, mut body) = both(body)?;
    if body.echo == Some(true) {
        // What the model reads is not what the client sent, once it was prepared.
        return Err(refuse("echo", "true", "false: put the prompt before the answer yourself"));
    }
    let logprobs = match body.logprobs.as_ref().and_then(Value::as_u64) {
        Some(count) => Some(within("logprobs", u32::try_from(count).unwrap_or(u32::MAX), 0, LOGPROBS)?),
        None => None,
    };
    let input = match body.suffix.take() {
        Some(suffix) if !suffix.is_empty() => {
            let prefix = generate.prompt.take().unwrap_or_default();
            Input::Infill(Infill { prefix, suffix, ..Infill::default() })
        }
        _ => match generate.prompt.as_deref().and_then(fim::gap) {
            Some((prefix, suffix)) => {
                Input::Infill(Infill { prefix: prefix.into(), suffix: suffix.into(), ..Infill::default() })
            }
            None => Input::Prompt,
        },
    };
    let said = Said::of(&generate);
    call(Dialect::Completions, generate, body, (input, said), logprobs, limits)
}

fn both(body: &[u8]) -> Result<(Generate, Body), JsonError> {
    let (mut generate, extra): (Generate, Body) = (json::parse(body)?, json::parse(body)?);
    // llama.cpp's clients say it in its words; 0 is a warm-up.
    let limit = |tokens| u64::try_from(tokens).map_or(TokenLimit::Unlimited, TokenLimit::AtMost);
    let predict = extra.n_predict.filter(|&tokens| tokens != 0).map(limit);
    generate.max_tokens = extra.max_completion_tokens.or(generate.max_tokens).or(predict);
    // OpenAI's seeds have 64 bits, ours 32; the same one still gives the same text.
    generate.seed = generate.seed.map(|seed| if seed < 0 { -1 } else { seed & i64::from(u32::MAX) });
    Ok((generate, extra))
}

fn call(
    dialect: Dialect,
    generate: Generate,
    body: Body,
    (input, mut said): (Input, Said),
    logprobs: Option<u8>,
    limits: Limits,
) -> Result<Call, JsonError> {
    let warm_up = body.n_predict == Some(0) || generate.max_tokens == Some(TokenLimit::AtMost(0));
    let hints = generate.hints();
    let progress = generate.progress;
    let (request, warnings) = match input {
        Input::Prompt => generate.into_request(limits)?,
        _ => generate.without_prompt(limits)?,
    };
    let named = body.response_format.as_ref().filter(|format| format.r#type.as_deref() == Some("json_schema"));
    said.schema = named.and_then(|format| format.json_schema.as_ref()).map(|named| named.label.clone());
    let logit_bias = logit_bias(body.logit_bias.as_ref())?;
    let sampling = crate::wire::Sampling { logit_bias, ..request.sampling };
    let max_tokens = if warm_up { 0 } else { request.max_tokens };
    let choices = u32::from(within("n", body.n.unwrap_or(1), 1, CHOICES)?);
    let reply = Reply {
        dialect,
        stream: body.stream.unwrap_or(false),
        usage: body.stream_options.as_ref().is_some_and(|options| options.include_usage.unwrap_or(false)),
        progress,
        tools: matches!(&input, Input::Chat(chat) if !chat.tools.is_empty()),
        forced: said.tool_choice != ToolChoice::Auto,
        thinking: true,
        stop_string: false,
        choices,
        fields: None,
    };
    let details = Details {
        input,
        constraint: constraint(body)?,
        logprobs,
        urgency: if warm_up { Urgency::WarmUp } else { Urgency::Chat },
        ..Details::default()
    };
    let request = InferenceRequest { sampling, max_tokens, ..request };
    Ok(Call { request, details, hints, warnings, reply, said })
}

fn messages(messages: Option<Vec<Value>>) -> Result<Text, JsonError> {
    const EXPECTED: &str = "a list of messages, each with a role and a content";
    let messages = messages.ok_or_else(|| refuse("messages", "nothing", EXPECTED))?;
    if messages.is_empty() {
        return Err(refuse("messages", "an empty list", EXPECTED));
    }
    for (at, message) in messages.iter().enumerate() {
        let field = |name: &str| format!("messages[{at}].{name}");
        match message.get("role").and_then(Value::as_str) {
            Some("system" | "developer" | "user" | "assistant" | "tool" | "function") => {}
            Some(_) => {
                return Err(refuse(&field("role"), "another role", "system, developer, user, assistant or tool"));
            }
            None => return Err(refuse(&field("role"), "nothing", "system, developer, user, assistant or tool")),
        }
        match message.get("content") {
            None | Some(Value::Null | Value::String(_) | Value::Array(_)) => {}
            Some(_) => return Err(refuse(&field("content"), "another type", "a string or a list of parts")),
        }
    }
    Ok(Value::Array(messages).to_string().into())
}

/// Which tools are to be called; nothing for none.
fn tool_choice(choice: Option<&Value>) -> Result<Option<ToolChoice>, JsonError> {
    const EXPECTED: &str =
        "\"none\", \"auto\", \"required\", or {\"type\": \"function\", \"function\": {\"name\": \"..\"}}";
    match choice {
        None | Some(Value::Null) => Ok(Some(ToolChoice::Auto)),
        Some(Value::String(word)) => match word.as_str() {
            "none" => Ok(None),
            "auto" => Ok(Some(ToolChoice::Auto)),
            // llama.cpp's and Anthropic's clients say the second.
            "required" | "any" => Ok(Some(ToolChoice::Required)),
            _ => Err(refuse("tool_choice", "another word", EXPECTED)),
        },
        Some(other) => match other["function"]["name"].as_str() {
            Some(name) => Ok(Some(ToolChoice::Named(name.to_owned()))),
            None => Err(refuse("tool_choice", "something else", EXPECTED)),
        },
    }
}

fn chat_logprobs(body: &Body) -> Result<Option<u8>, JsonError> {
    let wanted = body.logprobs.as_ref().and_then(Value::as_bool).unwrap_or(false);
    match (wanted, body.top_logprobs) {
        (false, None | Some(0)) => Ok(None),
        (true, top) => within("top_logprobs", top.unwrap_or(0), 0, LOGPROBS).map(Some),
        (false, Some(top)) => Err(refuse("top_logprobs", top, "logprobs: true beside it")),
    }
}

fn within(field: &str, found: u32, low: u32, high: u32) -> Result<u8, JsonError> {
    match u8::try_from(found) {
        Ok(value) if (low..=high).contains(&found) => Ok(value),
        _ => Err(refuse(field, found, format_args!("{low} to {high}"))),
    }
}

/// `{"1234": -100}`, or llama.cpp's `[[1234, -100]]`, where `false` forbids a token.
fn logit_bias(bias: Option<&Value>) -> Result<Vec<(u32, f32)>, JsonError> {
    let wrong = || refuse("logit_bias", "something else", "an object of token ids and numbers from -100 to 100");
    let pair = |token: Option<u64>, bias: &Value| {
        let token = token.and_then(|token| u32::try_from(token).ok()).ok_or_else(wrong)?;
        let bias = if bias == &Value::Bool(false) { Some(-100.0) } else { bias.as_f64() };
        let bias = bias.filter(|bias| (-100.0..=100.0).contains(bias)).ok_or_else(wrong)?;
        Ok((token, bias as f32))
    };
    match bias {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(map)) => map.iter().map(|(token, bias)| pair(token.parse().ok(), bias)).collect(),
        Some(Value::Array(list)) => {
            let entry =
                |entry: &Value| pair(entry.get(0).and_then(Value::as_u64), entry.get(1).unwrap_or(&Value::Null));
            list.iter().map(entry).collect()
        }
        Some(_) => Err(wrong()),
    }
}

fn constraint(body: Body) -> Result<Constraint, JsonError> {
    let format = body.response_format;
    let asked = format.as_ref().and_then(|format| format.r#type.as_deref());
    let schema = match asked {
        Some("json_object") => {
            Some(format.and_then(|format| format.schema).unwrap_or_else(|| Value::Object(Map::new())))
        }
        Some("json_schema") => {
            let found = format.and_then(|format| format.json_schema.and_then(|named| named.schema).or(format.schema));
            Some(found.ok_or_else(|| refuse("response_format.json_schema.schema", "nothing", "a JSON schema"))?)
        }
        Some("text") | None => body.json_schema,
        Some(_) => return Err(refuse("response_format.type", "another type", "text, json_object or json_schema")),
    };
    match (body.grammar, schema) {
        (Some(_), Some(_)) => Err(refuse("grammar", "a JSON schema too", "one of them")),
        (Some(grammar), None) => Ok(Constraint::Grammar(grammar)),
        (None, Some(schema)) => Ok(Constraint::JsonSchema(schema.to_string().into())),
        (None, None) => Ok(Constraint::Free),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: &Value) -> Result<Call, JsonError> {
        chat(body.to_string().as_bytes(), Limits::default())
    }

    fn with(field: &str, value: Value) -> Value {
        let mut body = json!({"messages":[{"role":"user","content":"hi"}]});
        body[field] = value;
        body
    }

    #[test]
    fn what_clients_send_is_understood() {
        let body = json!({"model":"m","messages":[{"role":"developer","content":[{"type":"text","text":"x"}]},
            {"role":"assistant","content":null,"tool_calls":[]},{"role":"user","content":"hi"}],
            "max_tokens":5,"max_completion_tokens":7,"stream":true,"stream_options":{"include_usage":true},"seed":1099511627777_i64,
            "stop":"x","logit_bias":{"12":-100},"tools":[{"type":"function"}],"tool_choice":"auto","unknown":{"a":1},"temperature":null,
            "logprobs":true,"top_logprobs":3,"response_format":{"type":"json_object"}});
        let call = read(&body).unwrap();
        assert_eq!((call.request.max_tokens, call.request.sampling.seed), (7, Some(1)));
        assert_eq!(call.request.sampling.logit_bias, [(12, -100.0)]);
        assert!(call.reply.stream && call.reply.usage && call.reply.tools);
        assert_eq!(call.details.logprobs, Some(3));
        assert_eq!(call.details.constraint, Constraint::JsonSchema("{}".into()));
        let Input::Chat(chat) = &call.details.input else { panic!("{:?}", call.details) };
        assert_eq!(serde_json::from_str::<Value>(&chat.messages).unwrap(), body["messages"]);
    }

    #[test]
    fn tools_that_must_not_be_called_are_not_shown() {
        let mut body = with("tools", json!([{"type":"function"}]));
        body["tool_choice"] = json!("none");
        assert!(!read(&body).unwrap().reply.tools);
    }

    #[test]
    fn a_call_that_has_to_come_is_enforced() {
        let mut body = with("tools", json!([{"type": "function", "function": {"name": "f"}}]));
        for (choice, forced) in [
            (json!("auto"), false),
            (json!("required"), true),
            (json!({"type": "function", "function": {"name": "f"}}), true),
        ] {
            body["tool_choice"] = choice;
            let call = read(&body).unwrap();
            assert_eq!((call.reply.tools, call.reply.forced), (true, forced));
            assert_eq!(matches!(call.own_details().constraint, Constraint::JsonSchema(_)), forced);
            assert_eq!(call.details.constraint, Constraint::Free);
        }
    }

    #[test]
    fn a_templates_own_variables_have_the_effort() {
        let mut body = with("reasoning_effort", json!("low"));
        body["chat_template_kwargs"] = json!({"a": 1});
        let call = read(&body).unwrap();
        let details = call.own_details();
        let Input::Chat(chat) = &details.input else { panic!("{details:?}") };
        assert_eq!(&*chat.variables, r#"{"a":1,"reasoning_effort":"low"}"#);
    }

    #[test]
    fn mistakes_are_named_by_their_field() {
        let cases = [
            (json!({}), "messages"),
            (json!({"messages":[]}), "messages"),
            (json!({"messages":[{"content":"x"}]}), "messages[0].role"),
            (json!({"messages":[{"role":"user","content":7}]}), "messages[0].content"),
            (with("n", json!(0)), "n"),
            (with("logit_bias", json!({"x":1})), "logit_bias"),
            (with("top_logprobs", json!(21)), "top_logprobs"),
            (with("response_format", json!({"type":"json_schema"})), "response_format.json_schema.schema"),
            (with("temperature", json!(3)), "temperature"),
            (with("tool_choice", json!("some")), "tool_choice"),
            (with("tool_choice", json!("required")), "tool_choice"),
            (with("tool_choice", json!({"function": {"name": "f"}})), "tool_choice"),
        ];
        for (body, field) in cases {
            assert_eq!(read(&body).unwrap_err().field.as_deref(), Some(field), "{body}");
        }
    }

    #[test]
    fn a_suffix_makes_a_gap_and_no_tokens_a_warm_up() {
        let call = completions(br#"{"prompt":["a"],"suffix":"b","max_tokens":0}"#, Limits::default()).unwrap();
        assert!(matches!(call.details.input, Input::Infill(gap) if &*gap.prefix == "a" && &*gap.suffix == "b"));
        assert_eq!((call.request.max_tokens, call.details.urgency), (0, Urgency::WarmUp));
    }

    #[test]
    fn an_echo_is_refused_and_silence_about_usage_is_silence() {
        let error = completions(br#"{"prompt":"a","echo":true}"#, Limits::default()).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("echo"));
        assert!(completions(br#"{"prompt":"a","echo":false}"#, Limits::default()).is_ok());
        assert!(!read(&with("stream_options", json!({"include_usage": null}))).unwrap().reply.usage);
    }

    #[test]
    fn editors_words_for_gaps_and_lengths_are_understood() {
        let body = br#"{"prompt":"<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>","max_tokens":-1}"#;
        let call = completions(body, Limits::default()).unwrap();
        assert!(matches!(call.details.input, Input::Infill(gap) if &*gap.prefix == "a" && &*gap.suffix == "b"));
        assert_eq!((call.request.max_tokens, call.warnings.len()), (32_768, 0));
        assert_eq!(read(&with("n_predict", json!(7))).unwrap().request.max_tokens, 7);
        assert_eq!(read(&with("n_predict", json!(-1))).unwrap().request.max_tokens, 32_768);
        assert_eq!(read(&with("max_tokens", json!(-2))).unwrap_err().field.as_deref(), Some("max_tokens"));
    }
}
