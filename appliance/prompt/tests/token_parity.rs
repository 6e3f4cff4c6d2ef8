//! Counts are those of the served model: against what llama.cpp made of the same texts, with the bundled model's vocabulary.

use std::collections::HashMap;
use std::path::Path;

use cerebrum_prompt::TokenCount;
use cerebrum_prompt::tokens::{Bpe, Vocabulary};

const GOLDEN: &str = include_str!("golden/tiny-tokens.txt");

/// Values of a GGUF file, as far as a vocabulary needs them.
enum Value {
    Text(String),
    Texts(Vec<String>),
    Numbers(Vec<i32>),
    Other,
}

/// Reads the front of a GGUF file.
struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (front, rest) = self.0.split_first_chunk().expect("the file goes on");
        self.0 = rest;
        *front
    }

    fn length(&mut self) -> usize {
        usize::try_from(u64::from_le_bytes(self.take())).expect("fits")
    }

    fn number(&mut self) -> i32 {
        i32::from_le_bytes(self.take())
    }

    fn text(&mut self) -> String {
        let length = self.length();
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8(text.to_vec()).expect("is UTF-8")
    }

    fn value(&mut self) -> Value {
        match self.number() {
            8 => Value::Text(self.text()),
            9 => match (self.number(), self.length()) {
                (8, length) => Value::Texts((0..length).map(|_| self.text()).collect()),
                (5, length) => Value::Numbers((0..length).map(|_| self.number()).collect()),
                (kind, _) => panic!("no arrays of kind {kind} in this file"),
            },
            0 | 1 | 7 => {
                self.0 = &self.0[1..];
                Value::Other
            }
            2 | 3 => {
                self.0 = &self.0[2..];
                Value::Other
            }
            4..=6 => {
                self.0 = &self.0[4..];
                Value::Other
            }
            _ => {
                self.0 = &self.0[8..];
                Value::Other
            }
        }
    }
}

fn vocabulary() -> Bpe {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/cerebrum-tiny.gguf");
    let bytes = std::fs::read(path).expect("the model is bundled");
    let mut reader = Reader(&bytes);
    assert_eq!(&reader.take(), b"GGUF");
    reader.number();
    reader.length();
    let count = reader.length();
    let values: HashMap<String, Value> = (0..count).map(|_| (reader.text(), reader.value())).collect();
    let text = |key: &str| match &values[key] {
        Value::Text(text) => text.as_str(),
        _ => panic!("{key} is no text"),
    };
    let texts = |key: &str| match &values[key] {
        Value::Texts(texts) => texts.as_slice(),
        _ => panic!("{key} are no texts"),
    };
    let Value::Numbers(types) = &values["tokenizer.ggml.token_type"] else { panic!("types are numbers") };
    let vocabulary = Vocabulary {
        model: text("tokenizer.ggml.model"),
        pre: text("tokenizer.ggml.pre"),
        tokens: texts("tokenizer.ggml.tokens"),
        types,
        merges: texts("tokenizer.ggml.merges"),
    };
    Bpe::new(&vocabulary).expect("the vocabulary is known")
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('0') => '\0',
                Some('L') => '\u{2028}',
                Some('N') => '\u{85}',
                other => other.expect("something is escaped"),
            },
            _ => c,
        });
    }
    out
}

#[test]
fn the_same_tokens_as_llama_cpp() {
    let vocabulary = vocabulary();
    let cases: Vec<(&str, &str)> = GOLDEN.lines().filter_map(|line| line.split_once('\u{1f}')).collect();
    assert!(cases.len() > 100, "the corpus is there: {}", cases.len());
    for (text, expected) in cases {
        let text = unescape(text);
        let expected: Vec<u32> = expected.split_whitespace().map(|id| id.parse().expect("a number")).collect();
        assert_eq!(vocabulary.encode(&text), expected, "{text:?}");
        assert_eq!(vocabulary.count(&text), expected.len(), "{text:?}");
    }
}
