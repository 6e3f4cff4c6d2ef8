//! Chats as preparation sees them. The parts stay JSON; only a text that was shortened is put back into its place.

use std::borrow::Cow;

use cerebrum_common::wire::details::Chat;
use cerebrum_prompt::{Message, PreparedChat, Profile, Report, Request, Role, Settings, TokenCount};
use serde_json::Value;

/// A chat that has been read.
#[derive(Clone)]
pub(super) struct Conversation(Vec<Value>);

impl Conversation {
    pub(super) fn of(chat: &Chat) -> Self {
        Self(serde_json::from_str(&chat.messages).unwrap_or_default())
    }

    /// How many messages there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The text of the last message of a user; "" where it is not text only.
    pub(super) fn last(&self) -> &str {
        let last = self.0.iter().map(message).rev().find(|message| message.role == Role::User);
        last.and_then(|message| message.text).unwrap_or_default()
    }

    /// How it begins, which stays the same from turn to turn: up to the first message of a user.
    pub(super) fn beginning(&self) -> String {
        let user = self.0.iter().position(|one| message(one).role == Role::User).unwrap_or_default();
        self.0.iter().take(user + 1).map(|message| format!("{message}\n")).collect()
    }

    /// Shortens long texts of users. The messages again where anything changed, and the account of it.
    pub(super) fn prepare(&self, limits: &Request<'_>, settings: &Settings) -> (Option<String>, Report) {
        let seen: Vec<Message<'_>> = self.0.iter().map(message).collect();
        let prepared = cerebrum_prompt::prepare_chat(&seen, limits, settings);
        let report = account(&seen, &prepared, limits);
        let shortened = |text: &Option<Cow<'_, str>>| matches!(text, Some(Cow::Owned(_)));
        if !prepared.texts.iter().any(shortened) {
            return (None, report);
        }
        let mut messages = self.0.clone();
        for (message, text) in messages.iter_mut().zip(prepared.texts) {
            if let (Some(Cow::Owned(text)), Some(place)) = (text, text_of(message)) {
                *place = text;
            }
        }
        (Some(Value::Array(messages).to_string()), report)
    }
}

/// Tokens of a chat as it is, about as a model's template writes it: texts, calls and tools, and what stands around each message.
pub(super) fn count(chat: &Chat, tokens: &dyn TokenCount) -> usize {
    let of = |message: &Value| {
        let texts = match message.get("content") {
            Some(Value::String(text)) => tokens.count(text),
            Some(Value::Array(parts)) => {
                parts.iter().filter_map(|part| Some(tokens.count(part["text"].as_str()?))).sum()
            }
            _ => 0,
        };
        let calls = message.get("tool_calls").map_or(0, |calls| tokens.count(&calls.to_string()));
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        MARKUP + tokens.count(role) + texts + calls
    };
    let messages: usize = Conversation::of(chat).0.iter().map(of).sum();
    messages + tokens.count(&chat.tools) + tokens.count("assistant") + ANSWER_MARKUP
}

/// Tokens around a message, and before the answer, beside the role, as ChatML has them: borders and ends of lines.
const MARKUP: usize = 4;
const ANSWER_MARKUP: usize = 2;

/// Puts a line behind what the user says last.
pub(super) fn append(chat: &mut Chat, line: &str) {
    let mut messages = Conversation::of(chat).0;
    let last = messages.iter_mut().rev().find(|one| message(one).role == Role::User);
    if let Some(text) = last.and_then(text_of) {
        text.push('\n');
        text.push_str(line);
        chat.messages = Value::Array(messages).to_string().into();
    }
}

/// A message as preparation sees it.
fn message(message: &Value) -> Message<'_> {
    let role = match message.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("assistant") => Role::Assistant,
        Some("tool" | "function") => Role::Tool,
        _ => Role::User,
    };
    let text = match message.get("content") {
        Some(Value::String(text)) => Some(text.as_str()),
        Some(Value::Array(parts)) => match parts.as_slice() {
            [only] => only.get("text").and_then(Value::as_str),
            _ => None,
        },
        _ => None,
    };
    Message { role, text }
}

/// Where that text stands.
fn text_of(message: &mut Value) -> Option<&mut String> {
    let place = match message.get_mut("content")? {
        Value::Array(parts) => parts.first_mut()?.get_mut("text")?,
        content => content,
    };
    match place {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// One account of all messages: what was done with the last that was looked at, and the sizes of all.
fn account(seen: &[Message<'_>], prepared: &PreparedChat<'_>, limits: &Request<'_>) -> Report {
    let off = Settings { profile: Profile::Off };
    let untouched = || cerebrum_prompt::prepare_request(limits, &off).report;
    let mut report = prepared.reports.last().map_or_else(untouched, |(_, report)| report.clone());
    let chars = |text: Option<&str>| text.map_or(0, |text| text.chars().count());
    report.original_chars = seen.iter().map(|message| chars(message.text)).sum();
    report.final_chars = prepared.texts.iter().map(|text| chars(text.as_deref())).sum();
    // Of the messages that were looked at; the others are sent as they came.
    report.original_tokens = prepared.reports.iter().map(|(_, report)| report.original_tokens).sum();
    report.final_tokens = prepared.reports.iter().map(|(_, report)| report.final_tokens).sum();
    report.saved_s = prepared.reports.iter().map(|(_, report)| report.saved_s).sum();
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn chat(messages: &Value) -> Chat {
        Chat { messages: messages.to_string().into(), ..Chat::default() }
    }

    #[test]
    fn a_line_goes_behind_what_the_user_says_last() {
        let mut chat = chat(&json!([
            {"role": "user", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "b"}]},
            {"role": "assistant", "content": "c"},
        ]));
        append(&mut chat, "/no_think");
        let messages: Value = serde_json::from_str(&chat.messages).unwrap();
        assert_eq!((&messages[0]["content"], &messages[2]["content"]), (&json!("a"), &json!("c")));
        assert_eq!(messages[1]["content"][0]["text"], "b\n/no_think");
    }

    #[test]
    fn the_beginning_of_a_chat_stays() {
        let first = json!([{"role": "system", "content": "s"}, {"role": "user", "content": "a"}]);
        let mut later = first.clone();
        later.as_array_mut().unwrap().push(json!({"role": "assistant", "content": "b"}));
        later.as_array_mut().unwrap().push(json!({"role": "user", "content": "c"}));
        let (first, later) = (Conversation::of(&chat(&first)), Conversation::of(&chat(&later)));
        assert_eq!(first.beginning(), later.beginning());
        assert_eq!((first.last(), later.last()), ("a", "c"));
    }
}
