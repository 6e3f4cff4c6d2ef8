//! Whether what a header says can be true of a model. Pure.
//!
//! Only what llama.cpp divides by, indexes with or allocates by is asked for, and only within wide bounds: a new kind of model must
//! not be refused for being new.

use std::collections::{BTreeMap, BTreeSet};

use super::{GgufError, Header, Tensor, Value};

/// The alignment that the metadata gives, or the format's 32 bytes.
pub(super) fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, GgufError> {
    match metadata.get("general.alignment") {
        None => Ok(32),
        Some(Value::Natural(found)) if found.is_power_of_two() && (8..=MOST_ALIGNMENT).contains(found) => Ok(*found),
        Some(found) => Err(GgufError::damaged(format!(
            "general.alignment is {found:?}, expected a power of two from 8 to {MOST_ALIGNMENT}"
        ))),
    }
}

/// One after the other, without gaps but those of the alignment, and all within the file.
pub(super) fn tensors(tensors: &[Tensor], alignment: u64, data: u64, length: u64) -> Result<(), GgufError> {
    let mut names = BTreeSet::new();
    let mut expected = 0_u64;
    for Tensor { name, offset, bytes, .. } in tensors {
        if !names.insert(name) {
            return Err(GgufError::damaged(format!("tensor {name} is there twice")));
        }
        if *offset != expected {
            return Err(GgufError::damaged(format!("tensor {name} begins at {offset}, expected {expected}")));
        }
        let end = data.checked_add(*offset).and_then(|begin| begin.checked_add(*bytes));
        if end.is_none_or(|end| end > length) {
            return Err(GgufError::damaged(format!("the file ends within tensor {name}")));
        }
        expected = (offset + bytes).next_multiple_of(alignment);
    }
    Ok(())
}

/// The numbers of a model that are computed with.
pub(super) fn model(header: &Header) -> Result<(), GgufError> {
    let architecture = header.architecture();
    if architecture.is_empty() {
        return Err(GgufError::damaged("general.architecture is missing: not a model"));
    }
    if header.tensors.is_empty() {
        return Err(GgufError::damaged("it has no tensors: not a model"));
    }
    for (key, low, high) in BOUNDS {
        let key = format!("{architecture}.{key}");
        match header.metadata.get(&key) {
            None => {}
            Some(Value::List { numbers, .. }) => numbers.iter().try_for_each(|&number| {
                // A layer may be without attention or without a feed-forward part.
                within(&key, u64::try_from(number).unwrap_or(u64::MAX), 0, high)
            })?,
            Some(_) => within(&key, header.natural(&key).unwrap_or(u64::MAX), low, high)?,
        }
    }
    vocabulary(header)
}

fn vocabulary(header: &Header) -> Result<(), GgufError> {
    let length = |key: &str| match header.metadata.get(&format!("tokenizer.ggml.{key}")) {
        Some(Value::List { length, .. }) => Some(*length),
        _ => None,
    };
    let Some(tokens) = length("tokens") else { return Ok(()) };
    within("tokenizer.ggml.tokens", tokens, 1, MOST_TOKENS)?;
    for key in ["token_type", "scores"] {
        if let Some(found) = length(key).filter(|found| *found != tokens) {
            return Err(GgufError::damaged(format!("tokenizer.ggml.{key} has {found} entries for {tokens} tokens")));
        }
    }
    let special = header.metadata.keys().filter(|key| key.starts_with("tokenizer.ggml.") && key.ends_with("_token_id"));
    for key in special {
        let token = header.natural(key).unwrap_or(u64::MAX);
        // Some files say "none" by the largest number.
        if token != u64::from(u32::MAX) {
            within(key, token, 0, tokens - 1)?;
        }
    }
    Ok(())
}

fn within(key: &str, found: u64, low: u64, high: u64) -> Result<(), GgufError> {
    match (low..=high).contains(&found) {
        true => Ok(()),
        false => Err(GgufError::damaged(format!("{key} is {found}, expected {low} to {high}"))),
    }
}

// The architecture's own numbers, where it has them.
const BOUNDS: [(&str, u64, u64); 12] = [
    ("context_length", 1, 1 << 30),
    ("embedding_length", 1, 1 << 20),
    ("feed_forward_length", 0, 1 << 24),
    // LLAMA_MAX_LAYERS; beyond it llama.cpp aborts.
    ("block_count", 1, 512),
    ("attention.head_count", 0, 4096),
    ("attention.head_count_kv", 0, 4096),
    ("attention.key_length", 1, 1 << 16),
    ("attention.value_length", 1, 1 << 16),
    ("rope.dimension_count", 0, 1 << 16),
    // LLAMA_MAX_EXPERTS.
    ("expert_count", 0, 1024),
    ("expert_used_count", 0, 1024),
    ("vocab_size", 1, MOST_TOKENS),
];

/// Four times the largest vocabulary there is.
const MOST_TOKENS: u64 = 1 << 20;
/// Files have 32, some 4096.
const MOST_ALIGNMENT: u64 = 1 << 16;
