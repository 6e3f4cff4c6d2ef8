//! From a path to a model, or to a reason that a person can act on.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel as Weights;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

use super::context::{Context, Purpose, Shape};
use super::words::Words;
use super::{LlamaModel, Options, adapter, identity, log};
use crate::gguf::{GgufError, Header};
use crate::{Control, LoadControl, LoadError, ModelInfo};

pub(super) fn load(options: &Options, control: &LoadControl) -> Result<LlamaModel, LoadError> {
    log::install();
    check_file(&options.path)?;
    let weights = weights(&options.path, control)?;
    let adapters = adapter::load(&weights, &options.adapters)?;
    let context_size = context_size(options, &weights);
    let limits = control.limits();
    let chunk = options.chunk.map_or(limits.chunk_tokens, |chunk| chunk.clamp(1, limits.chunk_tokens));
    let shape = Shape {
        context: context_size,
        sequences: clamped(limits.slots),
        batch: clamped(chunk + limits.slots),
        outputs: clamped(limits.slots + limits.draft_tokens.min(chunk)),
        threads: threads(options.threads),
        batch_threads: threads(options.batch_threads.or(options.threads)),
        purpose: Purpose::Text,
    };
    let failed = |reason| LoadError::Context { context: context_size, slots: limits.slots, reason };
    let context = Context::new(&weights, shape, control.interrupt(), adapters).map_err(failed)?;
    let mut info = info(&weights, &context, shape);
    info.adapters = options.adapters.iter().map(|adapter| adapter.name.clone()).collect();
    tracing::info!(model = %info.description, context = info.context, slots = info.sequences, chunk, threads = shape.threads,
        batch_threads = shape.batch_threads, cpu = %super::system_info(), "model loaded");
    let prefix_file = identity::prefix_file(options, shape);
    let (pieces, interrupt, weights) = (OnceCell::new(), control.interrupt(), Arc::new(weights));
    let words = Arc::new(Words::of(Arc::clone(&weights)));
    let (embedder, candidates) = (None, Vec::new());
    Ok(LlamaModel { info, context, prefix_file, embedder, shape, interrupt, pieces, candidates, weights, words })
}

// llama.cpp's own words for a file that is not there or something else are of little help, its debug builds abort on them, and
// numbers that contradict each other may end the process.
pub(super) fn check_file(path: &Path) -> Result<(), LoadError> {
    if path.to_str().is_none() {
        return Err(LoadError::Unreadable { path: path.to_owned(), reason: "its name is not UTF-8".to_owned() });
    }
    Header::of(path).map(drop).map_err(|error| unusable(path, error))
}

/// What a header that cannot be used means for the file.
pub(super) fn unusable(path: &Path, error: GgufError) -> LoadError {
    let path = path.to_owned();
    match error {
        GgufError::Io(error) if error.kind() == ErrorKind::NotFound => LoadError::NotFound { path },
        GgufError::Io(error) => LoadError::Unreadable { path, reason: error.to_string() },
        GgufError::NotGguf { found } => LoadError::NotGguf { path, found },
        GgufError::Unknown(reason) => LoadError::Unsupported { path, reason },
        GgufError::Damaged(reason) => LoadError::Damaged { path, reason },
    }
}

fn weights(path: &Path, control: &LoadControl) -> Result<Weights, LoadError> {
    let reporter = control.clone();
    let params = LlamaModelParams::default().with_progress_callback(move |progress| {
        reporter.report(progress);
        !reporter.is_cancelled()
    });
    let backend = backend()?;
    let (weights, said) = log::capture(|| Weights::load_from_file(backend, path, &params));
    match weights {
        Ok(weights) => Ok(weights),
        Err(_) if control.is_cancelled() => Err(LoadError::Cancelled),
        Err(_) => Err(classify(path, said)),
    }
}

fn backend() -> Result<&'static LlamaBackend, LoadError> {
    // Never freed: models of other threads may still be in use when this one's goes.
    static BACKEND: OnceLock<Option<LlamaBackend>> = OnceLock::new();
    let failed = || LoadError::Thread { reason: "llama.cpp's backend was initialised by somebody else".to_owned() };
    BACKEND.get_or_init(|| LlamaBackend::init().ok()).as_ref().ok_or_else(failed)
}

// By llama.cpp's words, of which only a few are stable; what is not recognised is passed on as it is.
fn classify(path: &Path, reason: String) -> LoadError {
    let path = path.to_owned();
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if says(&[
        "unknown model architecture",
        "unsupported model architecture",
        "unknown pre-tokenizer",
        "unknown tokenizer",
    ]) {
        LoadError::Unsupported { path, reason }
    } else if says(&[
        "corrupt",
        "incomplete",
        "gguf_init",
        "failed to read",
        "file bounds",
        "invalid magic",
        "missing tensor",
    ]) {
        LoadError::Damaged { path, reason }
    } else {
        LoadError::Rejected { path, reason }
    }
}

fn context_size(options: &Options, weights: &Weights) -> u32 {
    let trained = weights.n_ctx_train().max(1);
    options.context.unwrap_or(DEFAULT_CONTEXT).clamp(1, trained)
}

fn threads(wanted: Option<usize>) -> i32 {
    let machine = || thread::available_parallelism().map_or(1, usize::from);
    i32::try_from(wanted.unwrap_or_else(machine)).unwrap_or(i32::MAX).clamp(1, MAX_THREADS)
}

fn clamped(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn info(weights: &Weights, context: &Context, shape: Shape) -> ModelInfo {
    let mut metadata = metadata(weights);
    let chat_template = metadata.remove("tokenizer.chat_template");
    let architecture = metadata.get("general.architecture").cloned().unwrap_or_default();
    ModelInfo {
        description: description(&architecture, weights),
        architecture,
        size_bytes: weights.size(),
        parameters: weights.n_params(),
        // llama.cpp rounds up to a multiple of 256; what was asked for is what is promised.
        context: context.places_per_sequence().min(shape.context as usize),
        context_train: weights.n_ctx_train() as usize,
        vocabulary: usize::try_from(weights.n_vocab()).unwrap_or(0),
        sequences: shape.sequences as usize,
        batch_entries: shape.batch as usize,
        output_rows: shape.outputs as usize,
        rewinds: !weights.is_recurrent() && !weights.is_hybrid(),
        infill: has(weights, &[Control::InfillPrefix, Control::InfillSuffix, Control::InfillMiddle]),
        infill_files: has(weights, &[Control::Repository, Control::File]),
        adapters: Vec::new(),
        chat_template,
        begin_text: written(weights, weights.vocab().bos()),
        end_text: written(weights, weights.vocab().eos()),
        control_texts: control_texts(weights),
        metadata,
    }
}

/// The model's token for a purpose, if it has one.
pub(super) fn control(weights: &Weights, control: Control) -> Option<LlamaToken> {
    let vocab = weights.vocab();
    let token = match control {
        Control::InfillPrefix => vocab.fim_pre(),
        Control::InfillSuffix => vocab.fim_suf(),
        Control::InfillMiddle => vocab.fim_mid(),
        Control::Repository => vocab.fim_rep(),
        Control::File => vocab.fim_sep(),
    };
    // llama.cpp's word for none is -1.
    (token.0 >= 0).then_some(token)
}

fn written(weights: &Weights, token: LlamaToken) -> String {
    let known = token.0 >= 0 && token.0 < weights.n_vocab();
    let text = known.then(|| weights.vocab().text(token).map(|text| text.to_string_lossy().into_owned())).flatten();
    text.unwrap_or_default()
}

fn control_texts(weights: &Weights) -> Vec<String> {
    let tokens = (0..weights.n_vocab()).map(LlamaToken).filter(|token| weights.vocab().is_control(*token));
    tokens.map(|token| written(weights, token)).filter(|text| !text.is_empty()).collect()
}

fn has(weights: &Weights, controls: &[Control]) -> bool {
    controls.iter().all(|purpose| control(weights, *purpose).is_some())
}

fn description(architecture: &str, weights: &Weights) -> String {
    let millions = weights.n_params() as f64 / 1e6;
    let bits = 8.0 * weights.size() as f64 / weights.n_params().max(1) as f64;
    format!("{architecture} {millions:.1}M parameters, {bits:.1} bits each")
}

fn metadata(weights: &Weights) -> BTreeMap<String, String> {
    let pair = |index| Some((weights.meta_key_by_index(index).ok()?, weights.meta_val_str_by_index(index).ok()?));
    let pairs = (0..weights.meta_count()).filter_map(pair);
    pairs.filter(|(key, value)| value.len() <= METADATA_BYTES || key == "tokenizer.chat_template").collect()
}

/// What a request for code seldom exceeds, and what two slots of a 1.5B model hold in 250 MB.
pub(super) const DEFAULT_CONTEXT: u32 = 4096;
/// More threads than any machine this runs on has cores; a slip in a setting must not start a million.
pub(super) const MAX_THREADS: i32 = 512;
/// Longer values are tables that nobody reads.
const METADATA_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_sorted_by_what_a_person_can_do() {
        let path = Path::new("m.gguf");
        let kind = |reason: &str| classify(path, reason.to_owned()).to_string();
        assert!(kind("error loading model: unknown model architecture: 'x'").contains("unsupported model"));
        assert!(
            kind("tensor 'a' data is not within the file bounds, model is corrupted or incomplete")
                .contains("fetch it again")
        );
        assert!(kind("something else").contains("cannot be loaded (something else)"));
    }
}
