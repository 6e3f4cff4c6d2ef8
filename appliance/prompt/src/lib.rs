//! Prompt preparation: pure functions that shorten a prompt without losing what it asks for.
//!
//! Owns: which bytes of a prompt are sent on, and the account of why. Never: files, sockets, clocks, logs, randomness;
//! the same request and settings always give the same bytes. Text comes in from the gateway's `prepare` stage (and from
//! benches and fuzzers) and goes out as [`Prepared`], beside a [`Report`] that holds sizes and ranges, never text.
//!
//! Whatever goes wrong in here, the answer is the original prompt: a preparation can fail to save, never to answer.

mod chat;
mod classic;
pub mod language;
mod report;
mod request;
pub mod route;
mod smart;
pub mod tokens;
mod word_table;

pub use chat::{Message, PreparedChat, PreparedInfill, Role, prepare_chat, prepare_infill};
pub use language::{Language, LanguageMap};
pub use report::{Outcome, Prepared, Report, Rule, Stage};
pub use request::{Clock, Mode, Profile, Rates, Request, Settings, Slot};
pub use tokens::TokenCount;

/// What the user asks in a prompt: its sentences outside the code, "" where there are none. For what must not be read out of
/// code, whatever profile prepares it; under `smart`, [`Report::request_of`] has it for nothing.
#[must_use]
pub fn user_request(prompt: &str) -> String {
    let parts: Vec<&str> = smart::said(prompt).into_iter().filter_map(|range| prompt.get(range)).collect();
    parts.join("\n")
}

/// Prepares a prompt about which nothing else is known, with the default settings.
#[must_use]
pub fn prepare(prompt: &str, profile: Profile) -> Prepared {
    prepare_request(&Request::new(prompt), &Settings { profile })
}

/// Prepares one request with the profile of `settings`.
///
/// Deterministic, and total: a prompt that cannot be prepared comes back as it was, with the reason in
/// [`Report::outcome`].
#[must_use]
pub fn prepare_request(request: &Request<'_>, settings: &Settings) -> Prepared {
    match settings.profile {
        Profile::Off => Prepared::untouched(request, Profile::Off, Outcome::Off),
        Profile::Classic => classic::prepare(request),
        Profile::Smart => smart::prepare(request),
    }
}
