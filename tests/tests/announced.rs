//! The appliance on the local network, looked for by a program that nobody here wrote (python-zeroconf, which `setup.sh test`
//! installs): announced, found, resolved, and gone when it stops.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use cerebrum_tests::client::PATIENCE;
use cerebrum_tests::stack::{Log, Site};

struct Browser(Child, Arc<Log>);

impl Browser {
    fn start(name: &str, service: &str) -> Self {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = tests.join("../target/clients/python/bin/python");
        assert!(python.exists(), "{} is missing: `./setup.sh test` installs the clients", python.display());
        let mut child = Command::new(python)
            .arg(tests.join("clients/mdns_browser.py"))
            .envs([("NAME", name), ("ADDRESS", "127.0.0.1"), ("SERVICE", service)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::of(child.stdout.take().unwrap());
        Self(child, log)
    }

    async fn says(&self, word: &str) -> String {
        self.1.heard(PATIENCE, |line| line.starts_with(word)).await.unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Fails only when it has ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn the_appliance_is_announced_found_resolved_and_gone() {
    let site = Site::new().unwrap();
    // Other tests, and other machines, have names of their own.
    let name = format!("cerebrum-test-{}", std::process::id());
    let settings = format!("[mdns]\nenabled = true\nname = \"{name}\"\n[board]\nbackend = \"off\"");
    let browser = Browser::start(&name, "_http._tcp.local.");
    let mut appliance = site.start_appliance(&settings).unwrap();
    let found = browser.says("found").await;
    assert_eq!(found, format!("found {name} {name}.local. {} 127.0.0.1 /", site.appliance.port()));
    assert_eq!(appliance.terminate(PATIENCE).unwrap(), Some(0));
    browser.says("gone").await;
}

#[tokio::test]
async fn a_name_that_is_taken_is_changed_and_the_first_keeps_its_own() {
    let (first, second) = (Site::new().unwrap(), Site::new().unwrap());
    let name = format!("cerebrum-both-{}", std::process::id());
    let settings = format!("[mdns]\nenabled = true\nname = \"{name}\"\n[board]\nbackend = \"off\"");
    let _first = first.start_appliance(&settings).unwrap();
    let browser = Browser::start(&name, "_http._tcp.local.");
    browser.says("found").await;
    let second = second.start_appliance(&settings).unwrap();
    let changed = second.log().heard(PATIENCE, |line| line.contains("another machine has this name")).await.unwrap();
    assert!(changed.contains(&format!("{name}-2")) || changed.contains(&format!("{name} (2)")), "{changed}");
}
