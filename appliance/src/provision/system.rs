//! The tables of `cerebrum.toml` that only the image knows, checked value by value.
//!
//! What is read here goes into other programs' settings files, line by line: nothing passes that could begin a new line there.

use std::net::IpAddr;
use std::path::Path;

use cerebrum_common::settings::{Problem, Section, Setting, read_text};
use toml::Value;

/// What the image is told; every part that was right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct System {
    /// The name without a domain.
    pub(super) name: String,
    /// Who may send prompts.
    pub(super) clients: Vec<Client>,
    /// The cable; DHCP when absent.
    pub(super) network: Option<Network>,
    pub(super) wifi: Option<Wifi>,
    /// Lines of authorized_keys; no SSH when empty.
    pub(super) ssh_keys: Vec<String>,
    /// Time servers; Debian's when empty.
    pub(super) time_servers: Vec<String>,
    pub(super) wireguard: Option<Wireguard>,
    /// The system's log outlives a start.
    pub(super) keeps_logs: bool,
    /// The port of the HTTP interface, for the firewall and for what the network is told.
    pub(super) port: Option<u16>,
    /// That interface speaks TLS.
    pub(super) tls: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) name: String,
    pub(super) key: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) address: Prefix,
    pub(super) gateway: Option<IpAddr>,
    pub(super) dns: Vec<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wifi {
    pub(super) country: String,
    pub(super) ssid: String,
    pub(super) passphrase: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wireguard {
    pub(super) private_key: String,
    pub(super) address: Prefix,
    pub(super) peer_public_key: String,
    pub(super) endpoint: String,
    pub(super) allowed_ips: Vec<Prefix>,
    pub(super) keepalive_seconds: u64,
}

/// An address with the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    pub(super) address: IpAddr,
    pub(super) length: u8,
}

impl Prefix {
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let (address, length): (IpAddr, u8) = (address.parse().ok()?, length.parse().ok()?);
        (length <= if address.is_ipv4() { 32 } else { 128 }).then_some(Self { address, length })
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl Setting for Prefix {
    const EXPECTED: &'static str = "an address with its prefix, such as \"192.168.1.20/24\"";

    fn read(value: &Value, _: &Path) -> Option<Self> {
        Self::parse(value.as_str()?)
    }
}

/// A key that WireGuard's tools print: 32 bytes in Base64.
struct WireguardKey(String);

impl Setting for WireguardKey {
    const EXPECTED: &'static str = "a WireGuard key, 44 characters that end in =";

    fn read(value: &Value, _: &Path) -> Option<Self> {
        let text = value.as_str()?;
        (text.len() == 44 && text.ends_with('=') && base64(&text[..43])).then(|| Self(text.to_owned()))
    }
}

/// The keys that this module takes out of the file.
const OWN: [&str; 7] = ["client", "network", "wifi", "ssh", "time", "wireguard", "logs"];

/// Takes the image's tables out of the file's; returns what they say, and what is wrong with them.
pub(super) fn take(table: &mut toml::Table, boot: &Path) -> (System, Vec<Problem>) {
    let mut own: toml::Table = OWN.iter().filter_map(|key| Some(((*key).to_owned(), table.remove(*key)?))).collect();
    if let Some(name) = table.remove("name") {
        own.insert("name".to_owned(), name);
    }
    let port =
        table.get("listen").and_then(Value::as_str).and_then(|listen| listen.parse::<std::net::SocketAddr>().ok());
    let mut system = System {
        name: "cerebrum".to_owned(),
        port: port.map(|address| address.port()),
        tls: table.contains_key("tls"),
        ..System::default()
    };
    let read = read_text(&own.to_string(), super::FILE, boot, |root| {
        read_into(&mut system, root);
        Some(())
    });
    let problems = read.err().map(|error| error.problems).unwrap_or_default();
    (system, problems.into_iter().map(masked).collect())
}

/// What may be a secret is not shown: the file of errors can be read by anybody who holds the card, and the panel is seen.
fn masked(problem: Problem) -> Problem {
    let secret = ["passphrase", "private_key", "key"].contains(&problem.key.rsplit('.').next().unwrap_or_default());
    match problem.sentence.split_once(", expected ") {
        // How long it is says enough, and no more.
        Some((found, expected)) if secret && !found.ends_with(" characters") => {
            Problem { sentence: format!("found something else, expected {expected}"), ..problem }
        }
        _ => problem,
    }
}

fn read_into(system: &mut System, root: &mut Section<'_>) {
    if let Some(name) = checked(root, "name", "letters, digits and hyphens, at most 63", host_label) {
        system.name = name.trim_end_matches(".local").to_owned();
    }
    system.clients = root.each("client", client);
    system.network = root.optional("network", network).flatten();
    system.wifi = root.optional("wifi", wifi).flatten();
    system.ssh_keys = root.section("ssh", |section| {
        list(section, "authorized_keys", "a public key such as \"ssh-ed25519 AAAA... you\"", public_key)
    });
    system.time_servers = root.section("time", |section| list(section, "servers", "a host name or address", host));
    system.wireguard = root.optional("wireguard", wireguard).flatten();
    system.keeps_logs = root.section("logs", |section| section.or("keep", false));
}

fn client(section: &mut Section<'_>) -> Option<Client> {
    let name = section.required::<String>("name");
    let key: String = section.required("key")?;
    if key.len() < 20 || !key.chars().all(|character| character.is_ascii_graphic()) {
        section
            .problem("key", format!("found {} characters, expected 20 or more, without spaces", key.chars().count()));
        return None;
    }
    let name = name?;
    if name.is_empty() || name.chars().any(char::is_control) {
        section.problem("name", format!("found {name:?}, expected a name without control characters"));
        return None;
    }
    Some(Client { name, key })
}

fn network(section: &mut Section<'_>) -> Option<Network> {
    let address: Option<Prefix> = section.required("address");
    let gateway = address_of(section, "gateway");
    let dns = list(section, "dns", "an address", |text| text.parse::<IpAddr>().is_ok());
    Some(Network { address: address?, gateway, dns: dns.iter().filter_map(|text| text.parse().ok()).collect() })
}

fn address_of(section: &mut Section<'_>, key: &'static str) -> Option<IpAddr> {
    checked(section, key, "an address", |text| text.parse::<IpAddr>().is_ok())?.parse().ok()
}

fn wifi(section: &mut Section<'_>) -> Option<Wifi> {
    // Where a channel may be used is the country's law: guessing could break it.
    let country = needed(section, "country", "two capital letters, such as \"DE\"", |text| {
        text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase())
    });
    let ssid = needed(section, "ssid", "1 to 32 bytes", |text| (1..=32).contains(&text.len()));
    let passphrase = needed(section, "passphrase", "8 to 63 characters of ASCII", |text| {
        (8..=63).contains(&text.len()) && text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
    });
    Some(Wifi { country: country?, ssid: ssid?, passphrase: passphrase? })
}

fn wireguard(section: &mut Section<'_>) -> Option<Wireguard> {
    let private_key = section.required::<WireguardKey>("private_key");
    let address = section.required("address");
    let peer_public_key = section.required::<WireguardKey>("peer_public_key");
    let endpoint = needed(section, "endpoint", "host:port", |text| {
        text.rsplit_once(':')
            .is_some_and(|(name, port)| host(name.trim_matches(['[', ']'])) && port.parse::<u16>().is_ok())
    });
    let allowed = list(section, "allowed_ips", Prefix::EXPECTED, |text| Prefix::parse(text).is_some());
    let keepalive_seconds = section.within("keepalive_seconds", 25, 0, 65_535);
    Some(Wireguard {
        private_key: private_key?.0,
        address: address?,
        peer_public_key: peer_public_key?.0,
        endpoint: endpoint?,
        allowed_ips: allowed.iter().filter_map(|text| Prefix::parse(text)).collect(),
        keepalive_seconds,
    })
}

/// A string that satisfies `right` and must be there.
fn needed(
    section: &mut Section<'_>,
    key: &'static str,
    expected: &str,
    right: impl Fn(&str) -> bool,
) -> Option<String> {
    let text = section.required(key)?;
    judged(section, key, expected, right, text)
}

/// A string that satisfies `right`; a wrong one is a problem, a missing one is not.
fn checked(
    section: &mut Section<'_>,
    key: &'static str,
    expected: &str,
    right: impl Fn(&str) -> bool,
) -> Option<String> {
    let text = section.take(key)?;
    judged(section, key, expected, right, text)
}

fn judged(
    section: &Section<'_>,
    key: &str,
    expected: &str,
    right: impl Fn(&str) -> bool,
    text: String,
) -> Option<String> {
    if right(&text) {
        return Some(text);
    }
    let found = if key == "passphrase" { format!("{} characters", text.chars().count()) } else { format!("{text:?}") };
    section.problem(key, format!("found {found}, expected {expected}"));
    None
}

fn list(section: &mut Section<'_>, key: &'static str, expected: &str, right: impl Fn(&str) -> bool) -> Vec<String> {
    let all: Vec<String> = section.or(key, Vec::new());
    let (good, bad): (Vec<String>, Vec<String>) = all.into_iter().partition(|text| right(text));
    for text in bad {
        section.problem(key, format!("found {text:?}, expected {expected}"));
    }
    good
}

fn host_label(text: &str) -> bool {
    let text = text.strip_suffix(".local").unwrap_or(text);
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
        || (!text.is_empty()
            && text.len() <= 253
            && text.split('.').all(|label| label.len() <= 63 && host_label(label)))
}

fn public_key(text: &str) -> bool {
    let mut words = text.split(' ');
    let kind = words.next().unwrap_or_default();
    let known = ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"];
    known.contains(&kind)
        && words.next().is_some_and(|key| key.len() >= 32 && base64(key.trim_end_matches('=')))
        && !text.chars().any(char::is_control)
}

fn base64(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}
