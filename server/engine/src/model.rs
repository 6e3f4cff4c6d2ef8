//! The seam between the scheduler and whatever computes: a model with several sequences of cached state.
//!
//! The scheduler says which tokens go where; the model computes them and picks a token for each row asked for. Positions, prefix
//! reuse, stop strings and UTF-8 are not the model's business.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{DecodeError, EmbedStop, Embedding, ModelError, PrefixFile, SampleError, Sampling, Vocabulary};

/// A token of the model's vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub i32);

/// One of the model's independent sequences, counted from 0. Slot n uses sequence n.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sequence(pub usize);

/// What is added to a model's weights: an adapter at some scale, or nothing. Only what was computed with equals is of use to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Adapter(pub Option<Addition>);

/// An adapter and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Addition {
    /// Its place in [`ModelInfo::adapters`].
    pub index: usize,
    // As bits, which can be compared; `None` for what the adapter was loaded with.
    scale: Option<u32>,
}

impl Addition {
    /// The adapter at this place, at this scale or as it was loaded.
    pub fn new(index: usize, scale: Option<f32>) -> Self {
        Self { index, scale: scale.map(f32::to_bits) }
    }

    /// The scale, unless it is that it was loaded with.
    pub fn scale(self) -> Option<f32> {
        self.scale.map(f32::from_bits)
    }
}

/// One token to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The token.
    pub token: Token,
    /// Its sequence.
    pub sequence: Sequence,
    /// Its place in the sequence: always the sequence's present length.
    pub position: usize,
    /// Whether a token will be sampled after this one.
    pub output: bool,
}

/// Tokens computed together, of any mixture of sequences; those of one sequence are in order of position.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The tokens. Their index is the row by which [`Model::sample`] is asked.
    pub entries: Vec<Entry>,
}

/// Natural logarithms of probabilities after a row; never lower than -9999, which stands for "impossible".
#[derive(Clone, Debug, PartialEq)]
pub struct Likelihood {
    /// That of the token asked about.
    pub logprob: f32,
    /// The likeliest tokens, the first the likeliest; of equals the first in the vocabulary.
    pub top: Vec<(Token, f32)>,
}

/// The logarithm of no probability, as OpenAI writes it: JSON knows no infinity.
pub(crate) const IMPOSSIBLE: f32 = -9999.0;

/// A model on its own thread. It need not be `Send`: it is made, used and dropped there.
pub trait Model {
    /// The state of one request's choice of tokens (random numbers, penalties, later a grammar).
    type Sampler;

    /// What the model is and how much it holds; asked once.
    fn info(&self) -> ModelInfo;

    /// Its vocabulary, for other threads too.
    fn vocabulary(&self) -> Arc<dyn Vocabulary>;

    /// True for the tokens by which the model ends an answer.
    fn ends_generation(&self, token: Token) -> bool;

    /// A sampler for one request. `history` is its prompt, which the penalties look back on.
    fn sampler(&mut self, sampling: &Sampling, seed: u32, history: &[Token]) -> Result<Self::Sampler, ModelError>;

    /// Computes with this adapter from the next batch on.
    fn adapt(&mut self, adapter: Adapter) -> Result<(), ModelError>;

    /// Computes the batch. Only `Ok` and `CacheFull` leave the sequences in a known state.
    fn decode(&mut self, batch: &Batch) -> Result<(), DecodeError>;

    /// Chooses the token after row `row` of the last batch (an entry with `output`) and remembers it in the sampler.
    fn sample(&mut self, sampler: &mut Self::Sampler, row: usize) -> Result<Token, SampleError>;

    /// How likely `token` and the `top` likeliest tokens were after row `row` of the last batch: the model's own distribution, before
    /// bias, penalties, grammar and temperature. `None` when there are no numbers for it.
    fn likelihood(&mut self, row: usize, token: Token, top: usize) -> Option<Likelihood>;

    /// Computes the next chunk of a text that becomes a vector, in a place apart from all sequences; one text after the other. What fails
    /// for good leaves no trace.
    fn embed(&mut self, text: &mut Embedding) -> Result<(), EmbedStop>;

    /// No text is to become a vector for now: frees what is for that only.
    fn rest(&mut self);

    /// Keeps the first `length` tokens of the sequence. False when the model cannot go back that far; the sequence is then empty.
    fn rewind(&mut self, sequence: Sequence, length: usize) -> bool;

    /// Makes `to` hold the first `length` tokens of `from`, which keeps all it has. False when the model cannot; `to` is then empty.
    fn copy(&mut self, from: Sequence, to: Sequence, length: usize) -> bool;

    /// The state of a whole sequence, for [`restore`](Self::restore) by this same model. `None` when it is larger than `limit` bytes or
    /// cannot be had at present.
    fn save(&mut self, sequence: Sequence, limit: usize) -> Option<Vec<u8>>;

    /// Where saved states are kept over the end of the program; `None` where they are not.
    fn prefix_file(&self) -> Option<PrefixFile> {
        None
    }

    /// Makes the sequence hold the first `length` tokens of a saved one. False when the model cannot; the sequence is then empty.
    fn restore(&mut self, sequence: Sequence, state: &[u8], length: usize) -> bool;
}

/// What a loaded model is and how much it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelInfo {
    /// Kind, size and quantisation in a few words.
    pub description: String,
    /// `general.architecture` of the file.
    pub architecture: String,
    /// Bytes of the weights.
    pub size_bytes: u64,
    /// Number of parameters.
    pub parameters: u64,
    /// Tokens that prompt and answer of one request may have together.
    pub context: usize,
    /// Tokens the model was trained for.
    pub context_train: usize,
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// Sequences that may be used at the same time.
    pub sequences: usize,
    /// The most entries of a batch.
    pub batch_entries: usize,
    /// The most entries of a batch that may ask for output.
    pub output_rows: usize,
    /// Whether a sequence can go back to any earlier length. Recurrent models cannot: they share no prefixes and take no drafts.
    pub rewinds: bool,
    /// Whether it has the control tokens for filling in the middle.
    pub infill: bool,
    /// Whether it has those for other files of a repository too.
    pub infill_files: bool,
    /// Names of the adapters that it can compute with.
    pub adapters: Vec<String>,
    /// The chat template (Jinja) the file carries.
    pub chat_template: Option<String>,
    /// How the token that begins a text is written; empty without one.
    pub begin_text: String,
    /// How the token that ends a text is written; empty without one.
    pub end_text: String,
    /// How the control tokens are written: in a user's text these words must stay words.
    pub control_texts: Vec<String>,
    /// The other scalar metadata of the file, as text.
    pub metadata: BTreeMap<String, String>,
}
