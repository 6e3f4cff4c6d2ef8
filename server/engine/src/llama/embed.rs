//! Vectors of texts: a context of its own beside that of the generations, made when the first text comes.
//!
//! llama.cpp would pool the vectors of tokens itself, but only of one step; here a text of any length is computed in chunks and pooled as
//! its metadata says. A model that reads in both directions has to see a whole text in one step, so its steps are as large as its texts.

use llama_cpp_2::model::LlamaModel as Weights;

use super::context::{Context, Purpose, Shape};
use crate::{Batch, EmbedStop, Embedding, EmbeddingError, Entry, Interrupt, ModelInfo, Pooling, Sequence};

/// The context and how it is used.
#[derive(Debug)]
pub(super) struct Embedder {
    context: Context,
    pooling: Pooling,
    rows: usize,
}

impl Embedder {
    /// For texts as long as a generation may be, with the threads of the generations.
    pub(super) fn new(
        weights: &Weights,
        info: &ModelInfo,
        shape: Shape,
        interrupt: Interrupt,
    ) -> Result<Self, EmbedStop> {
        let pooling = pooling(info).map_err(EmbedStop::Failed)?;
        let both_ways = of(info, "attention.causal").is_some_and(|causal| causal == "false");
        let context = u32::try_from(info.context).unwrap_or(u32::MAX);
        let rows = if both_ways { context } else { shape.batch.clamp(1, ROWS) };
        let shape = Shape { context, sequences: 1, batch: rows, outputs: rows, purpose: Purpose::Embeddings, ..shape };
        let failed = |reason| EmbedStop::Failed(EmbeddingError::Unable { reason });
        let context = Context::new(weights, shape, interrupt, Vec::new()).map_err(failed)?;
        Ok(Self { context, pooling, rows: rows as usize })
    }

    /// Computes the next chunk of the text.
    pub(super) fn step(&mut self, text: &mut Embedding) -> Result<(), EmbedStop> {
        // What an interrupted step left, or the text before.
        self.context.rewind(Sequence(0), text.done);
        let until = (text.done + self.rows).min(text.tokens.len());
        let entry = |position| Entry { token: text.tokens[position], sequence: Sequence(0), position, output: true };
        let batch = Batch { entries: (text.done..until).map(entry).collect() };
        self.context.decode(&batch)?;
        for row in 0..batch.entries.len() {
            let Some(vector) = self.context.embedding(row) else {
                let reason = "llama.cpp gave no vector".to_owned();
                return Err(EmbedStop::Failed(EmbeddingError::Unable { reason }));
            };
            text.take(vector, self.pooling);
        }
        Ok(())
    }
}

fn of<'a>(info: &'a ModelInfo, key: &str) -> Option<&'a str> {
    info.metadata.get(&format!("{}.{key}", info.architecture)).map(String::as_str)
}

// As llama.cpp numbers them. A model that was made to write says nothing, and the mean is what such models are best at.
fn pooling(info: &ModelInfo) -> Result<Pooling, EmbeddingError> {
    match of(info, "pooling_type") {
        None | Some("0" | "1" | "-1") => Ok(Pooling::Mean),
        Some("2") => Ok(Pooling::First),
        Some("3") => Ok(Pooling::Last),
        Some(kind) => {
            Err(EmbeddingError::Unable { reason: format!("it is made for something else (pooling type {kind})") })
        }
    }
}

/// Tokens per step, each of which has a row of logits too, whether or not anybody wants it.
const ROWS: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_say_how_to_pool() {
        let of = |kind: Option<&str>| {
            let mut info = ModelInfo { architecture: "bert".into(), ..ModelInfo::default() };
            kind.map(|kind| info.metadata.insert("bert.pooling_type".into(), kind.into()));
            pooling(&info)
        };
        assert_eq!(of(None), Ok(Pooling::Mean));
        assert_eq!(of(Some("1")), Ok(Pooling::Mean));
        assert_eq!(of(Some("2")), Ok(Pooling::First));
        assert_eq!(of(Some("3")), Ok(Pooling::Last));
        let sentence = of(Some("4")).unwrap_err().to_string();
        assert!(sentence.contains("pooling type 4"), "{sentence}");
    }
}
