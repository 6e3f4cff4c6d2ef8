//! The server's settings: one strict TOML file and `CEREBRUM_API_KEY`, converted once into values that cannot be wrong.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cerebrum_common::event_log::Retention;
use cerebrum_common::keyring::Keyring;
use cerebrum_common::keys::{KnownKey, Secret};
use cerebrum_common::settings::{Section, SettingsError, environment, read_file};
use cerebrum_common::tls::{ServerFiles, TlsError};
use cerebrum_common::wire::native::Limits as TokenLimits;
use cerebrum_common::{program, serve};
use cerebrum_engine::llama::AdapterFile;

use crate::guards;
use crate::http::hold;

/// Everything the server can be told.
#[derive(Debug)]
pub struct Settings {
    /// Where callers connect.
    pub listen: SocketAddr,
    /// Who may call.
    pub keys: Arc<Keyring>,
    /// Log filter.
    pub log: String,
    /// Connections and bodies.
    pub serve: serve::Limits,
    /// With it, callers speak TLS.
    pub tls: Option<ServerFiles>,
    /// How long generations in progress may take after a stop.
    pub drain: Duration,
    /// Silence after which a stream gets a heartbeat.
    pub heartbeat: Duration,
    /// Answers that outlive their connection.
    pub hold: Retention,
    /// Bounds of `max_tokens`.
    pub tokens: TokenLimits,
    /// What the machine must have to spare.
    pub guards: guards::Limits,
    /// The models.
    pub models: Models,
}

/// Where models are and how they run.
#[derive(Clone, Debug, PartialEq)]
pub struct Models {
    /// Folder of GGUF files.
    pub folder: PathBuf,
    /// Answers requests that name none.
    pub default: Option<String>,
    /// Further names of models.
    pub aliases: BTreeMap<String, String>,
    /// Threads that compute; all processors when absent.
    pub threads: Option<usize>,
    /// Tokens of prompt and answer together; chosen by the engine when absent.
    pub context: Option<u32>,
    /// Prompt tokens per step; by trial when absent.
    pub chunk: Option<usize>,
    /// Adapters of models.
    pub adapters: Vec<Adapter>,
    /// Where what was found out about models is kept over the program's end.
    pub state: Option<PathBuf>,
    /// The most bytes of prefixes that outlive the program, in a folder of `state`; none when absent.
    pub keep_prefixes: Option<u64>,
    /// Slots, queue and the largest chunk of each model.
    pub engine: cerebrum_engine::Limits,
    /// A model unused for so long is unloaded; never when absent.
    pub idle_unload: Option<Duration>,
}

/// A LoRA adapter that requests to one model may ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// The model's own name.
    pub model: String,
    /// The adapter.
    pub file: AdapterFile,
}

impl program::Settings for Settings {
    // The variable `CEREBRUM_API_KEY` adds a key.
    fn read(path: &Path) -> Result<Self, SettingsError> {
        read_file(path, |root| convert(root, &environment))
    }

    fn log(&self) -> &str {
        &self.log
    }

    fn tls_files(&self) -> Vec<Result<(), TlsError>> {
        self.tls.iter().map(program::usable).collect()
    }
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9000);
/// Where models are unless the settings say otherwise.
pub(crate) const DEFAULT_MODELS: &str = "/var/lib/cerebrum/models";
const IDLE_UNLOAD: Duration = Duration::from_secs(60 * 60);
/// The largest chunk that is tried.
const MOST_CHUNK: usize = 512;
const HEARTBEAT: Duration = Duration::from_secs(5);
const DRAIN: Duration = Duration::from_secs(30);

fn convert(root: &mut Section<'_>, environment: Environment<'_>) -> Option<Settings> {
    let listen = root.or("listen", DEFAULT_LISTEN);
    let log = root.or("log", "info".to_owned());
    let (serve, drain) = root.section("limits", limits);
    let tls = tls(root, listen);
    let keys = keys(root, environment);
    let heartbeat = root.time("heartbeat_ms", HEARTBEAT);
    let hold = root.section("hold", |section| Retention::read(section, hold::RETENTION));
    let tokens = root.section("generation", TokenLimits::read);
    let guards = root.section("guards", guard_limits);
    let models = models(root, environment);
    let state = models.state.clone();
    let keys = keys.map(|ring| match state {
        Some(folder) => ring.with_uses_in(&folder),
        None => ring,
    });
    let keys = keys.map(Arc::new);
    Some(Settings { listen, keys: keys?, log, serve, tls, drain, heartbeat, hold, tokens, guards, models })
}

fn limits(section: &mut Section<'_>) -> (serve::Limits, Duration) {
    (serve::Limits::read(section), section.or("drain_ms", DRAIN))
}

/// Keys and prompts would cross the network in the clear: that has to be asked for.
fn tls(root: &mut Section<'_>, listen: SocketAddr) -> Option<ServerFiles> {
    let insecure = root.or("insecure", false);
    let mut present = false;
    let files = root.optional("tls", |section| {
        present = true;
        ServerFiles::read(section)
    });
    if !present && !insecure && !listen.ip().is_loopback() {
        root.problem(
            "tls",
            format!(
                "found nothing while listening on {listen}, expected [tls] with certificate and key \
                 (cerebrum-server pki makes them), a loopback address, or insecure = true"
            ),
        );
    }
    files.flatten()
}

fn keys(root: &mut Section<'_>, environment: Environment<'_>) -> Option<Keyring> {
    const EXPECTED: &str = "expected at least one key (cerebrum-server key add NAME, or CEREBRUM_API_KEY)";
    let path: Option<PathBuf> = root.take("keys_file");
    let fixed = environment("CEREBRUM_API_KEY").map(|key| KnownKey::new("CEREBRUM_API_KEY", &Secret::new(key)));
    let ring = Keyring::new(path.clone(), fixed.into_iter().collect())
        .inspect_err(|error| root.problem("keys_file", error.to_string()))
        .ok()?;
    if ring.is_empty() {
        let found = path.map_or_else(|| "nothing".to_owned(), |path| format!("no key in {}", path.display()));
        root.problem("keys_file", format!("found {found}, {EXPECTED}"));
        return None;
    }
    Some(ring)
}

fn guard_limits(section: &mut Section<'_>) -> guards::Limits {
    let base = guards::Limits::default();
    guards::Limits {
        max_cpu_percent: section.within("max_cpu_percent", u64::from(base.max_cpu_percent), 1, 100) as u8,
        min_free_ram: section.within("min_free_ram_mib", base.min_free_ram >> 20, 0, 1 << 24) << 20,
    }
}

fn models(root: &mut Section<'_>, environment: Environment<'_>) -> Models {
    let chunk = optional(root, "chunk_tokens", 1, 4096).map(|chunk| chunk as usize);
    // systemd names the folder that it made; of several the first.
    let given = || environment("STATE_DIRECTORY").and_then(|given| Some(PathBuf::from(given.split(':').next()?)));
    let idle_unload = root.or("idle_unload_ms", IDLE_UNLOAD);
    let state = root.take("state_dir").or_else(given);
    Models {
        folder: root.or("models_dir", PathBuf::from(DEFAULT_MODELS)),
        default: root.take("default_model"),
        aliases: root.map("aliases"),
        threads: optional(root, "threads", 1, 512).map(|threads| threads as usize),
        context: optional(root, "context", 64, 1 << 20).map(|context| context as u32),
        engine: engine(root, chunk.unwrap_or(MOST_CHUNK)),
        chunk,
        adapters: root.each("adapter", adapter),
        keep_prefixes: keep_prefixes(root, state.is_some()),
        state,
        idle_unload: (!idle_unload.is_zero()).then_some(idle_unload),
    }
}

fn keep_prefixes(root: &mut Section<'_>, has_state: bool) -> Option<u64> {
    let mib = optional(root, "prefix_disk_mib", 0, 1 << 20).filter(|mib| *mib > 0)?;
    if !has_state {
        root.problem("prefix_disk_mib", format!("found {mib} without a place for it, expected state_dir beside it"));
        return None;
    }
    Some(mib << 20)
}

fn adapter(section: &mut Section<'_>) -> Option<Adapter> {
    let (model, name, path) = (section.required("model"), section.required("name"), section.required("file"));
    let scale = section.or("scale", 1.0);
    if !(-SCALE..=SCALE).contains(&scale) {
        section.problem("scale", format!("found {scale}, expected a number from -{SCALE} to {SCALE}"));
    }
    Some(Adapter { model: model?, file: AdapterFile { name: name?, path: path?, scale: scale as f32 } })
}

/// More than a few times what it was trained for makes noise of every adapter.
const SCALE: f64 = 10.0;

fn engine(root: &mut Section<'_>, chunk_tokens: usize) -> cerebrum_engine::Limits {
    let base = cerebrum_engine::Limits::default();
    cerebrum_engine::Limits {
        slots: root.within("slots", base.slots as u64, 1, 256) as usize,
        queue: root.within("queue", base.queue as u64, 0, 1024) as usize,
        chunk_tokens,
        draft_tokens: root.within("draft_tokens", base.draft_tokens as u64, 0, 256) as usize,
        prefix_bytes: optional(root, "prefix_cache_mib", 0, 1 << 20)
            .map_or_else(|| guards::prefix_cache(guards::total_memory()), |mib| (mib << 20) as usize),
    }
}

fn optional(root: &mut Section<'_>, key: &'static str, low: u64, high: u64) -> Option<u64> {
    let value: u64 = root.take(key)?;
    if (low..=high).contains(&value) {
        return Some(value);
    }
    root.problem(key, format!("found {value}, expected a whole number from {low} to {high}"));
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use cerebrum_common::settings::read_text;

    fn with(text: &str, key: Option<&str>) -> Result<Settings, SettingsError> {
        let environment = |name: &str| (name == "CEREBRUM_API_KEY").then_some(key?.to_owned());
        read_text(text, "test", Path::new("/etc/cerebrum"), |root| convert(root, &environment))
    }

    #[test]
    fn silence_means_the_defaults() {
        let settings = with("insecure = true", Some("k")).unwrap();
        assert_eq!(settings.listen.to_string(), "0.0.0.0:9000");
        assert_eq!(settings.models.folder, Path::new(DEFAULT_MODELS));
        assert_eq!(settings.models.idle_unload, Some(IDLE_UNLOAD));
        assert_eq!(settings.guards, guards::Limits::default());
        assert!(!settings.keys.is_empty());
    }

    #[test]
    fn nobody_may_call_without_a_key_and_nothing_listens_in_the_clear_unasked() {
        let problems: Vec<_> = with("", None).unwrap_err().problems.into_iter().map(|problem| problem.key).collect();
        assert_eq!(problems, ["tls", "keys_file"]);
        assert!(with("listen = \"127.0.0.1:1\"", Some("k")).unwrap().tls.is_none());
    }

    #[test]
    fn prefixes_outlive_the_program_only_where_there_is_a_place_for_them() {
        let kept =
            |text: &str| with(&format!("insecure = true\n{text}"), Some("k")).map(|found| found.models.keep_prefixes);
        assert_eq!(kept("").unwrap(), None);
        assert_eq!(kept("state_dir = \"/s\"\nprefix_disk_mib = 64").unwrap(), Some(64 << 20));
        assert_eq!(kept("state_dir = \"/s\"\nprefix_disk_mib = 0").unwrap(), None);
        assert_eq!(kept("prefix_disk_mib = 64").unwrap_err().problems[0].key, "prefix_disk_mib");
    }

    #[test]
    fn zero_switches_idle_unloading_off() {
        assert_eq!(with("insecure = true\nidle_unload_ms = 0", Some("k")).unwrap().models.idle_unload, None);
    }
}
