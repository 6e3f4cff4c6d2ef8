//! The tokens of a model, for those who count without it.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::reader::Reader;
use super::{BUFFER, GgufError, Header};

/// What a file says of its tokens, word for word; empty where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vocabulary {
    /// `tokenizer.ggml.model`.
    pub model: String,
    /// `tokenizer.ggml.pre`.
    pub pre: String,
    /// `tokenizer.ggml.tokens`, by number.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`, by number.
    pub types: Vec<i32>,
    /// `tokenizer.ggml.merges`, first to last.
    pub merges: Vec<String>,
}

impl Vocabulary {
    /// Reads it from a model's header; of the order of a tenth of a second for the largest.
    ///
    /// # Errors
    /// [`GgufError`].
    pub fn of(path: &Path) -> Result<Self, GgufError> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Self::read(BufReader::with_capacity(BUFFER, file), length)
    }

    pub(super) fn read(from: impl Read, length: u64) -> Result<Self, GgufError> {
        let mut reader = Reader::new(from, length);
        let (_, pairs) = Header::counts(&mut reader)?;
        let mut vocabulary = Self::default();
        for _ in 0..pairs {
            let key = reader.key()?;
            match key.as_str() {
                "tokenizer.ggml.model" => vocabulary.model = reader.value(&key)?.into_text(),
                "tokenizer.ggml.pre" => vocabulary.pre = reader.value(&key)?.into_text(),
                "tokenizer.ggml.tokens" => vocabulary.tokens = reader.texts(&key)?,
                "tokenizer.ggml.token_type" => vocabulary.types = reader.integers(&key)?,
                "tokenizer.ggml.merges" => vocabulary.merges = reader.texts(&key)?,
                _ => drop(reader.value(&key)?),
            }
        }
        Ok(vocabulary)
    }
}
