//! aider edits a file through both real programs (`make test-aider` installs it).
//!
//! The demonstration model follows no instructions, so a grammar, which aider sends along as its settings allow, leaves it nothing
//! but an edit in aider's own format; one word of it is the model's choice. Without the grammar aider gets what the model says,
//! and has to end in good order all the same.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::{Command, Output};

use cerebrum_tests::client::Client;
use cerebrum_tests::stack::{MODEL, Program, Site};

const BEFORE: &str = "def greet():\n    return \"hello\"\n";

/// What is known of the model, so that aider looks for it nowhere.
const METADATA: &str = r#"{"openai/cerebrum-tiny": {"max_input_tokens": 8192, "max_output_tokens": 1024,
"input_cost_per_token": 0, "output_cost_per_token": 0, "litellm_provider": "openai", "mode": "chat"}}"#;

const GRAMMAR: &str = r#"    extra_body:
      grammar: |
        root ::= "greeting.py\n```\ndef greet():\n    return \"" [a-z]{3,8} "\"\n```\n"
"#;

fn start() -> (Site, Program, Program) {
    let site = Site::new().unwrap();
    // aider's instructions are longer than what the model was trained on.
    let server = site.start_server("context = 8192").unwrap();
    let appliance = site.start_appliance("[board]\nbackend = \"off\"").unwrap();
    (site, server, appliance)
}

fn aider(site: &Site, work: &Path, stream: bool, extra: &str) -> Output {
    std::fs::create_dir_all(work).unwrap();
    let write = |name: &str, text: &str| std::fs::write(work.join(name), text).unwrap();
    write("greeting.py", BEFORE);
    write("metadata.json", METADATA);
    let settings = format!(
        "- name: openai/{MODEL}\n  edit_format: whole\n  use_repo_map: false\n  streaming: {stream}\n  extra_params:\n    max_tokens: 120\n{extra}"
    );
    write("settings.yml", &settings);
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/aider/python/bin/aider");
    let mut command = Command::new(program);
    command.current_dir(work).env("HOME", work).env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    command.env("OPENAI_API_BASE", format!("http://{}/v1", site.appliance));
    command.env("OPENAI_API_KEY", site.client_key.expose());
    command.args(["--model", "openai/cerebrum-tiny", "--model-settings-file", "settings.yml"]);
    command.args(["--model-metadata-file", "metadata.json", "--no-git", "--yes-always", "--no-check-update"]);
    command.args(["--analytics-disable", "--no-show-model-warnings", "--no-show-release-notes", "--no-auto-lint"]);
    command.args(["--no-suggest-shell-commands", "--no-detect-urls", "--map-tokens", "0", "--no-pretty"]);
    command.args(["--no-fancy-input", "--message", "Let greet return another word.", "greeting.py"]);
    command.output().unwrap()
}

async fn answered(site: &Site) -> u64 {
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    let stats = lan.get("/v1/stats").await.unwrap().json().unwrap();
    stats["cm4"]["vps_client"]["requests_successful"].as_u64().unwrap()
}

#[tokio::test]
#[ignore = "make test-aider installs what it needs"]
async fn aider_edits_a_file_streamed_and_whole() {
    let (site, _server, _appliance) = start();
    for stream in [true, false] {
        let work = site.folder().join(format!("edit-{stream}"));
        let ended = aider(&site, &work, stream, GRAMMAR);
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        assert!(ended.status.success() && said.contains("Applied edit to greeting.py"), "{said}");
        let edited = std::fs::read_to_string(work.join("greeting.py")).unwrap();
        let word =
            edited.trim_end().strip_prefix("def greet():\n    return \"").and_then(|rest| rest.strip_suffix('"'));
        let word = word.unwrap_or_else(|| panic!("{edited}"));
        assert!((3..=8).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase()), "{edited}");
    }
    assert_eq!(answered(&site).await, 2);
}

#[tokio::test]
#[ignore = "make test-aider installs what it needs"]
async fn aider_ends_in_good_order_whatever_the_model_says() {
    let (site, _server, _appliance) = start();
    let work = site.folder().join("said");
    let ended = aider(&site, &work, true, "");
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success() && said.contains("Tokens:"), "{said}");
    assert!(!said.contains("litellm.") && !said.contains("Traceback"), "{said}");
    assert!(answered(&site).await >= 1);
}
