//! llama.cpp behind [`Model`]: the only module that knows C.

use std::path::PathBuf;

use crate::{LoadControl, LoadError};

/// How to load a GGUF file. The numbers left `None` are chosen from the model and the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The GGUF file.
    pub path: PathBuf,
    /// Tokens that prompt and answer of one request may have together. Each slot gets as many, so the KV cache holds this times the
    /// number of slots. Default: what the model was trained for, at most 4096. Never more than the model was trained for.
    pub context: Option<u32>,
    /// Threads that compute. Default: what the machine offers.
    pub threads: Option<usize>,
}

impl Options {
    /// Everything by default.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), context: None, threads: None }
    }

    /// A loader for [`Engine::start`](crate::Engine::start).
    pub fn loader(self) -> impl FnOnce(&LoadControl) -> Result<LlamaModel, LoadError> + Send + 'static {
        move |_control| Err(LoadError::NotFound { path: self.path })
    }
}

/// placeholder until the FFI is in
pub type LlamaModel = crate::scripted::ScriptedModel;
