//! Requests in Anthropic's words. Their messages become OpenAI's, which is what models' templates are written for.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{Call, Dialect, Reply, Said, ToolChoice};
use crate::wire::Text;
use crate::wire::details::{Chat, Details, Input};
use crate::wire::json::{self, JsonError};
use crate::wire::native::{Generate, Limits, refuse};

#[derive(Deserialize)]
struct Body {
    messages: Option<Vec<Value>>,
    system: Option<Value>,
    stop_sequences: Option<Vec<Text>>,
    stream: Option<bool>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<ToolUse>,
    thinking: Option<Thinking>,
}

#[derive(Deserialize)]
struct ToolUse {
    r#type: Option<String>,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Deserialize)]
struct Thinking {
    r#type: Option<String>,
}

/// Which tools are to be called; nothing for none.
fn tool_choice(asked: Option<&ToolUse>) -> Result<Option<ToolChoice>, JsonError> {
    let Some(asked) = asked else { return Ok(Some(ToolChoice::Auto)) };
    match (asked.r#type.as_deref(), &asked.name) {
        (Some("none"), _) => Ok(None),
        (Some("auto"), _) => Ok(Some(ToolChoice::Auto)),
        (Some("any"), _) => Ok(Some(ToolChoice::Required)),
        (Some("tool"), Some(name)) => Ok(Some(ToolChoice::Named(name.clone()))),
        _ => Err(refuse("tool_choice.type", "something else", "auto, any, none, or tool with a name")),
    }
}

/// Reads a body of `/v1/messages`.
///
/// # Errors
/// What is wrong with it, by field.
pub fn messages(body: &[u8], limits: Limits) -> Result<Call, JsonError> {
    let (mut generate, body): (Generate, Body) = (json::parse(body)?, json::parse(body)?);
    generate.stop = body.stop_sequences.unwrap_or_default();
    let messages = conversation(body.system.as_ref(), body.messages)?;
    let choice = tool_choice(body.tool_choice.as_ref())?;
    let tools: Vec<Value> =
        body.tools.filter(|_| choice.is_some()).map(|tools| tools.iter().map(tool).collect()).unwrap_or_default();
    let parallel = body.tool_choice.and_then(|choice| choice.disable_parallel_tool_use).map(|disabled| !disabled);
    let said = Said {
        tool_choice: choice.unwrap_or_default().among(&tools)?,
        parallel_tool_calls: parallel,
        ..Said::of(&generate)
    };
    let thinking = body.thinking.and_then(|thinking| thinking.r#type);
    let reply = Reply {
        stream: body.stream.unwrap_or(false),
        usage: true,
        stop_string: true,
        tools: !tools.is_empty(),
        forced: said.tool_choice != ToolChoice::Auto,
        thinking: thinking.is_some_and(|thinking| thinking != "disabled"),
        ..Reply::whole(Dialect::Messages)
    };
    let tools = if tools.is_empty() { String::new() } else { Value::Array(tools).to_string() };
    let input = Input::Chat(Chat { messages: messages.into(), tools: tools.into(), variables: Text::default() });
    let hints = generate.hints();
    let (request, warnings) = generate.without_prompt(limits)?;
    Ok(Call { request, details: Details { input, ..Details::default() }, hints, warnings, reply, said })
}

fn tool(tool: &Value) -> Value {
    let mut function = json!({"name": tool["name"]});
    if let Some(description) = tool.get("description").filter(|description| !description.is_null()) {
        function["description"] = description.clone();
    }
    function["parameters"] = tool.get("input_schema").cloned().unwrap_or_else(|| json!({}));
    json!({"type": "function", "function": function})
}

fn conversation(system: Option<&Value>, messages: Option<Vec<Value>>) -> Result<String, JsonError> {
    let messages = messages.filter(|messages| !messages.is_empty());
    let messages = messages.ok_or_else(|| refuse("messages", "nothing", "a list of messages"))?;
    let mut all = Vec::with_capacity(messages.len() + 1);
    match system {
        Some(Value::String(text)) => all.push(json!({"role": "system", "content": text})),
        Some(Value::Array(blocks)) => all.push(json!({"role": "system", "content": texts(blocks)})),
        _ => {}
    }
    for (at, message) in messages.into_iter().enumerate() {
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        if !matches!(role, "user" | "assistant" | "system") {
            return Err(refuse(&format!("messages[{at}].role"), "another role", "user or assistant"));
        }
        match message.get("content") {
            Some(Value::String(text)) => all.push(json!({"role": role, "content": text})),
            Some(Value::Array(blocks)) => blocks_of(role, blocks, &mut all),
            _ => {
                return Err(refuse(&format!("messages[{at}].content"), "another type", "a string or a list of blocks"));
            }
        }
    }
    Ok(Value::Array(all).to_string())
}

fn is(block: &Value, kind: &str) -> bool {
    block.get("type").and_then(Value::as_str) == Some(kind)
}

fn texts(blocks: &[Value]) -> String {
    let texts = blocks.iter().filter_map(|block| block.get("text").and_then(Value::as_str));
    texts.collect::<Vec<_>>().join("\n")
}

/// One message of blocks: results of tools become messages of their own, before what the user says.
fn blocks_of(role: &str, blocks: &[Value], all: &mut Vec<Value>) {
    for result in blocks.iter().filter(|block| is(block, "tool_result")) {
        let content = match result.get("content") {
            Some(Value::Array(blocks)) => json!(texts(blocks)),
            Some(content) => content.clone(),
            None => json!(""),
        };
        all.push(json!({"role": "tool", "tool_call_id": result["tool_use_id"], "content": content}));
    }
    let calls: Vec<Value> = blocks.iter().filter(|block| is(block, "tool_use")).map(past_call).collect();
    let parts: Vec<Value> = blocks.iter().filter_map(part).collect();
    if parts.is_empty() && calls.is_empty() {
        return;
    }
    let plain = parts.iter().all(|part| is(part, "text"));
    let content = if plain { json!(texts(&parts)) } else { Value::Array(parts) };
    let mut message = json!({"role": role, "content": content});
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    all.push(message);
}

fn past_call(block: &Value) -> Value {
    let function = json!({"name": block["name"], "arguments": block["input"].to_string()});
    json!({"id": block["id"], "type": "function", "function": function})
}

fn part(block: &Value) -> Option<Value> {
    if is(block, "text") {
        return Some(json!({"type": "text", "text": block["text"]}));
    }
    let source = is(block, "image").then(|| block.get("source")).flatten()?;
    let url = match source.get("url").and_then(Value::as_str) {
        Some(url) => url.to_owned(),
        None => format!("data:{};base64,{}", source["media_type"].as_str()?, source["data"].as_str()?),
    };
    Some(json!({"type": "image_url", "image_url": {"url": url}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_messages_and_tools_functions() {
        let body = json!({"model":"m","max_tokens":9,"system":[{"type":"text","text":"be brief"}],
            "tools":[{"name":"f","description":"d","input_schema":{"type":"object"}}],
            "messages":[{"role":"user","content":"hi"},
                {"role":"assistant","content":[{"type":"text","text":"ok"},{"type":"tool_use","id":"t1","name":"f","input":{"a":1}}]},
                {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"42"}]},
                    {"type":"text","text":"go on"}]}]});
        let call = messages(body.to_string().as_bytes(), Limits::default()).unwrap();
        assert!(call.reply.tools);
        let Input::Chat(chat) = &call.details.input else { panic!() };
        let messages: Value = serde_json::from_str(&chat.messages).unwrap();
        let expected = json!([{"role":"system","content":"be brief"},{"role":"user","content":"hi"},
            {"role":"assistant","content":"ok","tool_calls":[{"id":"t1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},
            {"role":"tool","tool_call_id":"t1","content":"42"},{"role":"user","content":"go on"}]);
        assert_eq!(messages, expected);
        let tools: Value = serde_json::from_str(&chat.tools).unwrap();
        assert_eq!(tools[0]["function"]["parameters"]["type"], "object");
    }

    #[test]
    fn a_tool_without_a_description_has_none() {
        let body =
            json!({"messages": [{"role": "user", "content": "x"}], "tools": [{"name": "f", "description": null}]});
        let call = messages(body.to_string().as_bytes(), Limits::default()).unwrap();
        let Input::Chat(chat) = &call.details.input else { panic!() };
        assert_eq!(&*chat.tools, r#"[{"type":"function","function":{"name":"f","parameters":{}}}]"#);
    }
}
