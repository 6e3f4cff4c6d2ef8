//! OpenAI's chat and text completions: [`request`] reads them, [`answer`] writes whole and streamed answers.

mod answer;
mod request;

pub use answer::{Speaker, document, error};
pub use request::{chat, completions};
