//! Models of the usual shapes with random weights, as GGUF files: kernels do not care what they multiply.
//!
//! The vocabulary is made so that a text has one tokenisation only: every word is a blank and five letters of sixteen, and no token is the
//! beginning of another. A grammar that allows a single text then allows a single token each time, as a model that is sure of itself would
//! choose, and the tokens of an answer are those of the prompt it copies.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;

use crate::random::Random;

/// The shape of a model.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shape {
    /// 32,000 tokens, separate output matrix.
    Llama,
    /// 151,936 tokens, shared with the output, and biases.
    Qwen2,
}

/// How large a layer is. With so many layers as such models have, the model has about so many weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scale {
    /// Half a billion with 24 layers.
    #[value(name = "0.5b")]
    Half,
    /// One and a half with 28.
    #[value(name = "1.5b")]
    OneAndHalf,
}

impl Scale {
    pub(crate) fn layers(self) -> u32 {
        match self {
            Self::Half => 24,
            Self::OneAndHalf => 28,
        }
    }
}

/// How matrices are stored. Embeddings are `Q8_0` in both, as the output of a mixed file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Weights {
    #[value(name = "q8_0")]
    Q8,
    #[value(name = "q4_k")]
    Q4K,
}

struct Size {
    name: &'static str,
    vocabulary: u32,
    embedding: u32,
    hidden: u32,
    heads: u32,
    kv_heads: u32,
}

const HEAD: u32 = 64;
const CONTEXT: u32 = 8192;

impl Shape {
    fn size(self, scale: Scale) -> Size {
        let of = |name, vocabulary, embedding, hidden, kv_heads| {
            let heads = embedding / HEAD;
            Size { name, vocabulary, embedding, hidden, heads, kv_heads }
        };
        match (self, scale) {
            (Self::Llama, Scale::Half) => of("llama", 32_000, 1024, 4096, 4),
            (Self::Llama, Scale::OneAndHalf) => of("llama", 32_000, 2048, 6656, 4),
            (Self::Qwen2, Scale::Half) => of("qwen2", 151_936, 1024, 4864, 2),
            (Self::Qwen2, Scale::OneAndHalf) => of("qwen2", 151_936, 1536, 8960, 4),
        }
    }
}

/// Words of the vocabulary: as many as every shape has.
pub(crate) const WORDS: u32 = 31_000;
/// The end of text and the line's end come before the words.
const BEFORE_WORDS: u32 = 2;

/// Word number `n` without its blank.
pub(crate) fn word(n: u32) -> String {
    (0..5).rev().map(|place| char::from(b'a' + (n >> (4 * place) & 15) as u8)).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    F32,
    Q8,
    Q4K,
}

impl Kind {
    fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::Q8 => 8,
            Self::Q4K => 12,
        }
    }

    fn bytes(self, elements: u64) -> u64 {
        match self {
            Self::F32 => elements * 4,
            Self::Q8 => elements / 32 * 34,
            Self::Q4K => elements / 256 * 144,
        }
    }
}

struct Tensor {
    name: String,
    shape: Vec<u32>,
    kind: Kind,
}

impl Tensor {
    fn elements(&self) -> u64 {
        self.shape.iter().map(|side| u64::from(*side)).product()
    }

    fn bytes(&self) -> u64 {
        self.kind.bytes(self.elements())
    }
}

/// Writes a model. The same arguments give the same bytes.
pub(crate) fn write(path: &Path, shape: Shape, scale: Scale, weights: Weights, layers: u32) -> anyhow::Result<()> {
    let size = shape.size(scale);
    let tensors = tensors(shape, &size, weights, layers);
    let file = File::create(path).with_context(|| format!("{}", path.display()))?;
    let mut out = Counted { out: BufWriter::with_capacity(1 << 20, file), bytes: 0 };
    let metadata = metadata(&size, layers);
    out.put(b"GGUF")?;
    out.put(&3_u32.to_le_bytes())?;
    out.put(&(tensors.len() as u64).to_le_bytes())?;
    out.put(&metadata.count.to_le_bytes())?;
    out.put(&metadata.bytes)?;
    let mut offset = 0_u64;
    for tensor in &tensors {
        let mut header = Fields::default();
        header.text(&tensor.name);
        header.bytes.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().for_each(|side| header.bytes.extend(u64::from(*side).to_le_bytes()));
        header.bytes.extend(tensor.kind.id().to_le_bytes());
        header.bytes.extend(offset.to_le_bytes());
        out.put(&header.bytes)?;
        offset += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    out.align()?;
    let mut random = Random::new(1);
    for tensor in &tensors {
        fill(&mut out, tensor, &mut random)?;
        out.align()?;
    }
    out.out.flush().context("the model's end")
}

const ALIGNMENT: u64 = 32;

struct Counted {
    out: BufWriter<File>,
    bytes: u64,
}

impl Counted {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn align(&mut self) -> std::io::Result<()> {
        let padding = self.bytes.next_multiple_of(ALIGNMENT) - self.bytes;
        self.put(&[0; ALIGNMENT as usize][..padding as usize])
    }
}

// Scales are chosen so that weights have a mean of about 0 and a deviation of about 0.02, with which numbers stay finite.
fn fill(out: &mut Counted, tensor: &Tensor, random: &mut Random) -> std::io::Result<()> {
    match tensor.kind {
        Kind::F32 => {
            let value = if tensor.name.ends_with("bias") { 0.0_f32 } else { 1.0 };
            (0..tensor.elements()).try_for_each(|_| out.put(&value.to_le_bytes()))
        }
        Kind::Q8 => (0..tensor.elements() / 32).try_for_each(|_| {
            let mut block = [0; 34];
            random.fill(&mut block[2..]);
            block[2..].iter_mut().filter(|quant| **quant == 0x80).for_each(|quant| *quant = 0);
            // 0.00026 as a half.
            block[..2].copy_from_slice(&0x0C42_u16.to_le_bytes());
            out.put(&block)
        }),
        Kind::Q4K => (0..tensor.elements() / 256).try_for_each(|_| {
            let mut block = [0; 144];
            random.fill(&mut block[4..]);
            // 0.000107 times scale times 0..15, less 0.0008 times minimum, as halves.
            block[..2].copy_from_slice(&0x0703_u16.to_le_bytes());
            block[2..4].copy_from_slice(&0x128E_u16.to_le_bytes());
            out.put(&block)
        }),
    }
}

fn tensors(shape: Shape, size: &Size, weights: Weights, layers: u32) -> Vec<Tensor> {
    let &Size { vocabulary, embedding, hidden, heads, kv_heads, .. } = size;
    let (query, keys) = (heads * HEAD, kv_heads * HEAD);
    let kind = if weights == Weights::Q8 { Kind::Q8 } else { Kind::Q4K };
    let matrix = |name: String, shape: [u32; 2]| Tensor { name, shape: shape.to_vec(), kind };
    let vector = |name: String, length: u32| Tensor { name, shape: vec![length], kind: Kind::F32 };
    let table = |name: &str| Tensor { name: name.to_owned(), shape: vec![embedding, vocabulary], kind: Kind::Q8 };
    let mut all = vec![table("token_embd.weight"), vector("output_norm.weight".to_owned(), embedding)];
    if matches!(shape, Shape::Llama) {
        all.push(table("output.weight"));
    }
    for layer in 0..layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        all.push(vector(name("attn_norm.weight"), embedding));
        all.push(matrix(name("attn_q.weight"), [embedding, query]));
        all.push(matrix(name("attn_k.weight"), [embedding, keys]));
        all.push(matrix(name("attn_v.weight"), [embedding, keys]));
        all.push(matrix(name("attn_output.weight"), [query, embedding]));
        if matches!(shape, Shape::Qwen2) {
            all.extend(
                [("q", query), ("k", keys), ("v", keys)].map(|(part, n)| vector(name(&format!("attn_{part}.bias")), n)),
            );
        }
        all.push(vector(name("ffn_norm.weight"), embedding));
        all.push(matrix(name("ffn_gate.weight"), [embedding, hidden]));
        all.push(matrix(name("ffn_up.weight"), [embedding, hidden]));
        all.push(matrix(name("ffn_down.weight"), [hidden, embedding]));
    }
    all
}

#[derive(Default)]
struct Fields {
    bytes: Vec<u8>,
    count: u64,
}

const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

impl Fields {
    fn text(&mut self, text: &str) {
        self.bytes.extend((text.len() as u64).to_le_bytes());
        self.bytes.extend(text.bytes());
    }

    fn key(&mut self, key: &str, kind: u32) {
        self.count += 1;
        self.text(key);
        self.bytes.extend(kind.to_le_bytes());
    }

    fn number(&mut self, key: &str, value: u32) {
        self.key(key, U32);
        self.bytes.extend(value.to_le_bytes());
    }

    fn real(&mut self, key: &str, value: f32) {
        self.key(key, F32);
        self.bytes.extend(value.to_le_bytes());
    }

    fn string(&mut self, key: &str, value: &str) {
        self.key(key, STRING);
        self.text(value);
    }

    fn list(&mut self, key: &str, kind: u32, length: u64) {
        self.key(key, ARRAY);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(length.to_le_bytes());
    }
}

fn metadata(size: &Size, layers: u32) -> Fields {
    let mut fields = Fields::default();
    let own = |key: &str| format!("{}.{key}", size.name);
    fields.string("general.architecture", size.name);
    fields.string("general.name", "random weights");
    fields.number(&own("context_length"), CONTEXT);
    fields.number(&own("embedding_length"), size.embedding);
    fields.number(&own("block_count"), layers);
    fields.number(&own("feed_forward_length"), size.hidden);
    fields.number(&own("attention.head_count"), size.heads);
    fields.number(&own("attention.head_count_kv"), size.kv_heads);
    fields.real(&own("attention.layer_norm_rms_epsilon"), 1e-5);
    fields.real(&own("rope.freq_base"), 10_000.0);
    vocabulary(&mut fields, size.vocabulary);
    fields
}

fn vocabulary(fields: &mut Fields, count: u32) {
    let words = count - BEFORE_WORDS;
    fields.string("tokenizer.ggml.model", "gpt2");
    fields.string("tokenizer.ggml.pre", "gpt-2");
    fields.list("tokenizer.ggml.tokens", STRING, count.into());
    fields.text("<|end|>");
    fields.text("Ċ");
    (0..words).for_each(|n| fields.text(&format!("Ġ{}", word(n))));
    fields.list("tokenizer.ggml.token_type", I32, count.into());
    (0..count).for_each(|n| fields.bytes.extend(if n == 0 { 3_i32 } else { 1 }.to_le_bytes()));
    let merges = merges(words);
    fields.list("tokenizer.ggml.merges", STRING, merges.len() as u64);
    merges.iter().for_each(|merge| fields.text(merge));
    fields.number("tokenizer.ggml.eos_token_id", 0);
    fields.key("tokenizer.ggml.add_bos_token", BOOL);
    fields.bytes.push(0);
}

// Letter by letter from the blank on: there is one way to put a word together.
fn merges(words: u32) -> Vec<String> {
    let mut all = Vec::new();
    for length in 1..=5_u32 {
        let shift = 4 * (5 - length);
        for prefix in 0..=(words - 1) >> shift {
            let letters: String = word(prefix << shift).chars().take(length as usize).collect();
            let (before, last) = letters.split_at(length as usize - 1);
            all.push(format!("Ġ{before} {last}"));
        }
    }
    all
}
