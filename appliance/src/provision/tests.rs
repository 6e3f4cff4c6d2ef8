use std::fs;

use cerebrum_common::keyring::Keyring;
use cerebrum_common::pki::{Authority, IDENTITY_DAYS, Role};

use super::*;

/// A machine's places in a folder, with identities and a key on the boot partition.
struct Machine {
    _folder: tempfile::TempDir,
    places: Places,
}

const GOOD: &str = r#"
name = "studio"
[[upstream]]
url = "https://vps.example.org:9000"
key_file = "vps.key"
ca = "ca.pem"
certificate = "appliance.pem"
key = "appliance.key"
[[client]]
name = "laptop"
key = "a-key-of-my-own-choice-1"
[network]
address = "192.168.1.20/24"
gateway = "192.168.1.1"
dns = ["192.168.1.1", "2001:db8::1"]
[wifi]
country = "DE"
ssid = "my \"home\""
passphrase = "secret words"
[ssh]
authorized_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0000000000000000000000000000000000000000000 me@laptop"]
[time]
servers = ["ntp.example.org", "192.0.2.1"]
[wireguard]
private_key = "YAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
address = "10.9.0.2/32"
peer_public_key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
endpoint = "vps.example.org:51820"
allowed_ips = ["10.9.0.1/32"]
"#;

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(&path).unwrap();
            path
        };
        let places = Places { boot: place("boot"), data: place("data"), run: place("run") };
        fs::create_dir_all(places.data.join("cerebrum")).unwrap();
        let authority = Authority::new().unwrap();
        fs::write(places.boot.join("ca.pem"), authority.certificate_pem()).unwrap();
        let identity = authority.issue("appliance", Role::Client, &[], IDENTITY_DAYS).unwrap();
        identity.save(&places.boot, "appliance").unwrap();
        fs::write(places.boot.join("vps.key"), "cbr_0123456789\r\n").unwrap();
        Self { _folder: folder, places }
    }

    fn with(&self, text: &str) -> Vec<String> {
        fs::write(self.places.boot.join(FILE), text).unwrap();
        provision(&self.places).unwrap().iter().map(ToString::to_string).collect()
    }

    fn run(&self, path: &str) -> String {
        fs::read_to_string(self.places.run.join(path)).unwrap()
    }

    fn errors(&self) -> Option<String> {
        fs::read_to_string(self.places.boot.join(ERRORS)).ok()
    }
}

#[test]
fn a_right_file_becomes_everybodys_settings() {
    let machine = Machine::new();
    assert_eq!(machine.with(GOOD), Vec::<String>::new());
    assert!(machine.places.run.join("cerebrum/provisioned").exists() && machine.errors().is_none());
    assert_eq!(machine.run("cerebrum/hostname"), "studio\n");
    let network = machine.run("systemd/network/10-cerebrum.network");
    assert!(network.contains("Address=192.168.1.20/24\n") && network.contains("DNS=2001:db8::1\n"), "{network}");
    assert!(machine.run("cerebrum/wpa_supplicant.conf").contains("ssid=6d792022686f6d6522\n\tpsk=\"secret words\"\n"));
    assert!(machine.run("cerebrum/ssh/authorized_keys").starts_with("ssh-ed25519 AAAA"));
    assert_eq!(machine.run("cerebrum/firewall/22.nft"), "tcp dport 22 accept\n");
    assert_eq!(machine.run("systemd/timesyncd.conf.d/cerebrum.conf"), "[Time]\nNTP=ntp.example.org 192.0.2.1\n");
    assert_eq!(
        machine.run("systemd/dnssd/cerebrum.dnssd"),
        "[Service]\nName=studio\nType=_http._tcp\nPort=7000\nTxtText=path=/\n"
    );
    let tunnel = machine.run("systemd/network/20-wireguard.netdev");
    assert!(tunnel.contains("Endpoint=vps.example.org:51820\n") && !tunnel.contains("YAnz5"), "{tunnel}");
    assert!(!machine.places.run.join("cerebrum/keep-logs").exists(), "logs stay in memory unless asked otherwise");
    assert_eq!(machine.with(&format!("{GOOD}[logs]\nkeep = true\n")), Vec::<String>::new());
    assert_eq!(machine.run("cerebrum/keep-logs"), "");
}

#[test]
fn the_daemon_gets_its_settings_and_systemd_its_secrets() {
    let machine = Machine::new();
    machine.with(GOOD);
    let daemon: toml::Table = machine.run("cerebrum/cerebrum.toml").parse().unwrap();
    assert_eq!(daemon["name"].as_str(), Some("studio.local"));
    assert_eq!(daemon["upstream"][0]["key_file"].as_str(), Some("/run/credentials/cerebrumd.service/secret_vps.key"));
    assert_eq!(daemon["mdns"]["enabled"].as_bool(), Some(false), "one responder is enough");
    assert_eq!(daemon["board"]["power_off"][1].as_str(), Some("/run/cerebrumd/power-off"));
    assert_eq!(daemon["board"]["apply_update"][1].as_str(), Some("/run/cerebrumd/update"));
    assert!(!daemon.contains_key("wifi"));
    assert_eq!(machine.run("cerebrum/secrets/vps.key"), "cbr_0123456789\r\n");
    let ring = Keyring::new(Some(machine.places.keys()), Vec::new()).unwrap();
    let mut headers = http::HeaderMap::new();
    headers.insert("x-api-key", "a-key-of-my-own-choice-1".parse().unwrap());
    assert_eq!(&*ring.authenticate(&headers).unwrap().name, "laptop");
}

#[test]
fn every_problem_is_told_beside_the_file_and_to_the_panel_until_it_is_mended() {
    let machine = Machine::new();
    let wrong = GOOD
        .replace("\"studio\"", "\"my studio\"")
        .replace("192.168.1.20/24", "192.168.1.20")
        .replace("secret words", "short")
        .replace("ca.pem", "missing.pem")
        .replace("[time]\nservers", "[time]\nserver");
    let problems = machine.with(&wrong);
    let expected = [
        "name: found \"my studio\", expected letters, digits and hyphens, at most 63",
        "network.address: found \"192.168.1.20\", expected an address with its prefix, such as \"192.168.1.20/24\"",
        "wifi.passphrase: found 5 characters, expected 8 to 63 characters of ASCII",
        "time.server: found an unknown key, expected \"servers\" perhaps",
    ];
    for sentence in expected {
        assert!(problems.iter().any(|problem| problem == sentence), "{sentence} is not in {problems:?}");
    }
    assert!(problems.iter().any(|problem| problem.contains("missing.pem")), "{problems:?}");
    let beside = machine.errors().unwrap();
    assert!(expected.iter().all(|sentence| beside.contains(&format!("{sentence}\r\n"))), "{beside}");
    assert!(machine.run("cerebrum/problem.txt").contains("my studio"));
    assert!(!machine.places.run.join("cerebrum/provisioned").exists());
    // What was right counts: a person can still log in.
    assert!(machine.run("cerebrum/ssh/authorized_keys").starts_with("ssh-ed25519"));

    fs::remove_dir_all(&machine.places.run).unwrap();
    assert!(machine.with(GOOD).is_empty() && machine.errors().is_none());
}

#[test]
fn no_secret_is_shown() {
    let machine = Machine::new();
    let private = "YAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
    let cases = [
        (private, &private[..43]),
        ("\"secret words\"", "12345678"),
        ("\"secret words\"", "\"secret words"),
        ("\"a-key-of-my-own-choice-1\"", "\"a key of mine\""),
    ];
    for (right, wrong) in cases {
        let told = machine.with(&GOOD.replace(right, wrong)).join("\n") + &machine.errors().unwrap();
        assert!(!["YAnz", "12345678", "secret words", "a key of"].iter().any(|secret| told.contains(secret)), "{told}");
    }
    let problems = machine.with("listen = \"0.0.0.0:7000\"\nname = = 3\n");
    assert!(problems[0].starts_with("syntax: line 2, column 8: "), "{problems:?}");
}

#[test]
fn a_file_of_keys_that_cannot_be_read_is_told() {
    let machine = Machine::new();
    fs::write(machine.places.keys(), "x = =").unwrap();
    let problems = machine.with(GOOD);
    assert!(problems[0].starts_with("client keys: found ") && problems[0].contains("factory reset"), "{problems:?}");
    assert!(machine.run("cerebrum/problem.txt").contains("client keys"));
}

#[test]
fn settings_that_a_healthy_system_took_are_known_again() {
    let machine = Machine::new();
    fs::create_dir_all(machine.places.data.join("system")).unwrap();
    machine.with("listen = 7");
    remember(&machine.places).unwrap();
    assert!(!were_right(&machine.places), "nobody took these");
    machine.with(GOOD);
    assert!(!were_right(&machine.places));
    remember(&machine.places).unwrap();
    assert!(were_right(&machine.places));
    fs::write(machine.places.boot.join(FILE), GOOD.replace("studio", "my studio")).unwrap();
    assert!(!were_right(&machine.places), "a person has written since");
}

#[test]
fn a_daemons_setting_that_is_wrong_is_told_in_the_daemons_words() {
    let machine = Machine::new();
    let problems = machine.with(&GOOD.replace("url = \"https://vps.example.org:9000\"", "url = 7"));
    assert_eq!(problems, ["upstream[0].url: found 7, expected a string"]);
}

#[test]
fn the_panels_wiring_is_known_though_the_rest_is_wrong() {
    let machine = Machine::new();
    let own =
        format!("{}\n[board.lamps]\nready = 4\n", GOOD.replace("url = \"https://vps.example.org:9000\"", "url = 7"));
    assert_eq!(machine.with(&own).len(), 1);
    let wiring = |path: &Path| crate::settings::Settings::wiring(path).unwrap();
    assert_eq!(wiring(&machine.places.run.join("cerebrum/board.toml")).lamps[0], 4);
    let away = wiring(&machine.places.run.join("cerebrum/no-such-file.toml"));
    assert_eq!(away, cerebrum_board::Wiring::default());
    machine.with(&own.replace("ready = 4", "ready = 4000"));
    assert_eq!(wiring(&machine.places.run.join("cerebrum/board.toml")), away);
    machine.with(&format!("{GOOD}\n[board]\nbackend = \"off\"\n"));
    assert!(crate::settings::Settings::wiring(&machine.places.run.join("cerebrum/board.toml")).is_none());
}

#[test]
fn a_client_that_the_file_names_no_more_may_call_no_more() {
    let machine = Machine::new();
    machine.with(&format!("{GOOD}\n[[client]]\nname = \"tablet\"\nkey = \"a-key-of-my-own-choice-2\"\n"));
    let mut paired = KeyFile::read(&machine.places.keys()).unwrap();
    paired.add("phone");
    paired.write(&machine.places.keys()).unwrap();
    let names = || -> Vec<String> {
        KeyFile::read(&machine.places.keys()).unwrap().keys.into_iter().map(|key| key.name).collect()
    };
    machine.with(&format!("{GOOD}\n[[client]]\nname = \"tablet\"\nkey = \"a-key-of-my-own-choice-2\"\n"));
    assert_eq!(names(), ["laptop", "tablet", "phone"]);
    machine.with(GOOD);
    assert_eq!(names(), ["laptop", "phone"], "who was paired stays");
    machine.with(GOOD);
    assert_eq!(names(), ["laptop", "phone"]);
}

#[test]
fn the_same_key_under_another_name_is_known_by_that() {
    let machine = Machine::new();
    machine.with(GOOD);
    machine.with(&GOOD.replace("\"laptop\"", "\"notebook\""));
    let keys = KeyFile::read(&machine.places.keys()).unwrap().keys;
    assert_eq!(keys.into_iter().map(|key| key.name).collect::<Vec<_>>(), ["notebook"]);
}

#[test]
fn what_editors_and_file_managers_do_is_borne_or_named() {
    let machine = Machine::new();
    let windows = format!("\u{feff}{}", GOOD.replace('\n', "\r\n"));
    assert_eq!(machine.with(&windows), Vec::<String>::new());

    let utf16: Vec<u8> = std::iter::once(0xfeff).chain(GOOD.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    fs::write(machine.places.boot.join(FILE), utf16).unwrap();
    assert!(provision(&machine.places).unwrap()[0].sentence.starts_with("found UTF-16"));
    assert!(
        machine.run("cerebrum/problem.txt").starts_with("cerebrum.toml: found UTF-16"),
        "the file's name comes once"
    );

    fs::rename(machine.places.boot.join(FILE), machine.places.boot.join("cerebrum.toml.txt")).unwrap();
    assert!(provision(&machine.places).unwrap()[0].sentence.starts_with("found cerebrum.toml.txt"));
    fs::remove_file(machine.places.boot.join("cerebrum.toml.txt")).unwrap();
    assert!(provision(&machine.places).unwrap()[0].sentence.starts_with("found no such file"));
    assert_eq!(machine.with("listen = = 3").len(), 1);
}

#[test]
fn nothing_in_a_value_begins_a_new_line_elsewhere() {
    let machine = Machine::new();
    for (key, value) in [
        ("ssh", "authorized_keys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ000000000000000000 x\\ncommand=\"]"),
        ("time", "servers = [\"a\\nb\"]"),
        ("wifi", "country = \"DE\"\nssid = \"a\"\npassphrase = \"12345678\\n}\""),
        ("network", "address = \"10.0.0.1/8\\nDNS=6.6.6.6\""),
    ] {
        let problems = machine.with(&format!("[{key}]\n{value}\n[[upstream]]\nurl = \"http://10.0.0.9\"\n"));
        assert_eq!(problems.len(), 1, "{key}: {problems:?}");
        assert!(problems[0].starts_with(key), "{problems:?}");
    }
}

#[test]
fn a_reset_forgets_keys_and_keeps_the_file() {
    let machine = Machine::new();
    machine.with(GOOD);
    reset(&machine.places).unwrap();
    assert!(!machine.places.keys().exists() && machine.places.boot.join(FILE).exists());
}
