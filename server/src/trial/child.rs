//! The other process: what it is told, what it does, and how its answer reads. Both ends are here, so that they agree.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cerebrum_engine::llama::{self, AdapterFile, Fit, Options};
use cerebrum_engine::{Limits, LoadError};
use clap::Args;
use serde::Deserialize;

/// Which file, and as what it would be loaded.
#[derive(Args, Debug)]
pub struct Request {
    /// The GGUF file.
    file: PathBuf,
    /// A file of an adapter.
    #[arg(long)]
    adapter: Vec<PathBuf>,
    #[arg(long)]
    context: Option<u32>,
    #[arg(long)]
    threads: Option<usize>,
    #[arg(long)]
    fixed_chunk: Option<usize>,
    #[arg(long, default_value_t = 1)]
    slots: usize,
    #[arg(long, default_value_t = 128)]
    chunk: usize,
    #[arg(long, default_value_t = 0)]
    drafts: usize,
}

/// What the other process is started with.
pub(super) fn arguments(options: &Options, limits: Limits) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["trial".into()];
    let mut number = |name: &str, value: Option<usize>| {
        arguments.extend(value.map(|value| format!("--{name}={value}").into()));
    };
    number("context", options.context.map(|context| context as usize));
    number("threads", options.threads);
    number("fixed-chunk", options.chunk);
    number("slots", Some(limits.slots));
    number("chunk", Some(limits.chunk_tokens));
    number("drafts", Some(limits.draft_tokens));
    for adapter in &options.adapters {
        arguments.extend(["--adapter".into(), adapter.path.clone().into_os_string()]);
    }
    arguments.extend(["--".into(), options.path.clone().into_os_string()]);
    arguments
}

/// Tries the file out. The answer, also a refusal, is for the program that asked.
///
/// # Errors
/// The refusal, as text.
pub fn carry_out(request: Request) -> Result<String, String> {
    let Request { file, adapter, context, threads, fixed_chunk, slots, chunk, drafts } = request;
    let adapters = adapter.into_iter().map(|path| AdapterFile { name: String::new(), path, scale: 1.0 }).collect();
    let options = Options { context, threads, chunk: fixed_chunk, adapters, ..Options::new(file) };
    let limits = Limits { slots, queue: 0, chunk_tokens: chunk, prefix_bytes: 0, draft_tokens: drafts };
    match llama::try_out(&options, limits) {
        Ok(Fit { threads, batch_threads, chunk }) => {
            Ok(format!("threads = {threads}\nbatch_threads = {batch_threads}\nchunk = {chunk}\n"))
        }
        Err(error) => Err(refusal(&error)),
    }
}

/// What suits the file, from the other process's answer.
pub(super) fn fit(text: &str) -> Option<Fit> {
    #[derive(Deserialize)]
    struct Answer {
        threads: usize,
        batch_threads: usize,
        chunk: usize,
    }
    let Answer { threads, batch_threads, chunk } = toml::from_str(text).ok()?;
    Some(Fit { threads, batch_threads, chunk })
}

// A word for what it is, then the reason.
fn refusal(error: &LoadError) -> String {
    match error {
        LoadError::Damaged { reason, .. } => format!("damaged {reason}\n"),
        LoadError::Unsupported { reason, .. } => format!("unsupported {reason}\n"),
        LoadError::Rejected { reason, .. } => format!("rejected {reason}\n"),
        other => format!("other {other}\n"),
    }
}

/// Why the file is refused, from the other process's answer, if it gave one.
pub(super) fn error(path: &Path, text: &str) -> Option<LoadError> {
    let (kind, reason) = text.trim_end().split_once(' ')?;
    let (path, reason) = (path.to_owned(), reason.to_owned());
    Some(match kind {
        "damaged" => LoadError::Damaged { path, reason },
        "unsupported" => LoadError::Unsupported { path, reason },
        "rejected" => LoadError::Rejected { path, reason },
        "other" => LoadError::Thread { reason },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_come_through_as_they_are() {
        let (path, reason) = (PathBuf::from("m.gguf"), "two words".to_owned());
        let errors = [
            LoadError::Damaged { path: path.clone(), reason: reason.clone() },
            LoadError::Unsupported { path: path.clone(), reason: reason.clone() },
            LoadError::Rejected { path: path.clone(), reason },
        ];
        for expected in errors {
            assert_eq!(error(&path, &refusal(&expected)), Some(expected));
        }
        assert_eq!(error(&path, "anything else"), None);
        assert_eq!(error(&path, ""), None);
        assert_eq!(
            fit("threads = 3\nbatch_threads = 4\nchunk = 5\n"),
            Some(Fit { threads: 3, batch_threads: 4, chunk: 5 })
        );
        assert_eq!(fit("threads = 3"), None);
    }
}
