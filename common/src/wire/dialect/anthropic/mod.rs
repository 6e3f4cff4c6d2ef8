//! Anthropic's `/v1/messages`: `request` reads it, `answer` writes whole and streamed answers.

mod answer;
mod request;

pub use answer::{Speaker, document, error};
pub use request::messages;
