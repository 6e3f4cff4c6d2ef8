//! The header of a GGUF file, read strictly and without C.
//!
//! llama.cpp reads headers with care, but trusts what they say: a file whose numbers do not fit together can end the process. So a
//! file comes here first. Nothing is believed: every length is compared with what is left of the file before anything is
//! allocated, every tensor has to lie within the file where the one before it ends, and the numbers that llama.cpp divides by or
//! indexes with have to be of use. Format: `docs/gguf.md` of ggml, versions 2 and 3, little-endian.
//!
//! Never reads weights, so it takes milliseconds for a file of any size. What it cannot see is whether llama.cpp knows the
//! architecture, and whether a graph can be made of the tensors.

mod kind;
mod reader;
mod sense;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use kind::Kind;
pub use vocabulary::Vocabulary;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use reader::Reader;

/// What is wrong with a file, as a part of a sentence.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It begins with something else.
    #[error("not a GGUF file (begins with {found:?}, expected \"GGUF\")")]
    NotGguf {
        /// Its first four bytes, made printable.
        found: String,
    },
    /// It is of a version or has tensors of a kind that this program does not know.
    #[error("{0}")]
    Unknown(String),
    /// It ends too early or contradicts itself.
    #[error("{0}")]
    Damaged(String),
}

impl GgufError {
    fn damaged(reason: impl Into<String>) -> Self {
        Self::Damaged(reason.into())
    }
}

/// A scalar of the metadata, or what is kept of a list.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number without a sign.
    Natural(u64),
    /// A number with a sign.
    Integer(i64),
    /// A number with a fraction.
    Real(f64),
    /// True or false.
    Bool(bool),
    /// A text; what is not UTF-8 in it is replaced.
    Text(String),
    /// A list: its length, and its numbers where it is short and of whole numbers.
    List {
        /// Entries.
        length: u64,
        /// The entries, at most [`SHORT`].
        numbers: Vec<i64>,
    },
}

impl Value {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            _ => String::new(),
        }
    }
}

/// A list of at most so many whole numbers is kept: one per layer, for as many layers as llama.cpp takes.
pub const SHORT: u64 = 512;

/// One tensor, as the header announces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Length of each side, four in all.
    pub shape: [u64; 4],
    /// How its numbers are stored.
    pub kind: Kind,
    /// Where its bytes begin, from the first tensor's on.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
}

impl Tensor {
    /// How many numbers it has.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// A header that makes sense.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Metadata by key.
    pub metadata: BTreeMap<String, Value>,
    /// The tensors in order.
    pub tensors: Vec<Tensor>,
    /// Bytes from the file's beginning to the first tensor's.
    pub data: u64,
}

impl Header {
    /// Reads and checks the header of a model.
    ///
    /// # Errors
    /// [`GgufError`].
    pub fn of(path: &Path) -> Result<Self, GgufError> {
        let header = Self::of_any(path)?;
        sense::model(&header)?;
        Ok(header)
    }

    /// Reads and checks the header of a file that need not be a whole model, such as an adapter.
    ///
    /// # Errors
    /// [`GgufError`].
    pub fn of_any(path: &Path) -> Result<Self, GgufError> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Self::read(BufReader::with_capacity(BUFFER, file), length)
    }

    /// Reads a header from a file of so many bytes.
    ///
    /// # Errors
    /// [`GgufError`].
    pub fn read(from: impl Read, length: u64) -> Result<Self, GgufError> {
        let mut reader = Reader::new(from, length);
        let (tensors, pairs) = Self::counts(&mut reader)?;
        let metadata = metadata(&mut reader, pairs)?;
        let alignment = sense::alignment(&metadata)?;
        let tensors = (0..tensors).map(|_| reader.tensor()).collect::<Result<Vec<_>, _>>()?;
        let data = reader.at().next_multiple_of(alignment);
        sense::tensors(&tensors, alignment, data, length)?;
        Ok(Self { metadata, tensors, data })
    }

    /// How many tensors and pairs of metadata there are: all that stands before them.
    fn counts<R: Read>(reader: &mut Reader<R>) -> Result<(u64, u64), GgufError> {
        reader.magic()?;
        let version = reader.number::<4>("the version")? as u32;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Unknown(format!("found GGUF version {version}, expected 2 or 3")));
        }
        Ok((reader.count("tensors", TENSORS)?, reader.count("metadata", PAIRS)?))
    }

    /// A text of the metadata.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number of the metadata that is not negative.
    pub fn natural(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key)? {
            Value::Natural(number) => Some(*number),
            Value::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// `general.architecture`.
    pub fn architecture(&self) -> &str {
        self.text("general.architecture").unwrap_or_default()
    }

    /// A number of the architecture's own, such as `context_length`.
    pub fn own(&self, key: &str) -> Option<u64> {
        self.natural(&format!("{}.{key}", self.architecture()))
    }

    /// Bytes of the KV cache for one token: key and value of each head of each layer, in 16 bits.
    pub fn cache_bytes_per_place(&self) -> u64 {
        let own = |key: &str| self.own(key).unwrap_or(0);
        let heads = own("attention.head_count").max(1);
        let size = own("embedding_length") / heads;
        let of = |key: &str| self.own(key).unwrap_or(size);
        let layers = own("block_count");
        // One number for all layers, or one for each.
        let kv_heads = match self.metadata.get(&format!("{}.attention.head_count_kv", self.architecture())) {
            Some(Value::List { numbers, .. }) if !numbers.is_empty() => {
                numbers.iter().filter_map(|number| u64::try_from(*number).ok()).fold(0, u64::saturating_add)
            }
            _ => self.own("attention.head_count_kv").unwrap_or(heads).saturating_mul(layers),
        };
        let both = of("attention.key_length").saturating_add(of("attention.value_length"));
        kv_heads.saturating_mul(both).saturating_mul(2)
    }

    /// How many numbers all tensors have together.
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(Tensor::elements).fold(0, u64::saturating_add)
    }

    /// The kind in which most of the bytes are stored.
    pub fn main_kind(&self) -> Option<Kind> {
        let mut bytes = BTreeMap::<Kind, u64>::new();
        self.tensors.iter().for_each(|tensor| *bytes.entry(tensor.kind).or_default() += tensor.bytes);
        bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(kind, _)| kind)
    }
}

fn metadata<R: Read>(reader: &mut Reader<R>, pairs: u64) -> Result<BTreeMap<String, Value>, GgufError> {
    let mut metadata = BTreeMap::new();
    for _ in 0..pairs {
        let key = reader.key()?;
        let value = reader.value(&key)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(GgufError::damaged(format!("{key} is there twice")));
        }
    }
    Ok(metadata)
}

/// Most headers are a few hundred KiB of tokens.
const BUFFER: usize = 1 << 16;
/// The largest mixtures of experts have some thousand; a tensor takes half a KiB of llama.cpp's memory.
const TENSORS: u64 = 1 << 16;
/// Models have about fifty.
const PAIRS: u64 = 1 << 14;
