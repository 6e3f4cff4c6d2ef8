//! `cerebrum doctor` names what is wrong, and what the packages install beside the program is there.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

use cerebrum_common::pki::{Authority, Role};
use cerebrum_tests::client::{Client, eventually};
use cerebrum_tests::stack::{Program, Site, binary};

fn cerebrum(arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(binary("cerebrum").unwrap());
    command.env_remove("CEREBRUM_URL").env_remove("CEREBRUM_API_KEY").env("XDG_CONFIG_HOME", "/nonexistent");
    let ended = command.args(arguments).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    (ended.status.success(), text)
}

async fn examined(arguments: Vec<String>) -> (bool, String) {
    let run = move || cerebrum(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn doctor(site: &Site, daemon: &Path, more: &[&str]) -> Vec<String> {
    let url = format!("http://{}", site.appliance);
    let words = ["doctor", "--url", &url, "--daemon", &daemon.display().to_string()].map(str::to_owned);
    words.into_iter().chain(more.iter().map(|word| (*word).to_owned())).collect()
}

#[tokio::test]
async fn a_healthy_box_gets_a_clean_bill_and_a_sick_one_a_cure() {
    let site = Site::new().unwrap();
    let mut server = site.start_server("").unwrap();
    let appliance = site.start_appliance("[board]\nbackend = \"sim\"").unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    eventually(&lan, "/health", |health| health["vps_available"] == true).await.unwrap();
    let key = site.write("key", site.client_key.expose()).unwrap().display().to_string();
    let daemon = site.folder().join("cerebrum.toml");

    let (well, told) = examined(doctor(&site, &daemon, &["--key-file", &key, "--generate"])).await;
    assert!(well && !told.contains("BAD"), "{told}");
    for line in ["valid", "1 in the key file", "server vps", "takes the key", "model", "backend sim", "a token in"] {
        assert!(told.contains(line), "{line}: {told}");
    }

    let wrong = site.write("wrong", "cb_wrong").unwrap().display().to_string();
    let nowhere = site.folder().join("nowhere.toml");
    let (well, told) = examined(doctor(&site, &nowhere, &["--key-file", &wrong])).await;
    assert!(
        !well && told.contains("BAD   appliance") && told.contains("does not know the key: it was revoked"),
        "{told}"
    );
    let (_, told) = examined(doctor(&site, &nowhere, &[])).await;
    assert!(told.contains("wants a key: `cerebrum pair http://"), "{told}");

    server.kill();
    eventually(&lan, "/health", |health| health["vps_connected"] == false).await.unwrap();
    let (well, told) = examined(doctor(&site, &daemon, &["--key-file", &key])).await;
    assert!(!well && told.contains("nothing listens at localhost") && told.contains("systemctl status"), "{told}");
    assert!(!told.contains("models pull") && !told.contains("--url"), "{told}");
    let (_, told) = examined(doctor(&site, &daemon, &["--key-file", &key, "--json"])).await;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert!(told.as_array().unwrap().iter().any(|finding| finding["verdict"] == "bad"), "{told}");

    drop(appliance);
    let (well, told) = examined(doctor(&site, &nowhere, &["--key-file", &key])).await;
    assert!(!well && told.contains("nothing listens at 127.0.0.1"), "{told}");
}

#[tokio::test]
async fn whatever_is_wrong_between_appliance_and_server_is_mended_there() {
    let site = Site::new().unwrap();
    let server_files = site.server_settings("");
    let key = site.write("key", site.client_key.expose()).unwrap().display().to_string();
    let hosts = ["localhost".to_owned()];
    site.authority.issue("server", Role::Server, &hosts, -1).unwrap().save(site.folder(), "old").unwrap();
    let foreign = tempfile::tempdir().unwrap();
    let other = Authority::open(foreign.path()).unwrap();
    other.issue("appliance", Role::Client, &[], 9).unwrap().save(site.folder(), "foreign").unwrap();
    site.write("wrong.secret", "cb_wrong").unwrap();
    let well = || site.appliance_settings("[board]\nbackend = \"off\"");
    let cases = [
        (
            server_files.replace("server.pem", "old.pem").replace("server.key", "old.key"),
            well(),
            "has expired: `cerebrum-server pki",
        ),
        (
            server_files.clone(),
            well().replace("appliance.pem", "foreign.pem").replace("appliance.key", "foreign.key"),
            "refuses the appliance's certificate",
        ),
        (server_files.clone(), well().replace("server.secret", "wrong.secret"), "does not know the key in `key_file`"),
    ];
    for (server, daemon, advice) in cases {
        let _server =
            Program::start("cerebrum-server", &["serve"], &site.write("cerebrum-server.toml", &server).unwrap())
                .unwrap();
        let daemon = site.write("cerebrum.toml", &daemon).unwrap();
        // No daemon is needed to see what is wrong behind it.
        let (well, told) = examined(doctor(&site, &daemon, &["--key-file", &key])).await;
        assert!(!well && told.contains(advice), "{advice}: {told}");
        let line = told.lines().find(|line| line.contains("server vps") && line.starts_with("BAD")).unwrap();
        assert!(!line.contains("--url") && !line.contains("--ca"), "{line}");
        let _appliance = Program::start("cerebrumd", &[], &daemon).unwrap();
        let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
        let troubled = |stats: &serde_json::Value| stats["cm4"]["problems"][0].is_string();
        eventually(&lan, "/v1/stats", troubled).await.unwrap();
        let (_, told) = examined(doctor(&site, &daemon, &["--key-file", &key])).await;
        assert!(!told.contains("models pull"), "{told}");
    }
}

#[test]
fn settings_that_are_wrong_are_told_line_by_line() {
    let site = Site::new().unwrap();
    let daemon = site.write("bad.toml", "listen = 7\n[upstrem]\n").unwrap();
    let words = doctor(&site, &daemon, &[]);
    let (well, told) = cerebrum(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(!well && told.contains("listen: found 7") && told.contains("upstrem"), "{told}");
}

#[test]
fn completions_and_the_manual_page_are_printed() {
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef cerebrum"), ("fish", "complete -c cerebrum")] {
        let (well, script) = cerebrum(&["completions", shell]);
        assert!(well && script.contains(word) && script.contains("doctor"), "{shell}: {script}");
    }
    let (well, page) = cerebrum(&["man"]);
    assert!(well && page.contains(".TH cerebrum 1") && page.contains("Find out why no answer comes"), "{page}");
}

#[test]
fn the_client_is_installed_with_all_that_belongs_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../appliance/install-client.sh");
    let to = folder.path().join("usr");
    let ended = Command::new(script).arg(binary("cerebrum").unwrap()).arg(&to).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    for (name, word) in [
        ("share/bash-completion/completions/cerebrum", "complete -F"),
        ("share/zsh/site-functions/_cerebrum", "#compdef cerebrum"),
        ("share/fish/vendor_completions.d/cerebrum.fish", "complete -c cerebrum"),
        ("share/man/man1/cerebrum.1", ".TH cerebrum 1"),
    ] {
        assert!(std::fs::read_to_string(to.join(name)).unwrap().contains(word), "{name}");
    }
    assert!(Command::new(to.join("bin/cerebrum")).arg("--version").status().unwrap().success());
}
