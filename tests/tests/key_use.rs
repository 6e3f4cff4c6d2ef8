//! When a key was last used is told by `cerebrum key list`, after the daemon's end and after a start without use, too.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::Command;

use cerebrum_tests::client::{Client, PATIENCE};
use cerebrum_tests::scripted::{Script, ScriptedUpstream};
use cerebrum_tests::stack::{Site, binary};

fn listed(site: &Site) -> String {
    let file = site.folder().join("appliance-keys.toml");
    let mut command = Command::new(binary("cerebrum").unwrap());
    let ended = command.args(["key", "list", "--file"]).arg(file).output().unwrap();
    assert!(ended.status.success());
    String::from_utf8(ended.stdout).unwrap()
}

#[tokio::test]
async fn a_list_of_keys_tells_their_last_use() {
    let site = Site::new().unwrap();
    let upstream = ScriptedUpstream::start(Script::default()).unwrap();
    let settings = "keys_file = \"appliance-keys.toml\"\n[board]\nbackend = \"off\"";
    assert_eq!(listed(&site), "test client  no use on record\n");
    let mut appliance = site.start_appliance_over(&upstream.url(), settings).unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    assert_eq!(lan.get("/v1/models").await.unwrap().status, 200);
    assert_eq!(appliance.terminate(PATIENCE).unwrap(), Some(0));
    let used = listed(&site);
    assert!(used.starts_with("test client  last used 20") && used.ends_with("Z\n"), "{used}");

    let mut appliance = site.start_appliance_over(&upstream.url(), settings).unwrap();
    assert_eq!(lan.get("/health").await.unwrap().status, 200, "needs no key");
    assert_eq!(appliance.terminate(PATIENCE).unwrap(), Some(0));
    assert_eq!(listed(&site), used);
}
