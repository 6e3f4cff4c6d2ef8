//! LoRA adapters of a model: read beside the weights, freed with them.
#![expect(unsafe_code, reason = "the FFI of this crate; each block says why it is sound")]

use std::ffi::CString;
use std::path::PathBuf;
use std::ptr::NonNull;

use llama_cpp_2::model::LlamaModel as Weights;
use llama_cpp_sys_2 as sys;

use super::context::weights_pointer;
use super::load::unusable;
use super::log;
use crate::LoadError;
use crate::gguf::Header;

/// An adapter and what requests call it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterFile {
    /// By which a request asks for it.
    pub name: String,
    /// The GGUF file.
    pub path: PathBuf,
    /// How much of it to add; 1 is what it was trained for.
    pub scale: f32,
}

/// An adapter of weights that are loaded. llama.cpp frees it with them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loaded {
    pub(super) adapter: NonNull<sys::llama_adapter_lora>,
    pub(super) scale: f32,
}

/// Reads the adapters. To be done before a context is made, whose graph then has room for them.
pub(super) fn load(weights: &Weights, files: &[AdapterFile]) -> Result<Vec<Loaded>, LoadError> {
    let one = |file: &AdapterFile| {
        check(file)?;
        let rejected = |reason| LoadError::Rejected { path: file.path.clone(), reason };
        let path = file.path.to_str().and_then(|path| CString::new(path).ok());
        let path = path.ok_or_else(|| rejected("its name is not UTF-8".to_owned()))?;
        let model = weights_pointer(weights);
        // SAFETY: the model is live and used by this thread only; the path is NUL-terminated and outlives the call.
        let (adapter, said) = log::capture(|| unsafe { sys::llama_adapter_lora_init(model, path.as_ptr()) });
        let adapter = NonNull::new(adapter).ok_or_else(|| rejected(said))?;
        Ok(Loaded { adapter, scale: file.scale })
    };
    files.iter().map(one).collect()
}

/// Whether the file could be an adapter's.
pub(super) fn check(file: &AdapterFile) -> Result<(), LoadError> {
    Header::of_any(&file.path).map(drop).map_err(|error| unusable(&file.path, error))
}
