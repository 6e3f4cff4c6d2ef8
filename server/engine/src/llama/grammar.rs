//! A grammar that the answer has to follow (GBNF, or a JSON schema turned into it), in a way that cannot end the process.
//!
//! llama.cpp asserts and throws where a grammar is used wrongly, and its parser loops or recurses without bound on some texts. So: texts
//! are looked through first ([`check`]), tokens are only accepted after the grammar was asked about them, and acceptance goes through the
//! wrapper that catches exceptions.
#![expect(unsafe_code, reason = "the FFI of this crate; each block says why it is sound")]

use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;

use llama_cpp_2::model::LlamaModel as Weights;
use llama_cpp_sys_2 as sys;

use super::context::weights_pointer;
use super::log;
use super::sampler::Owned;
use crate::{Grammar, ModelError, Token};

/// A grammar and how far the answer has come in it.
#[derive(Debug)]
pub(super) struct Rules {
    sampler: Owned,
    // After a failure llama.cpp's state is not to be asked again.
    failed: bool,
}

impl Rules {
    pub(super) fn new(weights: &Weights, grammar: &Grammar) -> Result<Self, ModelError> {
        let text = match grammar {
            Grammar::Gbnf(text) => text.clone(),
            Grammar::JsonSchema(schema) => of_schema(schema)?,
        };
        check(&text)?;
        let text = CString::new(text).map_err(|_| refused("it contains a NUL character"))?;
        // SAFETY: the model is live, and with it its vocabulary; both strings are NUL-terminated and copied; exceptions are caught.
        let (sampler, said) = log::capture(|| unsafe {
            let vocab = sys::llama_model_get_vocab(weights_pointer(weights));
            sys::llama_rs_sampler_init_grammar(vocab, text.as_ptr(), c"root".as_ptr())
        });
        let sampler =
            NonNull::new(sampler).ok_or_else(|| refused(&format!("expected GBNF with a rule root ({said})")))?;
        Ok(Self { sampler: Owned::from(sampler), failed: false })
    }

    /// Sets the logits of those candidates that may not come next to minus infinity.
    pub(super) fn exclude(&mut self, candidates: &mut [sys::llama_token_data]) {
        let (data, size) = (candidates.as_mut_ptr(), candidates.len());
        let mut array = sys::llama_token_data_array { data, size, selected: -1, sorted: false };
        if self.failed {
            return candidates.iter_mut().for_each(|candidate| candidate.logit = f32::NEG_INFINITY);
        }
        // SAFETY: the grammar is live and in a state that its last `accept` left valid; the array is initialised. It only writes logits.
        unsafe { sys::llama_sampler_apply(self.sampler.as_ptr(), &raw mut array) }
    }

    /// Whether this token may come next.
    pub(super) fn allows(&mut self, token: Token) -> bool {
        let mut one = [sys::llama_token_data { id: token.0, logit: 0.0, p: 0.0 }];
        self.exclude(&mut one);
        one[0].logit == 0.0
    }

    /// Goes on by a token that was allowed.
    pub(super) fn accept(&mut self, token: Token) {
        // SAFETY: the grammar is live; the wrapper catches what it throws, after which it is not used again.
        let status = unsafe { sys::llama_rs_sampler_accept(self.sampler.as_ptr(), token.0) };
        self.failed |= status != sys::LLAMA_RS_STATUS_OK;
    }
}

fn of_schema(schema: &str) -> Result<String, ModelError> {
    if schema.len() > SCHEMA_BYTES || depth(schema, b"{[", b"}]") > SCHEMA_DEPTH {
        return Err(refused(&format!(
            "a JSON schema of at most {SCHEMA_BYTES} bytes and {SCHEMA_DEPTH} levels is expected"
        )));
    }
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

// What llama.cpp's parser would take without complaint and not come back from: its stack grows with parentheses and rules, and a
// repetition whose bounds are in the wrong order counts to 2^64.
fn check(text: &str) -> Result<(), ModelError> {
    let rules = text.matches("::=").count();
    if text.len() > GRAMMAR_BYTES || rules > RULES || depth(text, b"(", b")") > DEPTH {
        let limits =
            format!("at most {GRAMMAR_BYTES} bytes, {RULES} rules and {DEPTH} levels of parentheses are expected");
        return Err(refused(&limits));
    }
    // llama.cpp takes an empty text for no grammar.
    if text.trim().is_empty() {
        return Err(refused("it is empty"));
    }
    let mut bounds = text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(bounds, _)| bounds);
    let wrong = bounds.find(|bounds| {
        let (least, most) = bounds.split_once(',').unwrap_or((bounds, ""));
        let number = |text: &str| text.trim().parse::<u64>().ok();
        number(least).zip(number(most)).is_some_and(|(least, most)| least > most)
    });
    wrong.map_or(Ok(()), |bounds| Err(refused(&format!("a repetition {{{bounds}}} has more at least than at most"))))
}

// Deepest nesting outside of double-quoted strings.
fn depth(text: &str, open: &[u8], close: &[u8]) -> usize {
    let (mut quoted, mut escaped, mut depth, mut deepest) = (false, false, 0_usize, 0);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            byte if open.contains(&byte) => depth += 1,
            byte if close.contains(&byte) => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn refused(reason: &str) -> ModelError {
    ModelError::new(format!("the grammar cannot be used: {reason}"))
}

/// A file of 1,500 lines as a literal.
const GRAMMAR_BYTES: usize = 128 << 10;
const SCHEMA_BYTES: usize = 64 << 10;
const SCHEMA_DEPTH: usize = 64;
/// Each may be a frame on the stack of the left-recursion check.
const RULES: usize = 2_000;
const DEPTH: usize = 100;
