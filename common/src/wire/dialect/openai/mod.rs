//! OpenAI's chat and text completions: `request` reads them, `answer` writes whole and streamed answers, `fim` finds gaps in prompts, `ask` is the side
//! of a client.

mod answer;
mod ask;
mod fim;
mod request;

pub use answer::{Speaker, document, error};
pub use ask::{Asked, Manner, Reader, ask, failure};
pub use request::{chat, completions};
