//! The dry run tells what really happens, and does nothing.

use std::process::Command;

use cerebrum_tests::client::Client;
use cerebrum_tests::scripted::{Script, ScriptedUpstream};
use cerebrum_tests::stack::{Site, binary};
use serde_json::json;

#[tokio::test]
async fn a_dry_run_tells_what_would_be_sent_and_sends_nothing() {
    let (site, upstream) = (Site::new().unwrap(), ScriptedUpstream::start(Script::default()).unwrap());
    let _appliance = site.start_appliance_over(&upstream.url(), "auth = \"open\"\n[board]\nbackend = \"off\"").unwrap();
    let lan = Client::plain(site.appliance, None);
    let section =
        "def step(values):\n    return [value * 2 for value in values]\n\n".repeat(13) + "# end of section\n\n";
    let prompt = section.repeat(10) + "# REFACTOR: turn the step functions into one with a factor";

    let told = lan.post("/v1/prepare", &json!({ "prompt": prompt })).await.unwrap().json().unwrap();
    assert_eq!(upstream.seen().requests, 0);
    assert_eq!((&told["profile"], &told["language"]), (&json!("smart"), &json!("python")));
    let stages = told["stages_us"].as_object().unwrap();
    assert!(stages.len() == 7 && stages.values().map(|us| us.as_u64().unwrap()).sum::<u64>() > 0, "{stages:?}");
    lan.post("/v1/complete", &json!({ "prompt": prompt })).await.unwrap();
    let sent = upstream.seen().last.unwrap();
    assert_eq!(told["prompt"].as_str().unwrap(), &*sent.prompt);
    assert_eq!(told["model"].as_str().unwrap(), sent.model);

    let off = lan.post("/v1/prepare", &json!({ "prompt": prompt, "profile": "off" })).await.unwrap().json().unwrap();
    assert_eq!((off["prompt"].as_str().unwrap(), &off["stages_us"]), (prompt.as_str(), &json!({})));
    let wrong = lan.post("/v1/prepare", &json!({ "prompt": prompt, "profile": "clever" })).await.unwrap();
    assert_eq!(wrong.status, 400);
    assert!(wrong.json().unwrap()["message"].as_str().unwrap().contains("found \"clever\""));

    let file = site.write("module.py", &prompt).unwrap();
    let mut prepare = Command::new(binary("cerebrum").unwrap());
    prepare.args(["prepare", "--url", &format!("http://{}", site.appliance), "--file"]).arg(file);
    let ended = tokio::task::spawn_blocking(move || prepare.output()).await.unwrap().unwrap();
    let out = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success() && out.starts_with("profile      smart"), "{out}");
    assert!(out.contains("instruction  ") && out.contains("\ntook         ") && out.contains("---\n"), "{out}");
}
