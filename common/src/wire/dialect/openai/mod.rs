//! OpenAI's chat and text completions: `request` reads them, `answer` writes whole and streamed answers, `fim` finds gaps in prompts, `ask` and
//! `read` are the side of a client.

mod answer;
mod ask;
mod fim;
mod read;
mod request;

pub use answer::{Speaker, document, error};
pub use ask::{Asked, Manner, ask};
pub use read::{Reader, failure};
pub use request::{chat, completions};
