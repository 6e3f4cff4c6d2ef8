//! A grammar that the answer has to follow (GBNF, or a JSON schema turned into it by llama.cpp), over a vocabulary.
#![expect(unsafe_code, reason = "the FFI of this crate; each block says why it is sound")]

use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;
use std::rc::Rc;

use llama_cpp_2::model::LlamaModel as Weights;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_sys_2 as sys;

use super::log;
use crate::grammar::{Ambiguous, Follower};
use crate::{Grammar, ModelError, Token};

/// How each token is written, one behind the other; made when the first grammar comes.
#[derive(Debug)]
pub(super) struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    // Tokens after which nothing comes.
    last: Vec<bool>,
}

impl Pieces {
    pub(super) fn of(weights: &Weights) -> Self {
        let vocab = weights.vocab();
        let mut pieces = Self { bytes: Vec::new(), ends: Vec::new(), last: Vec::new() };
        for token in (0..weights.n_vocab()).map(LlamaToken) {
            pieces.bytes.extend(vocab.token_to_piece(token, false, None));
            pieces.ends.push(pieces.bytes.len());
            pieces.last.push(vocab.is_eog(token));
        }
        pieces
    }

    // `None` for what ends the text.
    fn piece(&self, token: i32) -> Option<&[u8]> {
        let token = usize::try_from(token).ok().filter(|token| !self.last.get(*token).copied().unwrap_or(true))?;
        let begin = token.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[begin..self.ends[token]])
    }
}

/// A grammar and how far the answer has come in it.
#[derive(Debug)]
pub(super) struct Rules {
    follower: Follower,
    pieces: Rc<Pieces>,
    // After a failure nothing can be said about what comes next.
    failed: Option<Ambiguous>,
}

impl Rules {
    pub(super) fn new(weights: &Weights, pieces: Rc<Pieces>, grammar: &Grammar) -> Result<Self, ModelError> {
        let text = match grammar {
            Grammar::Gbnf(text) => text.clone(),
            Grammar::JsonSchema(schema) => of_schema(schema)?,
        };
        let token = |written: &str| match weights.vocab().tokenize(written.as_bytes(), false, true)[..] {
            [token] => Some(token.0),
            _ => None,
        };
        let follower = Follower::new(&text, &token).map_err(|reason| refused(&reason))?;
        Ok(Self { follower, pieces, failed: None })
    }

    /// Sets the logits of those candidates that may not come next to minus infinity.
    pub(super) fn exclude(&mut self, candidates: &mut [sys::llama_token_data]) -> Result<(), ModelError> {
        self.begin()?;
        let mut excluded = candidates.iter_mut().filter(|candidate| candidate.logit != f32::NEG_INFINITY);
        excluded.try_for_each(|candidate| {
            if !self.may_follow(candidate.id).map_err(failed)? {
                candidate.logit = f32::NEG_INFINITY;
            }
            Ok(())
        })
    }

    /// Whether this token may come next.
    pub(super) fn allows(&mut self, token: Token) -> Result<bool, ModelError> {
        self.begin()?;
        self.may_follow(token.0).map_err(failed)
    }

    /// Goes on by a token that was allowed.
    pub(super) fn accept(&mut self, token: Token) {
        if let Some(piece) = self.pieces.piece(token.0) {
            self.failed = self.follower.accept(token.0, piece).err();
        }
    }

    fn begin(&mut self) -> Result<(), ModelError> {
        self.follower.begin_choice();
        self.failed.map_or(Ok(()), |error| Err(failed(error)))
    }

    fn may_follow(&mut self, token: i32) -> Result<bool, Ambiguous> {
        match self.pieces.piece(token) {
            Some(piece) => self.follower.allows(token, piece),
            None => Ok(self.follower.may_end()),
        }
    }
}

fn of_schema(schema: &str) -> Result<String, ModelError> {
    if schema.len() > SCHEMA_BYTES || depth(schema) > SCHEMA_DEPTH {
        return Err(refused(&format!(
            "a JSON schema of at most {SCHEMA_BYTES} bytes and {SCHEMA_DEPTH} levels is expected"
        )));
    }
    // llama.cpp takes what it cannot enforce for any string, and tells nobody but the standard error.
    for pattern in patterns(schema) {
        let alone = converted(&format!(r#"{{"type":"string","pattern":{pattern}}}"#))?;
        if alone.lines().any(|rule| rule.starts_with("string ::=")) {
            return Err(refused(&format!(
                "the pattern {pattern} cannot be enforced: one from ^ to $ is expected, without looking around or back, and with few \
                 levels of parentheses"
            )));
        }
    }
    converted(schema)
}

// The values of all keys "pattern" that are texts, as they stand in the JSON. What is only an example of a schema counts, too.
fn patterns(schema: &str) -> impl Iterator<Item = &str> {
    schema.split("\"pattern\"").skip(1).filter_map(|rest| {
        let value = rest.trim_start().strip_prefix(':')?.trim_start();
        let mut escaped = false;
        let end = value.strip_prefix('"')?.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        value.get(..end + 2)
    })
}

fn converted(schema: &str) -> Result<String, ModelError> {
    let schema = CString::new(schema).map_err(|_| refused("it contains a NUL character"))?;
    let mut text: *mut c_char = std::ptr::null_mut();
    // SAFETY: a NUL-terminated string and a place for the result; exceptions are caught.
    let (status, said) =
        log::capture(|| unsafe { sys::llama_rs_json_schema_to_grammar(schema.as_ptr(), true, &raw mut text) });
    let text = NonNull::new(text).filter(|_| status == sys::LLAMA_RS_STATUS_OK);
    let text = text.ok_or_else(|| refused(&format!("the JSON schema is not understood ({said})")))?;
    // SAFETY: NUL-terminated, ours, and freed once after it was copied.
    unsafe {
        let copy = CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned();
        sys::llama_rs_string_free(text.as_ptr());
        Ok(copy)
    }
}

// Deepest nesting outside of double-quoted strings.
fn depth(text: &str) -> usize {
    let (mut quoted, mut escaped, mut depth, mut deepest) = (false, false, 0_usize, 0);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn failed(error: Ambiguous) -> ModelError {
    ModelError::new(error.to_string())
}

fn refused(reason: &str) -> ModelError {
    ModelError::new(format!("the grammar cannot be used: {reason}"))
}

const SCHEMA_BYTES: usize = 64 << 10;
const SCHEMA_DEPTH: usize = 64;
