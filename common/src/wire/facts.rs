//! What a server tells about one of its models to those who prepare prompts for it: how much it has room for, and the
//! vocabulary to count tokens with.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// `GET /v1/models/{name}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The name that was asked for.
    pub id: String,
    /// `"model"`, as OpenAI's clients expect.
    pub object: Cow<'static, str>,
    /// 0: nobody knows.
    pub created: u64,
    /// `"cerebrum"`.
    pub owned_by: Cow<'static, str>,
    /// Whether it is in memory.
    pub loaded: bool,
    /// Tokens of prompt and answer together; known while it is loaded.
    pub context: Option<u32>,
    /// Tokens of the context that it was trained with.
    pub context_trained: Option<u32>,
    /// What its vocabulary is known by: the same for the same vocabulary. Absent where the file cannot be read as it is.
    pub vocabulary: Option<String>,
}

/// `GET /v1/models/{name}/vocabulary`: what a GGUF file says of its tokens, word for word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vocabulary<'v> {
    /// As [`Facts::vocabulary`].
    #[serde(borrow)]
    pub id: Cow<'v, str>,
    /// `tokenizer.ggml.model`.
    #[serde(borrow)]
    pub model: Cow<'v, str>,
    /// `tokenizer.ggml.pre`.
    #[serde(borrow)]
    pub pre: Cow<'v, str>,
    /// `tokenizer.ggml.tokens`, by number.
    #[serde(borrow)]
    pub tokens: Vec<Cow<'v, str>>,
    /// `tokenizer.ggml.token_type`, by number.
    pub types: Vec<i32>,
    /// `tokenizer.ggml.merges`, first to last.
    #[serde(borrow)]
    pub merges: Vec<Cow<'v, str>>,
}
