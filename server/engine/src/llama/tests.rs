//! Whether the numbers a request sees depend on what else is in its batch.

use std::path::{Path, PathBuf};

use tokio::sync::watch;

use llama_cpp_sys_2 as sys;

use super::*;
use crate::{Entry, Interrupt, Limits, Prompt};

const CODE: &str =
    "import os\n\ndef read_lines(path):\n    with open(path) as file:\n        return file.readlines()\n";

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/cerebrum-tiny.gguf")
}

fn model_of_four() -> LlamaModel {
    four_of(&bundled())
}

fn four_of(path: &Path) -> LlamaModel {
    let limits = Limits { slots: 4, queue: 0, chunk_tokens: 256, prefix_bytes: 0, draft_tokens: 32 };
    let control = LoadControl::new(limits, Interrupt::default(), watch::channel(0.0).0);
    let options = Options { threads: Some(1), ..Options::new(path) };
    options.loader()(&control).unwrap()
}

fn entries(tokens: &[Token], sequence: usize, from: usize) -> impl Iterator<Item = Entry> {
    let last = tokens.len() - 1;
    let entry =
        move |(position, &token)| Entry { token, sequence: Sequence(sequence), position, output: position == last };
    tokens.iter().enumerate().skip(from).map(entry)
}

// The logits after the last token of sequence 0, computed in pieces of so many tokens, with neighbours in every batch or without.
fn logits(model: &mut LlamaModel, tokens: &[Token], pieces: &[usize], neighbours: usize) -> Vec<f32> {
    (0..4).for_each(|sequence| assert!(model.rewind(Sequence(sequence), 0)));
    let mut pieces = pieces.iter().copied().cycle();
    let (mut from, mut row) = (0, 0);
    for step in 0.. {
        let until = (from + pieces.next().unwrap()).min(tokens.len());
        let mut batch = Batch::default();
        for neighbour in 1..=neighbours {
            batch.entries.push(Entry {
                token: tokens[(step * 7) % tokens.len()],
                sequence: Sequence(neighbour),
                position: step,
                output: true,
            });
        }
        row = batch.entries.len() + until - from - 1;
        batch.entries.extend(entries(tokens, 0, from).take(until - from));
        model.decode(&batch).unwrap();
        from = until;
        if from == tokens.len() {
            break;
        }
    }
    model.context.logits(row).unwrap().to_vec()
}

#[test]
fn the_same_tokens_give_the_same_logits_in_any_batch() {
    in_any_batch(&mut model_of_four(), "Q8_0");
}

// The weights that most files have; ggml by itself computes four rows of them in another way than one.
#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "elsewhere ggml has other kernels for one row than for many")]
fn with_weights_of_four_bits_too() {
    for (kind, name) in [(sys::LLAMA_FTYPE_MOSTLY_Q4_K_S, "Q4_K_S"), (sys::LLAMA_FTYPE_MOSTLY_Q4_K_M, "Q4_K_M")] {
        let path = std::env::temp_dir().join(format!("cerebrum-{name}-{}.gguf", std::process::id()));
        quantise(&bundled(), &path, kind);
        let mut model = four_of(&path);
        // Loaded it is no longer needed.
        std::fs::remove_file(&path).unwrap();
        in_any_batch(&mut model, name);
    }
}

#[expect(unsafe_code, reason = "the safe crate does not expose it")]
fn quantise(from: &Path, to: &Path, kind: sys::llama_ftype) {
    let name = |path: &Path| std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    let (from, to) = (name(from), name(to));
    // SAFETY: takes nothing, returns a plain struct; its numbers are in range, and both names are NUL-terminated.
    let code = unsafe {
        let params = sys::llama_model_quantize_params {
            ftype: kind,
            nthread: 1,
            allow_requantize: true,
            ..sys::llama_model_quantize_default_params()
        };
        sys::llama_model_quantize(from.as_ptr(), to.as_ptr(), &raw const params)
    };
    assert_eq!(code, 0);
}

fn in_any_batch(model: &mut LlamaModel, weights: &str) {
    let tokens = model.vocabulary().tokenize(&Prompt::plain(CODE.repeat(3)));
    assert!(tokens.len() > 64, "long enough for every kernel: {}", tokens.len());
    let whole = logits(model, &tokens, &[1000], 0);
    let cases: [(&[usize], usize); 8] =
        [(&[1000], 1), (&[1000], 3), (&[64], 0), (&[16], 0), (&[16], 2), (&[7, 30, 1], 3), (&[1], 0), (&[1], 3)];
    for (pieces, neighbours) in cases {
        let same = whole == logits(model, &tokens, pieces, neighbours);
        assert!(same, "{weights} in pieces of {pieces:?} with {neighbours} neighbours: {BUILD}");
    }
}

#[test]
fn a_neighbour_with_a_long_context_changes_nothing() {
    let mut model = model_of_four();
    let tokens = model.vocabulary().tokenize(&Prompt::plain(CODE.repeat(3)));
    let alone = logits(&mut model, &tokens, &[1000], 0);
    let long = model.vocabulary().tokenize(&Prompt::plain(CODE.repeat(24)));
    assert!(long.len() > 512, "{}", long.len());
    (0..4).for_each(|sequence| assert!(model.rewind(Sequence(sequence), 0)));
    for from in (0..long.len()).step_by(200) {
        let batch = Batch { entries: entries(&long, 2, from).take(200).collect() };
        model.decode(&batch).unwrap();
    }
    let mut batch = Batch { entries: entries(&tokens, 0, 0).collect() };
    let row = batch.entries.len() - 1;
    batch.entries.push(Entry { token: long[0], sequence: Sequence(2), position: long.len(), output: true });
    model.decode(&batch).unwrap();
    assert!(alone == model.context.logits(row).unwrap());
}

#[test]
fn a_copied_and_a_restored_beginning_give_the_same_logits() {
    let mut model = model_of_four();
    let tokens = model.vocabulary().tokenize(&Prompt::plain(CODE.repeat(3)));
    let whole = logits(&mut model, &tokens, &[1000], 0);
    let rest = |model: &mut LlamaModel, sequence: usize, from: usize| {
        let batch = Batch { entries: entries(&tokens, sequence, from).collect() };
        model.decode(&batch).unwrap();
        model.context.logits(tokens.len() - from - 1).unwrap().to_vec()
    };
    // Over something else that was there, and twice before a step.
    rest(&mut model, 2, 0);
    assert!(model.copy(Sequence(0), Sequence(2), 50) && model.copy(Sequence(2), Sequence(3), 40));
    assert_eq!(model.save(Sequence(3), usize::MAX), None, "its bytes are not there yet");
    assert!(whole == rest(&mut model, 2, 50));
    assert!(whole == rest(&mut model, 3, 40));

    let saved = model.save(Sequence(3), usize::MAX).unwrap();
    assert_eq!(model.save(Sequence(3), saved.len() - 1), None);
    assert!(model.restore(Sequence(1), &saved, 60));
    assert!(whole == rest(&mut model, 1, 60));
    assert!(!model.restore(Sequence(1), &saved[..saved.len() / 2], 60), "half a state is none");
    assert!(whole == rest(&mut model, 1, 0));
}

// To the last bit, so that a guess never changes an answer: 127 of 150 tokens of one prompt differed by up to 0.06 (and one near tie was
// decided otherwise) as long as ggml added up the attention of a single row in an order of its own.
#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "elsewhere ggml has kernels that add up in other orders")]
fn every_row_of_a_draft_has_the_logits_it_would_have_alone() {
    let mut model = model_of_four();
    for n in [0, 2, 18] {
        let block = "def read_lines(path):\n    with open(path) as file:\n        return file.readlines()\n\n";
        let prompt = format!("# file {n}\n{}def f{n}(a, b):\n    return", block.repeat(n % 8));
        let mut tokens = model.vocabulary().tokenize(&Prompt::plain(prompt));
        let start = tokens.len();
        // What it says, token by token, and the logits of each.
        assert!(model.rewind(Sequence(0), 0));
        model.decode(&Batch { entries: entries(&tokens, 0, 0).collect() }).unwrap();
        let mut chain = model.sampler(&Sampling { temperature: 0.0, ..Sampling::default() }, 1, &tokens).unwrap();
        let mut alone = vec![model.context.logits(start - 1).unwrap().to_vec()];
        while tokens.len() < start + ANSWER {
            let token = chain.choose(&mut Candidates::new(), &alone[tokens.len() - start]).unwrap();
            chain.accept(token);
            tokens.push(token);
            model.decode(&Batch { entries: vec![row(&tokens, tokens.len() - 1)] }).unwrap();
            alone.push(model.context.logits(0).unwrap().to_vec());
        }
        // The same in steps of several, some of which go on with wrong guesses that are taken back.
        assert!(model.rewind(Sequence(0), start));
        let mut from = start;
        for (rows, wrong) in (2..).zip([0, 1, 2, 0, 5].into_iter().cycle()) {
            let until = (from + rows).min(tokens.len());
            let mut batch: Vec<_> = (from..until).map(|position| row(&tokens, position)).collect();
            let guess = |position| Entry { position, ..row(&tokens, 0) };
            batch.extend((until..until + wrong).map(guess));
            model.decode(&Batch { entries: batch }).unwrap();
            for position in from..until {
                let logits = model.context.logits(position - from).unwrap();
                let same = logits == alone[position + 1 - start];
                assert!(
                    same,
                    "row {} of {rows} after \"# file {n}\", with {wrong} wrong ones: {BUILD}",
                    position - from
                );
            }
            assert!(model.rewind(Sequence(0), until));
            from = until;
            if from == tokens.len() {
                break;
            }
        }
    }
}

fn row(tokens: &[Token], position: usize) -> Entry {
    Entry { token: tokens[position], sequence: Sequence(0), position, output: true }
}

const ANSWER: usize = 150;
/// What is wrong when a test of exactness fails on x86.
const BUILD: &str = "llama.cpp was built without server/engine/native (.cargo/config.toml; cargo clean -p llama-cpp-sys-2 has it built again)";

#[test]
fn an_interrupted_step_can_be_rewound_and_repeated() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/cerebrum-tiny.gguf");
    let interrupt = Interrupt::default();
    let control = LoadControl::new(
        Limits { slots: 1, queue: 0, chunk_tokens: 256, prefix_bytes: 0, draft_tokens: 0 },
        interrupt.clone(),
        watch::channel(0.0).0,
    );
    let mut model = Options { threads: Some(1), ..Options::new(path) }.loader()(&control).unwrap();
    let tokens = model.vocabulary().tokenize(&Prompt::plain(CODE));
    let batch = Batch { entries: entries(&tokens, 0, 0).collect() };
    interrupt.raise_step();
    assert_eq!(model.decode(&batch), Err(DecodeError::Interrupted));
    interrupt.clear_step();
    assert!(model.rewind(Sequence(0), 0));
    assert_eq!(model.decode(&batch), Ok(()));
    let repeated = model.context.logits(tokens.len() - 1).unwrap().to_vec();
    assert!(repeated == logits(&mut model_of_four(), &tokens, &[1000], 0));
}

#[test]
#[expect(unsafe_code, reason = "asks the library that is linked")]
fn kinds_of_tensors_are_as_large_as_ggml_says() {
    for kind in crate::gguf::Kind::all() {
        // SAFETY: plain look-ups in a table that has this index.
        let (block, bytes) = unsafe { (sys::ggml_blck_size(kind.id), sys::ggml_type_size(kind.id)) };
        assert_eq!((block as u64, bytes as u64), (kind.block, kind.block_bytes), "{kind}");
        // SAFETY: as above; the name is a static, NUL-terminated string.
        let name = unsafe { std::ffi::CStr::from_ptr(sys::ggml_type_name(kind.id)) };
        assert!(name.to_str().unwrap().eq_ignore_ascii_case(&kind.to_string()), "{name:?} is called {kind}");
    }
}

#[test]
fn a_model_tried_out_says_what_suits_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/cerebrum-tiny.gguf");
    let limits = Limits { slots: 2, queue: 0, chunk_tokens: 512, prefix_bytes: 0, draft_tokens: 8 };
    let options = Options { threads: Some(1), context: Some(256), ..Options::new(&path) };
    let fit = try_out(&options, limits).unwrap();
    assert_eq!((fit.threads, fit.batch_threads), (1, 1), "what is prescribed stays");
    assert!([32, 64, 128].contains(&fit.chunk), "within the context: {fit:?}");
    let prescribed = try_out(&Options { chunk: Some(48), ..options.clone() }, limits).unwrap();
    assert_eq!(prescribed.chunk, 48);
    let fitted = Options { threads: None, ..options }.fitted(Fit { threads: 3, batch_threads: 4, chunk: 48 });
    assert_eq!((fitted.threads, fitted.batch_threads, fitted.chunk), (Some(3), Some(4), Some(48)));
    let control = LoadControl::new(limits, Interrupt::default(), watch::channel(0.0).0);
    let model = Options { threads: Some(1), batch_threads: Some(1), ..fitted }.loader()(&control).unwrap();
    assert_eq!(model.info().batch_entries, 50);
    assert!(try_out(&Options::new("/nowhere.gguf"), limits).is_err());
}

#[test]
fn the_cache_is_as_large_as_the_header_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/cerebrum-tiny.gguf");
    let slots = |slots| Limits { slots, ..Limits::default() };
    let options = |context| Options { context: Some(context), ..Options::new(&path) };
    let one = options(256).cache_bytes(slots(1));
    let header = crate::gguf::Header::of(&path).unwrap();
    assert_eq!(one, 256 * header.cache_bytes_per_place());
    assert!(one > 0);
    assert_eq!(options(512).cache_bytes(slots(3)), one * 6);
    assert_eq!(options(1 << 20).cache_bytes(slots(1)), one * 4, "no more than it was trained for");
    // A state of so many tokens, and little more.
    let mut model = model_of_four();
    let tokens = model.vocabulary().tokenize(&Prompt::plain(CODE));
    model.decode(&Batch { entries: entries(&tokens, 0, 0).collect() }).unwrap();
    let state = model.save(Sequence(0), usize::MAX).unwrap().len() as u64;
    let expected = header.cache_bytes_per_place() * tokens.len() as u64;
    assert!((expected..expected + expected / 4 + 4096).contains(&state), "{state} {expected}");
    assert_eq!(Options::new("/nowhere").cache_bytes(slots(1)), 0);
}
