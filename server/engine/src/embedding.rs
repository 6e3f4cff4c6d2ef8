//! Texts as vectors: what is asked for, and how the vectors of a text's tokens become one.
//!
//! Computed on the model's thread beside its generations, a chunk after each of their steps, in a context of its own: so they delay each
//! other by one chunk at most and share nothing.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::scheduler::Counters;
use crate::{DecodeError, Model, ModelError, Token};

/// A text to embed.
#[derive(Clone, PartialEq, Eq)]
pub enum EmbeddingInput {
    /// Text, which the model's vocabulary divides.
    Text(String),
    /// Tokens, taken as they are.
    Tokens(Vec<Token>),
}

/// Vectors of texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// One for each text, in order, of length 1.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts together.
    pub tokens: usize,
}

/// Why there are no vectors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmbeddingError {
    /// The model is not made for it.
    #[error("the model gives no embeddings: {reason}")]
    Unable {
        /// Why not.
        reason: String,
    },
    /// A text without tokens.
    #[error("text {index} is empty")]
    Empty {
        /// Its place in the list.
        index: usize,
    },
    /// A text does not fit.
    #[error("text {index} has {tokens} tokens, the context holds {context}")]
    TooLong {
        /// Its place in the list.
        index: usize,
        /// Its tokens.
        tokens: usize,
        /// Tokens that a text may have.
        context: usize,
    },
    /// Every slot is busy and every place of the queue taken.
    #[error("all places of the model are taken")]
    Full,
    /// A token that the vocabulary does not have.
    #[error("{0}")]
    Token(ModelError),
    /// The model failed.
    #[error("{0}")]
    Model(#[from] ModelError),
    /// The engine was shut down or its thread has ended.
    #[error("the model has been unloaded")]
    Stopped,
}

/// How the vectors of a text's tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// That of the first token.
    First,
    /// That of the last.
    Last,
}

/// A text on its way to a vector.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embedding {
    /// Its tokens.
    pub tokens: Vec<Token>,
    /// How many of them have been computed.
    pub done: usize,
    sum: Vec<f32>,
}

impl Embedding {
    /// Of these tokens, none of which has been computed.
    pub fn of(tokens: Vec<Token>) -> Self {
        Self { tokens, ..Self::default() }
    }

    /// Takes the vector of the next token.
    pub fn take(&mut self, vector: &[f32], pooling: Pooling) {
        let counts = match pooling {
            Pooling::Mean => true,
            Pooling::First => self.done == 0,
            Pooling::Last => self.done + 1 == self.tokens.len(),
        };
        if counts {
            self.sum.resize(vector.len(), 0.0);
            self.sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
        }
        self.done += 1;
    }

    // Of length 1, where it has one; so the mean need not be divided.
    fn vector(self) -> Vec<f32> {
        let length = self.sum.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
        self.sum.into_iter().map(|value| (f64::from(value) * scale) as f32).collect()
    }
}

/// Texts of one caller, as tokens.
pub(crate) struct Order {
    pub(crate) texts: Vec<Vec<Token>>,
    pub(crate) answer: oneshot::Sender<Result<Embeddings, EmbeddingError>>,
    // A place among the engine's requests: the number of them is bounded, and a model with one is not idle.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// The orders of all callers: a text of each in turn, so that who has one waits for no other's two thousand.
#[derive(Default)]
pub(crate) struct Embedder {
    waiting: VecDeque<Order>,
    begun: VecDeque<Work>,
}

struct Work {
    answer: oneshot::Sender<Result<Embeddings, EmbeddingError>>,
    _permit: OwnedSemaphorePermit,
    texts: VecDeque<Embedding>,
    done: Embeddings,
}

impl Embedder {
    pub(crate) fn submit(&mut self, order: Order) {
        self.waiting.push_back(order);
    }

    /// Computes a chunk. False when there is nothing to do.
    pub(crate) fn step<M: Model>(&mut self, model: &mut M, counters: &Counters) -> bool {
        if self.waiting.is_empty() && self.begun.is_empty() {
            return false;
        }
        if !self.waiting.is_empty() {
            let context = model.info().context;
            self.begun.extend(self.waiting.drain(..).filter_map(|order| begin(order, context)));
        }
        self.begun.retain(|work| !work.answer.is_closed());
        let Some(work) = self.begun.pop_front() else { return true };
        counters.used(Instant::now());
        match work.step(model) {
            // The model holds one text at a time.
            Some(work) if work.is_within_a_text() => self.begun.push_front(work),
            Some(work) => self.begun.push_back(work),
            None => {}
        }
        true
    }
}

fn begin(order: Order, context: usize) -> Option<Work> {
    let Order { texts, answer, permit } = order;
    let text = |(index, tokens): (usize, Vec<Token>)| match tokens.len() {
        0 => Err(EmbeddingError::Empty { index }),
        found if found > context => Err(EmbeddingError::TooLong { index, tokens: found, context }),
        _ => Ok(Embedding::of(tokens)),
    };
    match texts.into_iter().enumerate().map(text).collect::<Result<VecDeque<_>, _>>() {
        Ok(texts) => {
            let tokens = texts.iter().map(|text| text.tokens.len()).sum();
            let done = Embeddings { vectors: Vec::with_capacity(texts.len()), tokens };
            Some(Work { answer, _permit: permit, texts, done })
        }
        Err(error) => {
            drop(permit);
            // Whoever asked may have gone, which is their right.
            drop(answer.send(Err(error)));
            None
        }
    }
}

impl Work {
    fn is_within_a_text(&self) -> bool {
        self.texts.front().is_some_and(|text| text.done > 0)
    }

    fn step<M: Model>(mut self, model: &mut M) -> Option<Self> {
        if let Some(text) = self.texts.front_mut() {
            match model.embed(text) {
                // Begun again by the model: an interrupted chunk is computed once more.
                Ok(()) | Err(EmbedStop::Again) => {}
                Err(EmbedStop::Failed(error)) => {
                    drop(self.answer.send(Err(error)));
                    return None;
                }
            }
            if text.done < text.tokens.len() {
                return Some(self);
            }
            self.done.vectors.extend(self.texts.pop_front().map(Embedding::vector));
        }
        if !self.texts.is_empty() {
            return Some(self);
        }
        let Self { answer, _permit: permit, done, .. } = self;
        drop(permit);
        drop(answer.send(Ok(done)));
        None
    }
}

/// Why a chunk of a text was not computed.
#[derive(Clone, Debug, PartialEq)]
pub enum EmbedStop {
    /// It was interrupted, and can be computed again.
    Again,
    /// It cannot be computed.
    Failed(EmbeddingError),
}

impl From<DecodeError> for EmbedStop {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Interrupted => Self::Again,
            DecodeError::CacheFull => Self::Failed(ModelError::new("the KV cache is full").into()),
            DecodeError::Failed(error) => Self::Failed(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(pooling: Pooling) -> Vec<f32> {
        let mut embedding = Embedding::of(vec![Token(1); 3]);
        for vector in [[3.0, 4.0], [1.0, 0.0], [-1.0, 0.0]] {
            embedding.take(&vector, pooling);
        }
        assert_eq!(embedding.done, 3);
        embedding.vector()
    }

    #[test]
    fn tokens_are_pooled_and_the_result_has_length_one() {
        assert_eq!(vector(Pooling::Mean), [0.6, 0.8]);
        assert_eq!(vector(Pooling::First), [0.6, 0.8]);
        assert_eq!(vector(Pooling::Last), [-1.0, 0.0]);
        assert_eq!(Embedding { sum: vec![0.0; 2], ..Embedding::default() }.vector(), [0.0, 0.0]);
    }
}
