//! The reader over headers made by hand, the bundled model, and many damaged copies of both.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

/// Writes headers, true or not.
#[derive(Clone, Default)]
struct Draft {
    pairs: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl Draft {
    fn pair(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.pairs.push([text(key), kind.to_le_bytes().to_vec(), value.to_vec()].concat());
        self
    }

    fn tensor(mut self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        let shape: Vec<u8> =
            (shape.len() as u32).to_le_bytes().into_iter().chain(shape.iter().flat_map(|n| n.to_le_bytes())).collect();
        self.tensors.push([text(name), shape, kind.to_le_bytes().to_vec(), offset.to_le_bytes().to_vec()].concat());
        self
    }

    fn model() -> Self {
        Self::default().pair("general.architecture", 8, &text("llama")).tensor("a", &[32, 2], 8, 0).tensor(
            "b",
            &[3],
            0,
            96,
        )
    }

    /// The header, padded, and so many bytes of data.
    fn bytes(&self, data: usize) -> Vec<u8> {
        let counts = [self.tensors.len() as u64, self.pairs.len() as u64].map(u64::to_le_bytes).concat();
        let mut bytes = [b"GGUF\x03\0\0\0".to_vec(), counts, self.pairs.concat(), self.tensors.concat()].concat();
        bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
        bytes
    }

    fn read(&self, data: usize) -> Result<Header, String> {
        read(&self.bytes(data))
    }
}

fn read(bytes: &[u8]) -> Result<Header, String> {
    let header = Header::read(bytes, bytes.len() as u64).map_err(|error| error.to_string())?;
    sense::model(&header).map_err(|error| error.to_string())?;
    Ok(header)
}

fn bundled() -> PathBuf {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/cerebrum-tiny.gguf"));
    assert!(path.exists(), "the bundled model is missing");
    path
}

#[test]
fn a_header_is_read_as_it_is() {
    let header = Draft::model().pair("llama.block_count", 4, &7_u32.to_le_bytes()).read(108).unwrap();
    assert_eq!((header.architecture(), header.own("block_count")), ("llama", Some(7)));
    assert_eq!((header.tensors[0].bytes, header.tensors[1].bytes, header.parameters()), (68, 12, 67));
    assert_eq!(header.main_kind().unwrap().to_string(), "Q8_0");
}

#[test]
fn a_vocabulary_is_read_word_for_word() {
    let vocabulary = Vocabulary::of(&bundled()).unwrap();
    assert_eq!((vocabulary.model.as_str(), vocabulary.tokens.len()), ("gpt2", vocabulary.types.len()));
    assert!(vocabulary.merges.iter().all(|merge| merge.contains(' ')));
    let wrong = Draft::model().pair("tokenizer.ggml.tokens", 4, &7_u32.to_le_bytes()).bytes(108);
    let length = wrong.len() as u64;
    let error = Vocabulary::read(wrong.as_slice(), length).unwrap_err().to_string();
    assert_eq!(error, "tokenizer.ggml.tokens has type 4, expected a list of texts");
}

#[test]
fn the_bundled_model_makes_sense() {
    let header = Header::of(&bundled()).unwrap();
    assert_eq!((header.architecture(), header.own("context_length")), ("llama", Some(1024)));
    assert!(header.parameters() > 4_000_000 && header.metadata.contains_key("tokenizer.ggml.tokens"));
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let model = Draft::model;
    let number = |key: &str, value: u32| model().pair(key, 4, &value.to_le_bytes());
    let list = |key: &str, kind: u32, length: u64| {
        model().pair(key, 9, &[&kind.to_le_bytes()[..], &length.to_le_bytes()[..]].concat())
    };
    let cases: [(Draft, &str); 21] = [
        (Draft::default(), "general.architecture is missing"),
        (Draft::default().pair("general.architecture", 8, &text("x")), "no tensors"),
        (model().pair("", 4, &[0; 4]), "a key is empty"),
        (model().pair("a", 4, &[0; 4]).pair("a", 4, &[0; 4]), "a is there twice"),
        (model().pair("a", 13, &[]), "unknown type 13"),
        (model().pair("a", 7, &[2]), "a is 2, expected 0 or 1"),
        (model().pair("a", 8, &u64::MAX.to_le_bytes()), "a has 18446744073709551615 bytes"),
        (list("a", 9, 1), "list of the unknown type 9"),
        (list("a", 4, u64::MAX / 4), "the file ends before them"),
        (number("general.alignment", 0), "general.alignment"),
        (number("general.alignment", 33), "general.alignment"),
        (number("llama.block_count", 513), "llama.block_count is 513, expected 1 to 512"),
        (number("llama.embedding_length", 0), "llama.embedding_length is 0"),
        (model().tensor("a", &[1], 0, 128), "tensor a is there twice"),
        (model().tensor("c", &[1], 0, 64), "begins at 64, expected 128"),
        (model().tensor("c", &[33], 8, 128), "cannot have the shape"),
        (model().tensor("c", &[1 << 40, 1 << 40], 0, 128), "cannot have the shape"),
        (model().tensor("c", &[0], 0, 128), "cannot have the shape"),
        (model().tensor("c", &[1 << 40], 0, 128), "ends within tensor c"),
        (model().tensor("c", &[1, 1, 1, 1, 1], 0, 128), "5 dimensions"),
        (model().tensor("c", &[1], 31, 128), "unknown kind 31"),
    ];
    for (draft, expected) in cases {
        let error = draft.read(1024).expect_err(expected);
        assert!(error.contains(expected), "{error} instead of {expected}");
    }
}

#[test]
fn vocabularies_have_to_agree_with_themselves() {
    let tokens = |types: u64| {
        let names = [&8_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &text("a"), &text("b")].concat();
        let types = [&5_u32.to_le_bytes()[..], &types.to_le_bytes(), &vec![0; types as usize * 4]].concat();
        Draft::model().pair("tokenizer.ggml.tokens", 9, &names).pair("tokenizer.ggml.token_type", 9, &types)
    };
    assert!(tokens(2).read(1024).is_ok());
    assert!(tokens(3).read(1024).unwrap_err().contains("3 entries for 2 tokens"));
    let ends = |id: u32| tokens(2).pair("tokenizer.ggml.eos_token_id", 4, &id.to_le_bytes()).read(1024);
    assert!(ends(1).is_ok() && ends(u32::MAX).is_ok());
    assert!(ends(2).unwrap_err().contains("eos_token_id is 2, expected 0 to 1"));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = Draft::model().pair("a", 8, &text("text")).bytes(108);
    assert!(read(&whole).is_ok());
    for length in 0..whole.len() {
        assert!(read(&whole[..length]).is_err(), "{length} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    // Whatever is in a file: an answer, and no more memory than it has bytes.
    #[test]
    fn nothing_makes_it_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = Draft::model().pair("llama.block_count", 4, &7_u32.to_le_bytes()).bytes(108);
        for (index, byte) in changes {
            *index.get_mut(&mut bytes) = byte;
        }
        if let Ok(header) = read(&bytes) {
            prop_assert!(header.tensors.iter().all(|t| header.data + t.offset + t.bytes <= bytes.len() as u64));
        }
    }
}
