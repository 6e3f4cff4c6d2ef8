//! Real clients, as their registries have them (`setup.sh test` installs them), through both programs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

use cerebrum_tests::client::{Client, eventually};
use cerebrum_tests::stack::{MODEL, Program, Site};
use cerebrum_tests::stub_service::{StubService, delta, finish};
use serde_json::json;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

fn installed(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients").join(path);
    assert!(path.exists(), "{} is missing: `./setup.sh test` installs the clients", path.display());
    path
}

/// Both programs, with room for a client that has just left beside the next.
fn start() -> (Site, Program, Program) {
    let site = Site::new().unwrap();
    let server = site.start_server("").unwrap();
    let appliance = site.start_appliance("[limits]\nmax_in_progress = 4\n[board]\nbackend = \"off\"").unwrap();
    (site, server, appliance)
}

fn run(mut command: Command, site: &Site) {
    command.env("BASE_URL", format!("http://{}", site.appliance)).env("API_KEY", site.client_key.expose());
    let ended = command.env("MODEL", MODEL).output().unwrap();
    let (out, errors) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{out}{errors}");
    assert!(out.trim_end().ends_with("ok"), "{out}");
}

fn python(script: &str) {
    let (site, _server, _appliance) = start();
    let mut command = Command::new(installed("python/bin/python"));
    command.arg(folder().join(script));
    run(command, &site);
}

fn node(script: &str) -> Command {
    // Node looks for modules beside the script, and the script is no part of what was installed.
    let copy = installed("node/node_modules").with_file_name(script);
    std::fs::copy(folder().join("node").join(script), &copy).unwrap();
    let mut command = Command::new("node");
    command.arg(copy);
    command
}

#[test]
fn openai_for_python() {
    python("openai_client.py");
}

#[test]
fn anthropic_for_python() {
    python("anthropic_client.py");
}

#[test]
fn openai_for_node() {
    let (site, _server, _appliance) = start();
    run(node("openai_client.mjs"), &site);
}

/// The appliance before a service that calls a tool, its arguments in pieces.
async fn calling() -> (Site, StubService, Program) {
    let part = |index: usize, name: Option<&str>, arguments: &str| {
        let function = json!({"name": name, "arguments": arguments});
        delta(json!({"tool_calls": [{"index": index, "id": "call_1", "type": "function", "function": function}]}))
    };
    let chunks = vec![
        delta(json!({"role": "assistant", "content": "I shall add."})),
        part(0, Some("add"), ""),
        part(0, None, r#"{"a": 2, "#),
        part(0, None, r#""b": 3}"#),
        finish("tool_calls"),
    ];
    let (site, service) = (Site::new().unwrap(), StubService::start(chunks).await.unwrap());
    let text = format!(
        "listen = \"{}\"\nkeys_file = \"appliance-keys.toml\"\n[board]\nbackend = \"off\"\n{}",
        site.appliance,
        service.upstream("")
    );
    let appliance = Program::start("cerebrumd", &[], &site.write("cerebrum.toml", &text).unwrap()).unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    eventually(&lan, "/health", |health| health["vps_available"] == true).await.unwrap();
    (site, service, appliance)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_calls_tools_and_the_clients_that_carry_them_out() {
    let (site, service, _appliance) = calling().await;
    for script in ["openai_tools.py", "anthropic_tools.py"] {
        let mut command = Command::new(installed("python/bin/python"));
        command.arg(folder().join(script));
        tokio::task::block_in_place(|| run(command, &site));
        assert_eq!(service.asked().unwrap()["tool_choice"], "required", "{script}");
    }
    tokio::task::block_in_place(|| run(node("openai_tools.mjs"), &site));
}

/// The browser: any that is there, else the one that `./setup.sh test` has put among the clients.
fn chromium() -> PathBuf {
    let names = "chromium chromium-headless-shell google-chrome google-chrome-stable";
    let found = Command::new("bash").args(["-c", &format!("command -v {names} | head -n 1")]).output().unwrap();
    let path = String::from_utf8(found.stdout).unwrap();
    if path.is_empty() { installed("browser/chromium") } else { path.trim().into() }
}

/// Screenshots stay in `target/page`.
#[test]
fn the_status_page_in_chromium() {
    let site = Site::new().unwrap();
    let _server = site.start_server("").unwrap();
    let _appliance = site.start_appliance("[board]\nbackend = \"sim\"").unwrap();
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/page");
    std::fs::create_dir_all(&pictures).unwrap();
    let mut command = node("page.mjs");
    command.env("CHROMIUM", chromium()).env("SCREENSHOTS", pictures);
    run(command, &site);
}

/// What the description says of every call is what comes back, for made-up requests good and bad.
#[test]
fn the_openapi_description_is_true() {
    let (site, _server, _appliance) = start();
    let url = format!("http://{}", site.appliance);
    let key = format!("X-API-Key: {}", site.client_key.expose());
    let mut command = Command::new(installed("python/bin/schemathesis"));
    command.current_dir(site.folder()).args(["run", &format!("{url}/openapi.json"), "--url", &url, "--header", &key]);
    command.args(["--phases", "coverage,fuzzing", "--max-examples", "3", "--seed", "1", "--request-timeout", "60"]);
    // Streams without an end, and what only so many attempts of an hour are allowed for.
    command.args(["--exclude-path-regex", "^/v1/(events|pair)"]);
    command.args([
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]);
    let ended = command.output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
}
