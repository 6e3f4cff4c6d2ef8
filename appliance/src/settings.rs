//! The daemon's settings: one strict TOML file, a few variables of the original, converted once into values that cannot
//! be wrong.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cerebrum_board::Wiring;
use cerebrum_common::event_log::Retention;
use cerebrum_common::keyring::Keyring;
use cerebrum_common::keys::{Allowance, Secret};
use cerebrum_common::settings::{Section, SettingsError, environment, read_file, read_text};
use cerebrum_common::tls::{ClientFiles, IdentityFiles, ServerFiles, TlsError};
use cerebrum_common::wire::dialect::openai::Manner;
use cerebrum_common::wire::native::Limits as TokenLimits;
use cerebrum_common::{program, serve};
use cerebrum_prompt::route::{RouteProfile, Rules, TIERS};
use cerebrum_prompt::{LanguageMap, Profile};
use http::Uri;

mod board;

use crate::announce;
use crate::gateway::{admit, cache, cors, kept};
use crate::panel;
use crate::upstream::{breaker, service};

/// Everything the daemon can be told.
#[derive(Debug)]
pub struct Settings {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Who may call.
    pub keys: Arc<Keyring>,
    /// Which web pages may call.
    pub cors: cors::Origins,
    /// Log filter.
    pub log: String,
    /// Connections and bodies.
    pub serve: serve::Limits,
    /// With it, clients speak TLS.
    pub tls: Option<ServerFiles>,
    /// Requests at a time.
    pub admit: admit::Limits,
    /// How long requests in progress may take after a stop.
    pub drain: Duration,
    /// Bounds of `max_tokens`.
    pub tokens: TokenLimits,
    /// How prompts are prepared.
    pub prompt: cerebrum_prompt::Settings,
    /// Which model answers.
    pub rules: Rules,
    /// Deadlines of answers.
    pub stream: Stream,
    /// Answers that outlive their client's connection.
    pub keep: Retention,
    /// Answers that would come out the same again.
    pub cache: cache::Settings,
    /// The name by which the local network finds the appliance; none where it does not announce itself.
    pub announce: Option<announce::Settings>,
    /// Lamps, panel and buttons.
    pub board: panel::Settings,
    /// Inference servers, preferred first; at least one.
    pub upstreams: Vec<Upstream>,
}

/// Deadlines of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Silence after which a stream gets a comment.
    pub heartbeat: Duration,
    /// Silence of the upstream that counts as its death.
    pub idle: Duration,
    /// For the whole answer.
    pub total: Duration,
}

/// One inference server.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// For logs and status.
    pub name: String,
    /// `https://host:port` or `http://host:port`.
    pub url: Uri,
    /// The key it wants.
    pub key: Option<Secret>,
    /// For `https`, to a server of ours.
    pub tls: Option<ClientFiles>,
    /// With it, the upstream is no server of ours but one that speaks OpenAI's calls.
    pub service: Option<service::Settings>,
    /// Lower goes first.
    pub priority: u64,
    /// Its share of the requests among those of equal priority.
    pub weight: i64,
    /// It is the last resort, on this machine.
    pub local: bool,
    /// When its breaker opens.
    pub breaker: breaker::Policy,
}

impl program::Settings for Settings {
    // The file's words come after the variables of the original (`VPS_ENDPOINT`, `VPS_API_KEY`, `CEREBRUM_HOST`, `CEREBRUM_PORT`).
    fn read(path: &Path) -> Result<Self, SettingsError> {
        read_file(path, |root| settings(root, &environment))
    }

    fn log(&self) -> &str {
        &self.log
    }

    fn tls_files(&self) -> Vec<Result<(), TlsError>> {
        let own = self.tls.iter().map(program::usable);
        let theirs = self.upstreams.iter().filter_map(|upstream| upstream.tls.as_ref()).map(program::usable);
        own.chain(theirs).collect()
    }
}

impl Settings {
    /// As [`program::Settings::read`], from text and without the environment; relative paths start at `base`.
    ///
    /// # Errors
    /// Everything wrong, together.
    pub fn from_text(text: &str, origin: &str, base: &Path) -> Result<Self, SettingsError> {
        read_text(text, origin, base, |root| settings(root, &|_| None))
    }

    /// The wiring alone, where everything else may be wrong: what `[board]` says if that much is right, else a board's own.
    pub fn wiring(path: &Path) -> Option<Wiring> {
        let table = std::fs::read_to_string(path).ok().and_then(|text| text.parse::<toml::Table>().ok());
        let board = table.unwrap_or_default().remove("board").unwrap_or_else(|| toml::Table::new().into());
        let alone = toml::Table::from_iter([("board".to_owned(), board)]).to_string();
        let read = |root: &mut Section<'_>| Some(root.section("board", |section| board::read(section, String::new())));
        let settings = read_text(&alone, &path.display().to_string(), Path::new("."), read);
        settings.map_or_else(|_| Some(Wiring::default()), |settings| settings.wiring)
    }
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

fn settings(root: &mut Section<'_>, environment: Environment<'_>) -> Option<Settings> {
    let listen = listen(root, environment);
    let log = root.or("log", "info".to_owned());
    let (serve, admit, drain) = root.section("limits", limits);
    let tls = root.optional("tls", ServerFiles::read).flatten();
    let keys = keys(root, listen, tls.is_some()).map(Arc::new);
    let cors = root.section("cors", |section| section.or("origins", cors::Origins::Nobody));
    let tokens = root.section("generation", TokenLimits::read);
    let prompt = cerebrum_prompt::Settings { profile: root.section("prepare", profile) };
    let rules = root.section("models", rules);
    let stream = root.section("stream", stream);
    let keep = root.section("resume", |section| Retention::read(section, kept::RETENTION));
    let cache = root.section("cache", caching);
    let breaker = root.section("breaker", breaker_policy);
    let name = root.or("name", "cerebrum.local".to_owned());
    let announce = root.section("mdns", |section| announce(section, &name, listen));
    let board = root.section("board", |section| board::read(section, name));
    let upstreams = upstreams(root, breaker, environment);
    Some(Settings {
        listen,
        keys: keys?,
        cors,
        log,
        serve,
        tls,
        admit,
        drain,
        tokens,
        prompt,
        rules,
        stream,
        keep,
        cache,
        announce,
        board,
        upstreams: upstreams?,
    })
}

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 7000);

fn listen(root: &mut Section<'_>, environment: Environment<'_>) -> SocketAddr {
    let mut listen: SocketAddr = root.or("listen", DEFAULT_LISTEN);
    if let Some(host) = environment("CEREBRUM_HOST") {
        match host.parse() {
            Ok(address) => listen.set_ip(address),
            Err(_) => root.problem("CEREBRUM_HOST", format!("found {host:?}, expected an IP address")),
        }
    }
    if let Some(port) = environment("CEREBRUM_PORT") {
        match port.parse() {
            Ok(port) => listen.set_port(port),
            Err(_) => root.problem("CEREBRUM_PORT", format!("found {port:?}, expected a port number")),
        }
    }
    listen
}

/// On where anybody could come; the name is what the panel shows, if that is a name of the local network.
fn announce(section: &mut Section<'_>, shown: &str, listen: SocketAddr) -> Option<announce::Settings> {
    let label = |name: &str| {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        plain && (1..=63).contains(&name.len()) && !name.starts_with('-') && !name.ends_with('-')
    };
    let usual = shown.strip_suffix(".local").filter(|name| label(name)).unwrap_or("cerebrum");
    let on = section.or("enabled", !listen.ip().is_loopback());
    let name = section.or("name", usual.to_owned());
    if !label(&name) {
        let expected = "1 to 63 letters, digits and hyphens (it answers to NAME.local)";
        section.problem("name", format!("found {name:?}, expected {expected}"));
    }
    on.then_some(announce::Settings { name })
}

fn limits(section: &mut Section<'_>) -> (serve::Limits, admit::Limits, Duration) {
    let base = admit::Limits::default();
    let admit = admit::Limits {
        in_progress: section.within("max_in_progress", base.in_progress as u64, 1, 4096) as usize,
        queue: section.within("queue", base.queue as u64, 0, 1024) as usize,
        queue_wait: section.or("queue_wait_ms", base.queue_wait),
        per_key: section.section("per_key", allowance),
    };
    (serve::Limits::read(section), admit, section.or("drain_ms", Duration::from_secs(30)))
}

fn allowance(section: &mut Section<'_>) -> Allowance {
    let mut some = |key| section.take::<u64>(key).map(|found| (key, found));
    let given = [some("in_progress"), some("requests_per_minute"), some("tokens_per_minute")];
    let [in_progress, requests_per_minute, tokens_per_minute] = given.map(|given| {
        let (key, found) = given?;
        let allowed = u32::try_from(found).ok().filter(|&allowed| allowed > 0);
        if allowed.is_none() {
            section.problem(key, format!("found {found}, expected a whole number from 1 to {}", u32::MAX));
        }
        allowed
    });
    Allowance { in_progress, requests_per_minute, tokens_per_minute }
}

/// Open only where said, and only on loopback: a forgotten line must not open a box to a whole network.
fn keys(root: &mut Section<'_>, listen: SocketAddr, tls: bool) -> Option<Keyring> {
    let open = root.choice("auth", false, &[("open", true), ("keys", false)]);
    let path: Option<PathBuf> = root.take("keys_file");
    if open {
        if !listen.ip().is_loopback() && !root.or("open_to_network", false) {
            root.problem(
                "auth",
                format!("found \"open\" while listening on {listen}, expected \"keys\" (or open_to_network = true, to let everybody in)"),
            );
        }
        return Some(Keyring::open());
    }
    root.or("open_to_network", tls);
    let Some(path) = path else {
        root.problem(
            "keys_file",
            "found nothing, expected the path of the key file (or auth = \"open\" on loopback)".into(),
        );
        return None;
    };
    Keyring::new(Some(path), Vec::new()).inspect_err(|error| root.problem("keys_file", error.to_string())).ok()
}

fn profile(section: &mut Section<'_>) -> Profile {
    let words = [Profile::Off, Profile::Classic, Profile::Smart].map(|profile| (profile.as_str(), profile));
    section.choice("profile", Profile::Smart, &words)
}

fn rules(section: &mut Section<'_>) -> Rules {
    let base = Rules::default();
    let words = [RouteProfile::Compatible, RouteProfile::Quality, RouteProfile::Size];
    let tiers = section.map::<String>("tiers");
    if let Some(name) = tiers.keys().find(|name| TIERS.iter().all(|tier| tier.name != name.as_str())) {
        let known = TIERS.map(|tier| tier.name).join(" or ");
        section.problem("tiers", format!("found {name:?}, expected {known}"));
    }
    Rules {
        languages: models(section),
        profile: section.choice("profile", base.profile, &words.map(|profile| (profile.as_str(), profile))),
        quality_model: section.or("quality", base.quality_model),
        small_model: section.or("small", base.small_model),
        tiers,
        knows_no_think: section.or("no_think", base.knows_no_think),
        change_after: section.within("change_after", base.change_after.into(), 1, 100) as u8,
    }
}

/// The original's map, with entries and default of the file on top.
fn models(section: &mut Section<'_>) -> LanguageMap {
    let original = LanguageMap::default();
    let default = section.or("default", original.default_model().to_owned());
    let given = section.map::<String>("languages");
    let kept = original.entries().map(|(language, model)| (language.to_owned(), model.to_owned()));
    LanguageMap::new(kept.chain(given), default)
}

fn stream(section: &mut Section<'_>) -> Stream {
    Stream {
        heartbeat: section.time("heartbeat_ms", Duration::from_secs(5)),
        idle: section.time("idle_ms", Duration::from_secs(120)),
        total: section.time("total_ms", Duration::from_secs(3600)),
    }
}

fn caching(section: &mut Section<'_>) -> cache::Settings {
    let base = cache::Settings::default();
    let kib = section.within("kib", (base.bytes >> 10) as u64, 0, 1 << 20) as usize;
    cache::Settings { bytes: kib << 10, age: section.time("age_ms", base.age) }
}

fn breaker_policy(section: &mut Section<'_>) -> breaker::Policy {
    let base = breaker::Policy::default();
    breaker::Policy {
        failures: section.within("failures", base.failures.into(), 1, 1000) as u32,
        cooldown: section.time("cooldown_ms", base.cooldown),
        cooldown_max: section.time("cooldown_max_ms", base.cooldown_max),
    }
}

fn upstreams(root: &mut Section<'_>, breaker: breaker::Policy, environment: Environment<'_>) -> Option<Vec<Upstream>> {
    let mut listed = 0;
    let mut upstreams = root.each("upstream", |section| {
        listed += 1;
        upstream(section, breaker)
    });
    let complete = upstreams.len() == listed;
    if let Some(endpoint) = environment("VPS_ENDPOINT") {
        match (endpoint.parse::<Uri>(), upstreams.first_mut()) {
            (Ok(url), Some(first)) => first.url = url,
            (Ok(url), None) => upstreams.push(bare_upstream(url, breaker)),
            (Err(error), _) => root.problem("VPS_ENDPOINT", format!("found {endpoint:?} ({error}), expected a URL")),
        }
    }
    if let (Some(key), Some(first)) = (environment("VPS_API_KEY"), upstreams.first_mut()) {
        first.key = Some(Secret::new(key));
    }
    if upstreams.is_empty() && listed == 0 {
        root.problem("upstream", "found none, expected at least one [[upstream]] with a url".into());
    }
    upstreams.sort_by_key(|upstream| (upstream.local, upstream.priority));
    (complete && !upstreams.is_empty()).then_some(upstreams)
}

fn bare_upstream(url: Uri, breaker: breaker::Policy) -> Upstream {
    Upstream {
        name: "vps".into(),
        url,
        key: None,
        tls: None,
        service: None,
        priority: 0,
        weight: 1,
        local: false,
        breaker,
    }
}

fn upstream(section: &mut Section<'_>, breaker: breaker::Policy) -> Option<Upstream> {
    let name = section.or("name", "vps".to_owned());
    let priority = section.or("priority", 0);
    let weight = section.within("weight", 1, 1, 1000) as i64;
    let local = section.or("local", false);
    let key = key(section);
    let service = section.choice("kind", false, &[("cerebrum", false), ("openai", true)]).then(|| service(section));
    let tls = if service.is_some() { None } else { client_tls(section) };
    let url = url(section, tls.is_some() || service.is_some())?;
    Some(Upstream { name, url, key, tls, service, priority, weight, local, breaker })
}

fn service(section: &mut Section<'_>) -> service::Settings {
    service::Settings {
        ca: section.take("ca"),
        models: section.map("models"),
        manner: Manner { chats_only: section.or("chats_only", false), strict: section.or("strict", false) },
    }
}

fn url(section: &mut Section<'_>, has_ca: bool) -> Option<Uri> {
    let text: String = section.required("url")?;
    let expected = "expected https://host:port (or http:// on a trusted link)";
    match text.parse::<Uri>() {
        Ok(url) if url.host().is_none() => section.problem("url", format!("found {text:?}, {expected}")),
        Ok(url) if url.scheme_str() == Some("https") && !has_ca => {
            section.problem("ca", "found nothing, expected the server's CA (cerebrum-server pki makes one)".into());
        }
        Ok(url) if matches!(url.scheme_str(), Some("https" | "http")) => return Some(url),
        _ => section.problem("url", format!("found {text:?}, {expected}")),
    }
    None
}

fn client_tls(section: &mut Section<'_>) -> Option<ClientFiles> {
    let ca: Option<PathBuf> = section.take("ca");
    let certificate: Option<PathBuf> = section.take("certificate");
    let key: Option<PathBuf> = section.take("key");
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(IdentityFiles { certificate, key }),
        (None, None) => None,
        (Some(_), None) => return missing(section, "key", "the private key that belongs to certificate"),
        (None, Some(_)) => return missing(section, "certificate", "the certificate that belongs to key"),
    };
    ca.map(|ca| ClientFiles { ca, identity })
}

fn missing<T>(section: &Section<'_>, key: &str, expected: &str) -> Option<T> {
    section.problem(key, format!("found nothing, expected {expected}"));
    None
}

fn key(section: &mut Section<'_>) -> Option<Secret> {
    let path: PathBuf = section.take("key_file")?;
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Some(Secret::new(text.trim())),
        Ok(_) => section.problem("key_file", format!("found an empty file {}, expected a key", path.display())),
        Err(error) => section.problem("key_file", format!("{}: {error}", path.display())),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str, environment: Environment<'_>) -> Result<Settings, SettingsError> {
        read_text(text, "test", Path::new("/"), |root| settings(root, environment))
    }

    const MINIMAL: &str = "auth = \"open\"\nlisten = \"127.0.0.1:7000\"\n";

    #[test]
    fn the_originals_variables_go_first() {
        let environment = |name: &str| match name {
            "VPS_ENDPOINT" => Some("http://10.0.0.9:9000".to_owned()),
            "VPS_API_KEY" => Some("k".to_owned()),
            "CEREBRUM_HOST" => Some("127.0.0.2".to_owned()),
            "CEREBRUM_PORT" => Some("7001".to_owned()),
            _ => None,
        };
        let settings = with(MINIMAL, &environment).unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.2:7001");
        assert_eq!(settings.upstreams[0].url.to_string(), "http://10.0.0.9:9000/");
        assert!(settings.upstreams[0].key.is_some());
        assert_eq!(settings.rules.languages.model_for(Some("rust")), "codellama_7b");
    }

    #[test]
    fn the_network_hears_of_who_listens_to_it() {
        let told = |listen: &str, more: &str| {
            let text = format!("auth = 'open'\n{listen}\n{more}\n[[upstream]]\nurl = 'http://a'");
            with(&text, &|_| None).map(|settings| settings.announce.map(|announce| announce.name))
        };
        let anywhere = |more: &str| told("open_to_network = true", more);
        assert_eq!(told("listen = '127.0.0.1:7000'", "").unwrap(), None);
        assert_eq!(told("listen = '127.0.0.1:7000'", "[mdns]\nenabled = true").unwrap().as_deref(), Some("cerebrum"));
        assert_eq!(anywhere("").unwrap().as_deref(), Some("cerebrum"));
        assert_eq!(anywhere("name = 'studio.local'").unwrap().as_deref(), Some("studio"));
        assert_eq!(anywhere("name = 'The box'").unwrap().as_deref(), Some("cerebrum"));
        assert_eq!(anywhere("[mdns]\nenabled = false").unwrap(), None);
        assert_eq!(anywhere("[mdns]\nname = 'attic'").unwrap().as_deref(), Some("attic"));
        assert_eq!(anywhere("[mdns]\nname = 'a.b'").unwrap_err().problems[0].key, "mdns.name");
    }

    #[test]
    fn upstreams_are_ordered_by_priority() {
        let text = format!(
            "{MINIMAL}[[upstream]]\nname='b'\nurl='http://b'\npriority=2\n[[upstream]]\nname='a'\nurl='http://a'\npriority=1"
        );
        let names: Vec<_> =
            with(&text, &|_| None).unwrap().upstreams.into_iter().map(|upstream| upstream.name).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
