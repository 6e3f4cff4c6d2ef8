//! Chats and infill: several texts that are sent together. A chat keeps its messages, their order and their number; only
//! long text of users is shortened, and each such text by what was said up to then, so that what the server's cache holds of
//! the earlier turns stays the front of the next one.

use std::borrow::Cow;
use std::fmt;

use crate::prepare_request;
use crate::report::{Report, Rule};
use crate::request::{Mode, Profile, Rates, Request, Settings};

/// Texts of users below this size are never touched.
const LONG_BYTES: usize = 2 << 10;
/// Lines after the cursor that infill always keeps.
const HEAD_LINES: usize = 40;

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The operator.
    System,
    /// The person who asks.
    User,
    /// The model.
    Assistant,
    /// A tool that the model called.
    Tool,
}

/// One message of a chat.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Who says it.
    pub role: Role,
    /// Its text; absent when it is not text only (images, calls of tools): then it is sent as it is.
    pub text: Option<&'a str>,
}

/// Prints lengths only: prompts never reach a log.
impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.text.map(str::len);
        f.debug_struct("Message").field("role", &self.role).field("text_bytes", &bytes).finish()
    }
}

/// A chat ready to send.
#[derive(Clone, PartialEq)]
pub struct PreparedChat<'a> {
    /// The text of each message, in the order and number that they came in.
    pub texts: Vec<Option<Cow<'a, str>>>,
    /// For each message that was looked at: its number, and what was done.
    pub reports: Vec<(usize, Report)>,
}

/// Prints lengths only: prompts never reach a log.
impl fmt::Debug for PreparedChat<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: Vec<Option<usize>> = self.texts.iter().map(|text| text.as_ref().map(|text| text.len())).collect();
        f.debug_struct("PreparedChat").field("text_bytes", &bytes).field("reports", &self.reports).finish()
    }
}

/// Prepares a chat. `limits` gives the language, the room for all messages together, the rates and the token counts; its
/// prompt, mode, instruction and slot are not looked at.
///
/// Only the `smart` profile touches chats: a system prompt and several turns were unknown to the first Cerebrum.
#[must_use]
pub fn prepare_chat<'a>(messages: &[Message<'a>], limits: &Request<'_>, settings: &Settings) -> PreparedChat<'a> {
    let texts = messages.iter().map(|message| message.text.map(Cow::Borrowed)).collect();
    let mut chat = PreparedChat { texts, reports: Vec::new() };
    if settings.profile != Profile::Smart {
        return chat;
    }
    let long: Vec<usize> = (0..messages.len()).filter(|number| is_long(&messages[*number])).collect();
    for number in &long {
        let text = messages[*number].text.unwrap_or_default();
        let own = Request { prompt: text, mode: Mode::Instruct, detected: None, ..*limits };
        let alone = Request { instruction: None, room: None, slot: None, ..own };
        let mut prepared = prepare_request(&alone, settings);
        if prepared.report.rule == Rule::Completion {
            // Code without a question: what will be asked about it comes later. Only copies go.
            let rates = Rates { least_gain_s: f32::INFINITY, ..limits.rates };
            prepared = prepare_request(&Request { rates, ..alone }, settings);
        }
        chat.put(*number, prepared.prompt, prepared.report, text);
    }
    if let Some(room) = limits.room {
        chat.fit(messages, &long, room, limits, settings);
    }
    chat
}

fn is_long(message: &Message<'_>) -> bool {
    message.role == Role::User && message.text.is_some_and(|text| text.len() >= LONG_BYTES)
}

impl<'a> PreparedChat<'a> {
    fn put(&mut self, number: usize, text: String, report: Report, original: &'a str) {
        if text.len() < original.len() {
            self.texts[number] = Some(Cow::Owned(text));
        }
        self.reports.retain(|(other, _)| *other != number);
        self.reports.push((number, report));
    }

    /// Shortens from the oldest message on, by what is asked last, until all fits. Whatever the cache held is lost then, but
    /// it would have been lost anyway.
    fn fit(
        &mut self,
        messages: &[Message<'a>],
        long: &[usize],
        room: usize,
        limits: &Request<'_>,
        settings: &Settings,
    ) {
        let last = messages.iter().rev().find(|message| message.role == Role::User).and_then(|message| message.text);
        for number in long {
            let excess = self.tokens(limits).saturating_sub(room);
            if excess == 0 {
                return;
            }
            let text = messages[*number].text.unwrap_or_default();
            let own = last == Some(text);
            let now = self.texts[*number].as_deref().map_or(0, |text| limits.tokens.count(text));
            let request = Request {
                prompt: text,
                detected: None,
                mode: Mode::Instruct,
                instruction: last.filter(|_| !own),
                room: Some(now.saturating_sub(excess)),
                slot: None,
                ..*limits
            };
            let prepared = prepare_request(&request, settings);
            if prepared.report.final_tokens < now {
                self.put(*number, prepared.prompt, prepared.report, text);
            }
        }
    }

    fn tokens(&self, limits: &Request<'_>) -> usize {
        self.texts.iter().flatten().map(|text| limits.tokens.count(text)).sum()
    }
}

/// Text on both sides of a cursor, ready to send.
#[derive(Clone, PartialEq)]
pub struct PreparedInfill<'a> {
    /// What stands before the cursor.
    pub prefix: String,
    /// What stands after it.
    pub suffix: Cow<'a, str>,
    /// What was done with the prefix.
    pub report: Report,
}

/// Prints lengths only: prompts never reach a log.
impl fmt::Debug for PreparedInfill<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, suffix) = (self.prefix.len(), self.suffix.len());
        f.debug_struct("PreparedInfill").field("prefix_bytes", &prefix).field("suffix_bytes", &suffix).finish()
    }
}

/// Prepares the text around a cursor: `request.prompt` stands before it, `suffix` after it. The last 40 lines before and the
/// first 40 after always stay; further ones after are cut when they leave too little room, then those before are chosen from
/// as for a completion.
#[must_use]
pub fn prepare_infill<'a>(request: &Request<'_>, suffix: &'a str, settings: &Settings) -> PreparedInfill<'a> {
    if settings.profile != Profile::Smart {
        let untouched = Settings { profile: Profile::Off };
        let prepared = prepare_request(request, &untouched);
        return PreparedInfill { prefix: prepared.prompt, suffix: Cow::Borrowed(suffix), report: prepared.report };
    }
    let kept = match request.room {
        // What follows the cursor tells less than what comes before: a quarter of the room.
        Some(room) if request.tokens.count(request.prompt) + request.tokens.count(suffix) > room => {
            head(suffix, room / 4, request)
        }
        _ => suffix,
    };
    let room = request.room.map(|room| room.saturating_sub(request.tokens.count(kept)));
    let next = head(kept, 0, request);
    let prefix = Request { mode: Mode::Completion, instruction: Some(next), room, slot: None, ..*request };
    let prepared = prepare_request(&prefix, settings);
    PreparedInfill { prefix: prepared.prompt, suffix: Cow::Borrowed(kept), report: prepared.report }
}

/// The first lines of a text: [`HEAD_LINES`], and more of them up to `tokens`.
fn head<'t>(text: &'t str, tokens: usize, request: &Request<'_>) -> &'t str {
    let (mut end, mut used) = (0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        used += request.tokens.count(line);
        if number >= HEAD_LINES && used > tokens {
            break;
        }
        end += line.len();
    }
    &text[..end]
}
