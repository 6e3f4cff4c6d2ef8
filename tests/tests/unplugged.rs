//! A client whose cable is pulled sends nothing that says so. It lives in a network namespace of its own here, at the far
//! end of a virtual cable; where the system does not let those be made (no root, a bare container or chroot), this test only
//! says so.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cerebrum_tests::client::{Client, PATIENCE, eventually};
use cerebrum_tests::scripted::{Script, ScriptedUpstream};
use cerebrum_tests::stack::{Program, Site, binary, free_port};

/// A network namespace and the cable to it; dropped, both are gone.
struct Cable {
    namespace: String,
    plug: String,
    address: String,
}

impl Cable {
    /// # Errors
    /// The command that the system refuses.
    fn lay() -> Result<Self, String> {
        let number = std::process::id();
        let cable = Self {
            namespace: format!("cerebrum-{number}"),
            plug: format!("cb{number}b"),
            address: format!("10.231.{}.1", number % 250),
        };
        let (namespace, plug, socket) = (&*cable.namespace, &*cable.plug, &*format!("cb{number}a"));
        let far = format!("10.231.{}.2/30", number % 250);
        ip(&["netns", "add", namespace])?;
        ip(&["link", "add", socket, "type", "veth", "peer", "name", plug, "netns", namespace])?;
        ip(&["address", "add", &format!("{}/30", cable.address), "dev", socket])?;
        ip(&["link", "set", socket, "up"])?;
        ip(&["-n", namespace, "address", "add", &far, "dev", plug])?;
        ip(&["-n", namespace, "link", "set", plug, "up"])?;
        ip(&["netns", "exec", namespace, "true"])?;
        Ok(cable)
    }

    fn pull(&self) {
        ip(&["-n", &self.namespace, "link", "set", &self.plug, "down"]).unwrap();
    }

    fn plug_in(&self) {
        ip(&["-n", &self.namespace, "link", "set", &self.plug, "up"]).unwrap();
    }

    /// The command-line client at the far end, with a streaming request.
    fn client(&self, port: u16, key_file: &Path) -> Child {
        Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .arg(binary("cerebrum").unwrap())
            .args(["complete", "fn main() {", "--url", &format!("http://{}:{port}", self.address), "--key-file"])
            .arg(key_file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // Fails only where it could not be made.
        drop(ip(&["netns", "delete", &self.namespace]));
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    match Command::new("ip").args(arguments).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("ip {arguments:?}: {status}")),
        Err(error) => Err(format!("ip: {error}")),
    }
}

#[tokio::test]
async fn a_client_whose_cable_was_pulled_loses_its_place_and_its_generation() {
    let cable = match Cable::lay() {
        Ok(cable) => cable,
        Err(refused) => return eprintln!("not tried: {refused}"),
    };
    let words = Script { tokens: 100_000, gap: Duration::from_millis(20), ..Script::default() };
    let silence = Script { first_gap: Duration::from_secs(3600), ..Script::default() };
    let upstream = ScriptedUpstream::start(words.clone()).unwrap();
    let site = Site::new().unwrap();
    let port = free_port().unwrap();
    let settings = format!(
        "listen = \"{}:{port}\"\nkeys_file = \"appliance-keys.toml\"\n[limits]\nunanswered_ms = 1500\n\
         [stream]\nheartbeat_ms = 200\n[[upstream]]\nurl = \"{}\"\n",
        cable.address,
        upstream.url(),
    );
    let appliance = Program::start("cerebrumd", &[], &site.write("cerebrum.toml", &settings).unwrap()).unwrap();
    let key_file = site.write("client.secret", site.client_key.expose()).unwrap();
    let near = Client::plain(format!("{}:{port}", cable.address).parse().unwrap(), None);

    for (round, script) in [words, silence].into_iter().enumerate() {
        cable.plug_in();
        let talking = script.first_gap.is_zero();
        upstream.follow(script);
        let mut client = cable.client(port, &key_file);
        let mut out = BufReader::new(client.stdout.take().unwrap());
        upstream.wait_for(PATIENCE, |seen| seen.in_progress == 1).await.unwrap();
        if talking {
            // In mid-stream: what the model says has begun to arrive.
            assert!(!out.fill_buf().unwrap().is_empty());
        }
        cable.pull();
        let left = u64::try_from(round).unwrap() + 1;
        upstream.wait_for(PATIENCE, |seen| seen.dropped == left && seen.in_progress == 0).await.unwrap();
        eventually(&near, "/health", |health| health["active_count"] == 0).await.unwrap();
        drop(client.kill());
        client.wait().unwrap();
        drop(out.read_to_end(&mut Vec::new()));
    }
    let gone = |line: &&String| line.contains("ClientGone");
    assert_eq!(appliance.log().lines().iter().filter(gone).count(), 2);
}
