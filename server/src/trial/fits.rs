//! What trials have found, by file, machine and settings; in memory, and in a small file where there is a folder for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use cerebrum_engine::Limits;
use cerebrum_engine::llama::{Fit, Options, system_info};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What is known.
#[derive(Debug)]
pub(super) struct Fits {
    path: Option<PathBuf>,
    known: Mutex<BTreeMap<String, Known>>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    threads: usize,
    batch_threads: usize,
    chunk: usize,
}

/// What a fit is valid for: this content (as far as its length and time tell), this processor, these settings, this program. `None`
/// when the file cannot be looked at.
pub(super) fn key(options: &Options, limits: Limits) -> Option<String> {
    let files = std::iter::once(&options.path).chain(options.adapters.iter().map(|adapter| &adapter.path));
    let files = files.map(|path| stamp(path)).collect::<Option<Vec<_>>>()?;
    let Options { context, threads, batch_threads, chunk, .. } = options;
    let Limits { slots, chunk_tokens, draft_tokens, .. } = limits;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let text = format!(
        "{files:?} {context:?} {threads:?} {batch_threads:?} {chunk:?} {slots} {chunk_tokens} {draft_tokens} {processors} {} {} {}",
        processor(),
        system_info(),
        env!("CARGO_PKG_VERSION")
    );
    Some(Sha256::digest(text.as_bytes())[..16].iter().map(|byte| format!("{byte:02x}")).collect())
}

// Length and time of the last change.
fn stamp(path: &Path) -> Option<(u64, u128)> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.len(), file.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos()))
}

// What Linux calls the processor; on ARM the part numbers stand where a name would.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = |line: &&str| line.starts_with("model name") || line.starts_with("CPU part");
    let mut lines: Vec<_> = info.lines().filter(named).collect();
    lines.dedup();
    lines.concat()
}

impl Fits {
    /// What is known from earlier, if there is a folder where that is kept.
    pub(super) fn of(state: Option<&Path>) -> Self {
        let path = state.map(|folder| folder.join("fits.toml"));
        let known = path.as_ref().map(|path| read(path)).unwrap_or_default();
        Self { path, known: Mutex::new(known) }
    }

    pub(super) fn find(&self, key: &str) -> Option<Fit> {
        let known = self.lock().get(key).copied()?;
        let Known { threads, batch_threads, chunk } = known;
        Some(Fit { threads, batch_threads, chunk })
    }

    /// A folder that cannot be written costs another trial after the next start, and nothing else.
    pub(super) fn remember(&self, key: String, fit: Fit) {
        let Fit { threads, batch_threads, chunk } = fit;
        let mut known = self.lock();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key, Known { threads, batch_threads, chunk });
        let Some(path) = &self.path else { return };
        if let Err(error) = write(path, &known) {
            tracing::warn!(path = %path.display(), %error, "what suits a model is not remembered");
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// What cannot be understood is as good as nothing: it is found out again.
fn read(path: &Path) -> BTreeMap<String, Known> {
    std::fs::read_to_string(path).ok().and_then(|text| toml::from_str(&text).ok()).unwrap_or_default()
}

fn write(path: &Path, known: &BTreeMap<String, Known>) -> std::io::Result<()> {
    let mut text =
        String::from("# What suits which model on this machine. Found by trial; may be deleted at any time.\n");
    for (key, Known { threads, batch_threads, chunk }) in known {
        text += &format!("{key} = {{ threads = {threads}, batch_threads = {batch_threads}, chunk = {chunk} }}\n");
    }
    cerebrum_common::settings::write_private(path, text.as_bytes())
}

/// Models come and go; their number never grows beyond this.
const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_known_after_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let fit = Fit { threads: 2, batch_threads: 3, chunk: 64 };
        let state = folder.path().join("state");
        Fits::of(Some(&state)).remember("0123".into(), fit);
        assert_eq!(Fits::of(Some(&state)).find("0123"), Some(fit));
        assert_eq!(Fits::of(Some(&state)).find("4567"), None);
        std::fs::write(state.join("fits.toml"), "nonsense").unwrap();
        let fits = Fits::of(Some(&state));
        assert_eq!(fits.find("0123"), None);
        fits.remember("4567".into(), fit);
        assert_eq!(Fits::of(Some(&state)).find("4567"), Some(fit));
        let unkept = Fits::of(None);
        unkept.remember("0123".into(), fit);
        assert_eq!(unkept.find("0123"), Some(fit));
    }

    #[test]
    fn another_file_or_setting_is_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        std::fs::write(&path, "one").unwrap();
        let options = Options::new(&path);
        let first = key(&options, Limits::default()).unwrap();
        assert_eq!(key(&options, Limits::default()).unwrap(), first);
        assert_ne!(key(&Options { threads: Some(1), ..options.clone() }, Limits::default()).unwrap(), first);
        assert_ne!(key(&options, Limits { slots: 9, ..Limits::default() }).unwrap(), first);
        std::fs::write(&path, "other").unwrap();
        assert_ne!(key(&options, Limits::default()).unwrap(), first);
        assert_eq!(key(&Options::new("/nowhere"), Limits::default()), None);
    }
}
