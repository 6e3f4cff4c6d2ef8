//! Calls of tools in a model's answer. Models that were taught the Hermes convention (Qwen's among them) write each call as
//! `<tool_call>{"name":..,"arguments":{..}}</tool_call>`; what is not written so stays text.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::wire::details::Constraint;
use crate::wire::json::JsonError;
use crate::wire::native::refuse;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// To be shown.
    Text(String),
    /// To be carried out by the client.
    Call(Written),
}

/// A call of a tool as a model wrote it into its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// The tool.
    pub(super) name: String,
    /// Its arguments, as the JSON the model wrote.
    pub(super) arguments: String,
}

/// Whether tools are to be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As the model sees fit.
    #[default]
    Auto,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

impl ToolChoice {
    /// The choice, where it can be carried out with these tools.
    ///
    /// # Errors
    /// It wants a tool and there are none, or not that one.
    pub(super) fn among(self, tools: &[Value]) -> Result<Self, JsonError> {
        let there = |name: &str| tools.iter().any(|tool| tool["function"]["name"] == name);
        match &self {
            Self::Named(name) if !there(name) => {
                Err(refuse("tool_choice", format_args!("{name:?}"), "the name of one of the tools"))
            }
            Self::Required if tools.is_empty() => {
                Err(refuse("tool_choice", "no tools beside it", "tools to choose from"))
            }
            _ => Ok(self),
        }
    }
}

/// The answer that is a call and nothing else, where one is wanted: as a schema of JSON, which a model's server can enforce.
/// What a tool's own schema refers to within itself is found at its new place.
pub(super) fn forced(tools: &str, choice: &ToolChoice) -> Option<Constraint> {
    let tools: Vec<Value> = match choice {
        ToolChoice::Auto => return None,
        _ => serde_json::from_str(tools).ok()?,
    };
    let mut places = Map::new();
    let mut calls = Vec::new();
    for tool in tools {
        let function = &tool["function"];
        if matches!(choice, ToolChoice::Named(name) if function["name"] != name.as_str()) {
            continue;
        }
        let mut arguments = match &function["parameters"] {
            Value::Object(schema) if !schema.is_empty() => Value::Object(schema.clone()),
            _ => json!({"type": "object"}),
        };
        let place = format!("tool{}", places.len());
        if moved(&mut arguments, &place) {
            places.insert(place, arguments.clone());
        }
        calls.push(json!({
            "type": "object",
            "properties": {"name": {"const": function["name"]}, "arguments": arguments},
            "required": ["name", "arguments"],
            "additionalProperties": false,
        }));
    }
    let mut schema = if calls.len() == 1 { calls.pop()? } else { json!({"anyOf": calls}) };
    if !places.is_empty() {
        schema["$defs"] = Value::Object(places);
    }
    Some(Constraint::JsonSchema(schema.to_string().into()))
}

/// Lets references within a schema begin at `$defs/place`; whether there are any.
fn moved(schema: &mut Value, place: &str) -> bool {
    match schema {
        Value::Array(list) => list.iter_mut().fold(false, |any, inner| moved(inner, place) | any),
        Value::Object(fields) => fields.iter_mut().fold(false, |any, (name, inner)| match inner {
            Value::String(target) if name == "$ref" && target.starts_with('#') => {
                *target = format!("#/$defs/{place}{}", &target[1..]);
                true
            }
            inner => moved(inner, place) | any,
        }),
        _ => false,
    }
}

/// Takes an answer's text piece by piece, gives its parts.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// The answer is expected to be a call without its tags, as a grammar makes it; until its first character tells.
    bare: bool,
    /// It is.
    untagged: bool,
    /// What cannot be told yet: the beginning of a tag, or a call that is still being written.
    held: String,
    calls: usize,
    /// Nothing but white space has come since the last call: what stands between two calls is no answer.
    after_call: bool,
}

impl Scanner {
    /// For an answer to a request that wants a call and nothing else, or any.
    pub(super) fn new(forced: bool) -> Self {
        Self { bare: forced, ..Self::default() }
    }

    /// The parts that `text` completes.
    pub(super) fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        while let Some(part) = self.next() {
            parts.push(part);
        }
        parts
    }

    /// What is left at the end: text, even of a call that was never closed.
    pub(super) fn finish(&mut self) -> Option<Part> {
        let mut rest = std::mem::take(&mut self.held);
        // The closing tag was the stop string, or the last token that there was room for.
        if let Some(call) = rest.trim_start().strip_prefix(OPEN).and_then(parse) {
            return Some(self.called(call));
        }
        if self.untagged {
            rest.drain(..OPEN.len());
        }
        let nothing = rest.is_empty() || (self.after_call && rest.trim().is_empty());
        (!nothing).then_some(Part::Text(rest))
    }

    /// Calls so far.
    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    fn next(&mut self) -> Option<Part> {
        if self.bare {
            let first = self.held.chars().find(|character| !character.is_whitespace())?;
            self.bare = false;
            self.untagged = first == '{';
            if self.untagged {
                self.held.insert_str(0, OPEN);
            }
        }
        if self.after_call {
            let white = self.held.len() - self.held.trim_start().len();
            if white == self.held.len() {
                return None;
            }
            let rest = &self.held[white..];
            if rest.starts_with(OPEN) {
                self.held.drain(..white);
            } else if OPEN.starts_with(rest) {
                return None; // a tag, perhaps, once there is more of it
            }
        }
        match self.held.find(OPEN) {
            Some(0) => self.call(),
            Some(open) => Some(self.text(open)),
            None => match self.sure() {
                0 => None,
                sure => Some(self.text(sure)),
            },
        }
    }

    fn text(&mut self, bytes: usize) -> Part {
        let rest = self.held.split_off(bytes);
        self.after_call = false;
        Part::Text(std::mem::replace(&mut self.held, rest))
    }

    fn call(&mut self) -> Option<Part> {
        let close = self.held.find(CLOSE)?;
        let rest = self.held.split_off(close + CLOSE.len());
        let whole = std::mem::replace(&mut self.held, rest);
        Some(match parse(&whole[OPEN.len()..close]) {
            Some(call) => self.called(call),
            None => {
                self.after_call = false;
                Part::Text(whole)
            }
        })
    }

    fn called(&mut self, call: Written) -> Part {
        self.calls += 1;
        self.after_call = true;
        Part::Call(call)
    }

    /// Bytes before what may yet become an opening tag.
    fn sure(&self) -> usize {
        let begins = |at: &usize| self.held.is_char_boundary(*at) && OPEN.starts_with(&self.held[*at..]);
        let from = self.held.len().saturating_sub(OPEN.len() - 1);
        (from..self.held.len()).find(begins).unwrap_or(self.held.len())
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    name: String,
    #[serde(borrow, alias = "parameters")]
    arguments: Option<&'a RawValue>,
}

fn parse(body: &str) -> Option<Written> {
    let written: Body<'_> = serde_json::from_str(body.trim()).ok()?;
    let arguments = written.arguments.map_or("{}", RawValue::get).to_owned();
    Some(Written { name: written.name, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(pieces: &[&str]) -> (String, Vec<Written>) {
        let mut scanner = Scanner::default();
        let mut parts: Vec<Part> = pieces.iter().flat_map(|piece| scanner.push(piece)).collect();
        parts.extend(scanner.finish());
        let mut text = String::new();
        let mut calls = Vec::new();
        for part in parts {
            match part {
                Part::Text(more) => text.push_str(&more),
                Part::Call(call) => calls.push(call),
            }
        }
        assert_eq!(calls.len(), scanner.calls());
        (text, calls)
    }

    const ANSWER: &str = "Let me look.\n<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a<b>.rs\"}}\n</tool_call>\n<tool_call>{\"name\":\"now\"}</tool_call>";

    #[test]
    fn calls_are_found_among_text() {
        let (text, calls) = all(&[ANSWER]);
        assert_eq!(text, "Let me look.\n");
        let call = |name: &str, arguments: &str| Written { name: name.into(), arguments: arguments.into() };
        assert_eq!(calls, [call("read", r#"{"path": "a<b>.rs"}"#), call("now", "{}")]);
    }

    #[test]
    fn what_is_no_call_stays_text() {
        for text in ["a <tool", "<tool_call>not json</tool_call>", "if a <b", "<tool_call>{\"name\"", "\n"] {
            assert_eq!(all(&[text]), (text.to_owned(), Vec::new()));
        }
    }

    #[test]
    fn an_answer_that_has_to_be_a_call_needs_no_tags() {
        let all = |pieces: &[&str]| {
            let mut scanner = Scanner::new(true);
            let mut parts: Vec<Part> = pieces.iter().flat_map(|piece| scanner.push(piece)).collect();
            parts.extend(scanner.finish());
            parts
        };
        let call = Part::Call(Written { name: "f".into(), arguments: r#"{"a": 1}"#.into() });
        assert_eq!(all(&[" ", r#"{"name": "f", "argu"#, r#"ments": {"a": 1}}"#]), std::slice::from_ref(&call));
        // A model may write its tags nevertheless, and may not obey.
        assert_eq!(all(&[r#"<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>"#]), [call]);
        assert_eq!(all(&["I would ", "rather not"]), ["I would ", "rather not"].map(|text| Part::Text(text.into())));
        assert_eq!(all(&[r#"{"name": "f", "ar"#]), [Part::Text(r#"{"name": "f", "ar"#.into())]);
    }

    #[test]
    fn a_call_that_has_to_come_is_a_schema() {
        let tools = json!([
            {"function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}},
                "$defs": {"A": {"type": "integer"}}}}},
            {"function": {"name": "g"}},
        ]);
        let schema = |choice: &ToolChoice| match forced(&tools.to_string(), choice) {
            Some(Constraint::JsonSchema(schema)) => serde_json::from_str::<Value>(&schema).unwrap(),
            other => panic!("{other:?}"),
        };
        let one = schema(&ToolChoice::Named("g".into()));
        assert_eq!(one["properties"], json!({"name": {"const": "g"}, "arguments": {"type": "object"}}));
        let any = schema(&ToolChoice::Required);
        assert_eq!(any["anyOf"].as_array().unwrap().len(), 2);
        let place = any["anyOf"][0]["properties"]["arguments"]["properties"]["a"]["$ref"].as_str().unwrap();
        assert_eq!(any.pointer(&place[1..]), Some(&json!({"type": "integer"})));
        assert_eq!(forced(&tools.to_string(), &ToolChoice::Auto), None);
    }

    #[test]
    fn a_call_whose_end_was_cut_off_counts() {
        assert_eq!(all(&["<tool_call>{\"name\":\"now\",\"arguments\":{}}"]).1.len(), 1);
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_parts(cut in 1_usize..30) {
            let bytes: Vec<_> = ANSWER.as_bytes().chunks(cut).map(|piece| std::str::from_utf8(piece).unwrap()).collect();
            prop_assert_eq!(all(&bytes), all(&[ANSWER]));
        }
    }
}
