//! The listening socket while the daemon starts anew: systemd, for which the test stands in, keeps it, and whoever connects waits.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};

use cerebrum_tests::client::{Client, PATIENCE};
use cerebrum_tests::stack::{Site, binary};

/// The daemon, as systemd starts it.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        drop(self.0.wait());
    }
}

impl Daemon {
    /// With its messages to `notify`, and the socket that was kept.
    fn start(site: &Site, kept: Option<TcpListener>) -> Self {
        let settings = format!(
            "listen = \"{}\"\nauth = \"open\"\n[board]\nbackend = \"off\"\n[[upstream]]\nurl = \"http://127.0.0.1:9\"\n",
            site.appliance
        );
        let config = site.write("cerebrum.toml", &settings).unwrap();
        // Only the program itself knows its number, and the socket is to be its fourth file.
        let script = match kept {
            Some(_) => "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" --config \"$1\"",
            None => "exec \"$0\" --config \"$1\"",
        };
        let program = Command::new("sh")
            .args(["-c", script])
            .arg(binary("cerebrumd").unwrap())
            .arg(config)
            .env("NOTIFY_SOCKET", site.folder().join("notify"))
            .stdin(kept.map_or(Stdio::null(), |kept| OwnedFd::from(kept).into()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(program.unwrap())
    }
}

#[tokio::test]
async fn who_connects_while_the_daemon_is_away_is_served_when_it_is_back() {
    let site = Site::new().unwrap();
    let notify = UnixDatagram::bind(site.folder().join("notify")).unwrap();
    notify.set_read_timeout(Some(PATIENCE)).unwrap();
    let kept = TcpListener::bind(site.appliance).unwrap();
    let caller = Client::plain(site.appliance, None);
    // It connects before the daemon begins.
    let (answer, _daemon) = tokio::join!(caller.get("/health"), async { Daemon::start(&site, Some(kept)) });
    assert_eq!(answer.unwrap().status, 200);
}

#[test]
fn the_daemon_asks_systemd_to_keep_its_socket() {
    let site = Site::new().unwrap();
    let notify = UnixDatagram::bind(site.folder().join("notify")).unwrap();
    notify.set_read_timeout(Some(PATIENCE)).unwrap();
    let _daemon = Daemon::start(&site, None);
    let mut message = [0; 1024];
    loop {
        let length = notify.recv(&mut message).unwrap();
        if message[..length].starts_with(b"FDSTORE=1\nFDNAME=listener") {
            return;
        }
    }
}
