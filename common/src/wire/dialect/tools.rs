//! Calls of tools in a model's answer. Models that were taught the Hermes convention (Qwen's among them) write each call as
//! `<tool_call>{"name":..,"arguments":{..}}</tool_call>`; what is not written so stays text.

use serde::Deserialize;
use serde_json::value::RawValue;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// To be shown.
    Text(String),
    /// To be carried out by the client.
    Call(ToolCall),
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ToolCall {
    /// The tool.
    pub(super) name: String,
    /// Its arguments, as the JSON the model wrote.
    pub(super) arguments: String,
}

/// Takes an answer's text piece by piece, gives its parts.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// What cannot be told yet: the beginning of a tag, or a call that is still being written.
    held: String,
    calls: usize,
    /// Nothing but white space has come since the last call: what stands between two calls is no answer.
    after_call: bool,
}

impl Scanner {
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
        let rest = std::mem::take(&mut self.held);
        // The closing tag was the stop string, or the last token that there was room for.
        if let Some(call) = rest.trim_start().strip_prefix(OPEN).and_then(parse) {
            return Some(self.called(call));
        }
        let nothing = rest.is_empty() || (self.after_call && rest.trim().is_empty());
        (!nothing).then_some(Part::Text(rest))
    }

    /// Calls so far.
    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    fn next(&mut self) -> Option<Part> {
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

    fn called(&mut self, call: ToolCall) -> Part {
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
struct Written<'a> {
    name: String,
    #[serde(borrow, alias = "parameters")]
    arguments: Option<&'a RawValue>,
}

fn parse(body: &str) -> Option<ToolCall> {
    let written: Written<'_> = serde_json::from_str(body.trim()).ok()?;
    let arguments = written.arguments.map_or("{}", RawValue::get).to_owned();
    Some(ToolCall { name: written.name, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(pieces: &[&str]) -> (String, Vec<ToolCall>) {
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
        let call = |name: &str, arguments: &str| ToolCall { name: name.into(), arguments: arguments.into() };
        assert_eq!(calls, [call("read", r#"{"path": "a<b>.rs"}"#), call("now", "{}")]);
    }

    #[test]
    fn what_is_no_call_stays_text() {
        for text in ["a <tool", "<tool_call>not json</tool_call>", "if a <b", "<tool_call>{\"name\"", "\n"] {
            assert_eq!(all(&[text]), (text.to_owned(), Vec::new()));
        }
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
