//! Wire formats: everything that crosses a socket is described here and nowhere else.
//!
//! - [`native`]: the JSON of `/v1/complete` and `/v1/inference`, requests and answers.
//! - [`inference`]: what travels between appliance and server, as [`frame`]d postcard.
//! - [`details`]: what a request may ask beyond that, in a second frame; [`extras`]: of the model itself, in a third.
//! - [`facts`]: what a server tells about its models.
//! - [`held`]: how an answer is held over a broken connection.
//! - [`dialect`]: the calls of OpenAI's, Anthropic's and llama.cpp's clients.
//! - [`sse`]: server-sent events, encoding and incremental decoding.
//! - [`json`]: strict parsing with sentences for errors.
//! - [`text`]: strings whose content must not reach a log.

pub mod details;
pub mod dialect;
pub mod extras;
pub mod facts;
pub mod frame;
pub mod held;
pub mod inference;
pub mod json;
pub mod native;
pub mod sse;
pub mod text;

pub use details::Details;
pub use inference::{
    CallBegin, Completion, Failure, FailureCode, Finish, InferenceEvent, InferenceRequest, Sampling, TELL_STOP, Usage,
};
pub use text::Text;
