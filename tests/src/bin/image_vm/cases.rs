//! What the image should do, case by case, in the order in which it is tried.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cerebrum_board::Frame;
use cerebrum_common::pki::{IDENTITY_DAYS, Role};
use cerebrum_tests::client::Client;
use cerebrum_tests::stack::{Program, Site};
use cerebrum_tests::vm::trace::Traced;
use cerebrum_tests::vm::{Tally, say};
use serde_json::json;

use crate::machine::{BOOT, Machine, Place, make_key};

/// Where the slots' roots begin on the disk: after the slots' own boot files.
const ROOT_A: u64 = (139_264 + 65_536) * 512;
const ROOT_B: u64 = (663_552 + 65_536) * 512;
/// Starts of which one has to reach the network.
const STARTS: u32 = 3;
/// An update on the boot partition, where a person with another computer would put it: the emulated network takes eight minutes for one.
pub(crate) const UPDATE: &str = "whole.update";
/// A client's key of its person's own choice.
const CLIENT_KEY: &str = "chosen-by-the-person-0001";
/// A key for the tunnel; both ends have the same, since nobody answers.
const TUNNEL_KEY: &str = "CerebrumCerebrumCerebrumCerebrumCerebrumCEE=";
/// How WireGuard begins: bytes of its first message, whose kind is 1.
const HANDSHAKE_BYTES: usize = 148;

/// What is measured on the way.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) first_answer_s: Option<f32>,
    pub(crate) idle_mib: Option<f32>,
    pub(crate) updates: Tally,
}

/// Everything that a case works on.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) place: Place,
    site: Site,
    _server: Program,
    pub(crate) machine: Option<Machine>,
    lan: Client,
    settings: String,
    pub(crate) figures: Figures,
}

/// Proportional memory of every process, in KiB; size of every kernel module, in bytes; and of everything kept in memory.
const PARTS_OF_MEMORY: &str = "for p in /proc/[0-9]*; do echo \"$(sed -n 's/^Pss: *//p' $p/smaps_rollup 2>/dev/null) \
                               $(cat $p/comm)\"; done | grep kB | sort -rn; cut -d' ' -f1-3 /proc/modules | sort -rnk2; \
                               df -k";

impl Run {
    pub(crate) fn new(place: Place) -> anyhow::Result<Self> {
        let site = Site::new()?;
        // The emulated machine reaches this one by that address.
        let hosts = ["10.0.2.2".to_owned(), "localhost".to_owned()];
        site.authority.issue("server", Role::Server, &hosts, IDENTITY_DAYS)?.save(site.folder(), "server")?;
        let server = site.start_server("")?;
        let key = make_key(&place.folder)?;
        let settings = format!(
            "name = \"cerebrum-test\"\n[[upstream]]\nname = \"vps\"\nurl = \"https://10.0.2.2:{}\"\nkey_file = \"server.secret\"\n\
             ca = \"ca.pem\"\ncertificate = \"appliance.pem\"\nkey = \"appliance.key\"\n\
             [[client]]\nname = \"laptop\"\nkey = \"{CLIENT_KEY}\"\n[ssh]\nauthorized_keys = [\"{key}\"]\n\
             [time]\nservers = [\"10.0.2.2\"]\n",
            site.server.port()
        );
        place.card()?;
        // The emulated watchdog resets the machine at the moment it is armed.
        let environment = std::fs::read_to_string(place.tree.join("image-build/boot/uboot.env"))?;
        std::fs::write(place.folder.join("uboot.txt"), environment + "extra_args=systemd.watchdog_device=/dev/none\n")?;
        place.done(&["mkenvimage", "-s", "0x4000", "-o", "/image/vm/uboot.env", "/image/vm/uboot.txt"])?;
        place.put("uboot.env", &std::fs::read(place.folder.join("uboot.env"))?)?;
        for name in ["ca.pem", "appliance.pem", "appliance.key", "server.secret"] {
            place.put(name, &std::fs::read(site.folder().join(name))?)?;
        }
        place.put_file(UPDATE, &place.bundle()?)?;
        let lan = Client::plain(site.appliance, Some(CLIENT_KEY));
        Ok(Self { place, site, _server: server, machine: None, lan, settings, figures: Figures::default() })
    }

    pub(crate) fn machine(&self) -> anyhow::Result<&Machine> {
        self.machine.as_ref().context("no machine runs")
    }

    pub(crate) fn start(&mut self) -> anyhow::Result<&Machine> {
        self.machine = None;
        self.machine = Some(Machine::start(&self.place, self.site.appliance.port())?);
        self.machine()
    }

    /// Starts it, and waits until somebody can log in.
    pub(crate) fn up(&mut self) -> anyhow::Result<&Machine> {
        for _ in 1..STARTS {
            self.start()?;
            match self.machine()?.wait_for_ssh() {
                Err(error) if self.machine()?.is_cut_off() => say(&format!("       once more: {error}")),
                outcome => return outcome.and_then(|()| self.machine()),
            }
        }
        self.start()?.wait_for_ssh()?;
        self.machine()
    }

    /// The picture on the panel, kept for people.
    fn picture(&self, name: &str) -> anyhow::Result<Frame> {
        let frame = Traced::follow(&Machine::trace(&self.place))?.catch_up()?.frame();
        std::fs::write(self.place.folder.join(format!("{name}.png")), frame.to_png(4))?;
        Ok(frame)
    }

    async fn prompt(&self) -> anyhow::Result<()> {
        let answer = self.lan.post("/v1/complete", &json!({"prompt": "def fibonacci(n):", "max_tokens": 8})).await?;
        ensure!(answer.status == 200, "{answer:?}");
        let told = answer.json()?;
        ensure!(told["tokens_generated"].as_u64() > Some(0) && told["source"] == "vps", "{told}");
        Ok(())
    }

    pub(crate) async fn bad_settings(&mut self) -> anyhow::Result<()> {
        let wrong = self.settings.replace("\"cerebrum-test\"", "\"my appliance\"").replace("[time]", "[tiem]");
        self.place.put("cerebrum.toml", wrong.as_bytes())?;
        let machine = self.up()?;
        let told = machine.run("cat /boot/cerebrum.toml.errors.txt")?;
        ensure!(told.contains("name: found \"my appliance\"") && told.contains("tiem: found an unknown key"), "{told}");
        let units = "systemctl is-active cerebrum-setup.service cerebrumd.service; true";
        let active = machine.run(units)?;
        ensure!(active.lines().eq(["active", "inactive"]), "{active}");
        let until = Instant::now() + Duration::from_secs(120);
        while self.picture("bad-settings")? == Frame::dark() {
            ensure!(Instant::now() < until, "the panel stays dark");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }

    pub(crate) async fn good_settings(&mut self) -> anyhow::Result<()> {
        self.machine = None;
        self.place.put("cerebrum.toml", self.settings.as_bytes())?;
        let mut started = self.start()?.started;
        let until = started + BOOT;
        loop {
            match self.prompt().await {
                Ok(()) => break,
                Err(_) if self.machine()?.is_cut_off() && Instant::now() < until => started = self.start()?.started,
                Err(error) => ensure!(Instant::now() < until, "{error:#}; the console:\n{}", self.machine()?.said()),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.figures.first_answer_s = Some(started.elapsed().as_secs_f32());
        let machine = self.machine()?;
        machine.wait_for_ssh()?;
        let gone = machine.attempt("test -e /boot/cerebrum.toml.errors.txt")?;
        ensure!(!gone.status.success(), "the file of errors is still there");
        Ok(())
    }

    pub(crate) async fn well(&mut self) -> anyhow::Result<()> {
        let machine = self.machine()?;
        let until = Instant::now() + Duration::from_secs(300);
        while machine.run("systemctl is-system-running || true")?.trim() == "starting" {
            ensure!(Instant::now() < until, "still starting: {}", machine.run("systemctl list-jobs")?);
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        let failed = machine.run("systemctl --failed --no-legend --plain")?;
        ensure!(failed.trim().is_empty(), "{failed}");
        let health = self.lan.get("/health").await?.json()?;
        ensure!(health["vps_connected"] == true, "{health}");
        let clock: i64 = machine.run("date +%s")?.trim().parse()?;
        let here = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() as i64;
        ensure!((clock - here).abs() < 60, "its clock is {} s away", clock - here);
        ensure!(machine.run("cat /proc/sys/kernel/hostname")?.trim() == "cerebrum-test", "the name is another");
        let display = self.lan.get("/display.png").await?.body;
        ensure!(!display.is_empty() && self.picture("ready")? != Frame::dark(), "the panel is dark");
        Ok(())
    }

    pub(crate) async fn read_only(&mut self) -> anyhow::Result<()> {
        let machine = self.machine()?;
        for attempt in ["touch /etc/written", "touch /usr/bin/written", "mount -o remount,rw /", "echo x >/dev/dm-1"] {
            let output = machine.attempt(attempt)?;
            ensure!(!output.status.success(), "{attempt:?} works");
        }
        let mounts = machine.run("grep ' / ' /proc/mounts")?;
        ensure!(mounts.starts_with("/dev/dm-1 / squashfs ro"), "{mounts}");
        machine.run("touch /data/system/written && rm /data/system/written").map(drop)
    }

    pub(crate) async fn closed(&mut self) -> anyhow::Result<()> {
        let machine = self.machine()?;
        let shadow = machine.run("cat /etc/shadow")?;
        ensure!(shadow.lines().all(|line| line.split(':').nth(1) == Some("*")), "{shadow}");
        let rules = machine.run("nft list chain inet cerebrum input")?;
        ensure!(rules.contains("policy drop") && rules.contains("tcp dport 22 accept"), "{rules}");
        ensure!(machine.is_silent()?, "a connection to a port that is not open is answered");
        ensure!(machine.greets(), "a connection to SSH's port is not answered");
        Ok(())
    }

    pub(crate) async fn idle(&mut self) -> anyhow::Result<()> {
        let machine = self.machine()?;
        let text = machine.run("cat /proc/meminfo")?;
        let value = |name: &str| -> anyhow::Result<f32> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
            Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<f32>()? / 1024.0)
        };
        let used = value("MemTotal")? - value("MemAvailable")?;
        // What it consists of, for whoever wants less of it.
        let parts = machine.run(PARTS_OF_MEMORY)?;
        std::fs::write(self.place.folder.join("memory.txt"), text.clone() + "\n" + &parts)?;
        say(&format!(
            "       {used:.1} MiB; the daemon: {}",
            machine.run("grep VmRSS /proc/$(pidof cerebrumd)/status")?.trim()
        ));
        self.figures.idle_mib = Some(used);
        Ok(())
    }

    /// The kernel keeps who connects meanwhile for the next process: systemd holds the listening socket.
    pub(crate) async fn restarted(&mut self) -> anyhow::Result<()> {
        let machine = self.machine()?;
        let process = || machine.run("systemctl show -P MainPID cerebrumd");
        for how in ["systemctl --no-block restart cerebrumd", "systemctl kill -s KILL cerebrumd"] {
            let before = process()?;
            machine.run(how)?;
            let mut answers = 0;
            while answers == 0 || process()? == before {
                self.prompt().await.with_context(|| format!("after {how}"))?;
                answers += 1;
            }
        }
        Ok(())
    }

    pub(crate) async fn gave_up(&mut self) -> anyhow::Result<()> {
        let before = self.picture("ready")?;
        let machine = self.machine()?;
        let file = "/run/cerebrum/cerebrum.toml";
        machine.run(&format!("cp {file} /run/right && sed -i 's/^url.*/url = 7/' {file}"))?;
        machine.attempt("systemctl restart cerebrumd")?;
        let until = Instant::now() + Duration::from_secs(120);
        while machine.run("systemctl is-active cerebrum-failed.service || true")?.trim() != "active" {
            ensure!(Instant::now() < until, "{}", machine.run("systemctl status --no-pager cerebrumd; true")?);
        }
        let told = machine.run("cat /run/cerebrum/failed.txt")?;
        ensure!(told.contains("The daemon does not start") && told.contains("url: found 7"), "{told}");
        while [before.clone(), Frame::dark()].contains(&self.picture("gave-up")?) {
            ensure!(Instant::now() < until, "the panel does not say so");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        machine.run(&format!("cp /run/right {file} && systemctl restart cerebrumd"))?;
        let failed = machine.run("systemctl is-active cerebrum-failed.service || true")?;
        ensure!(failed.trim() == "inactive", "the panel's unit is {failed}");
        self.serves().await
    }

    /// What `cerebrum.toml` can tell of the network: an address instead of DHCP, and a tunnel, whose other end would be here.
    pub(crate) async fn network(&mut self) -> anyhow::Result<()> {
        let peer = UdpSocket::bind("127.0.0.1:0")?;
        peer.set_read_timeout(Some(BOOT))?;
        let settings = format!(
            "{}[logs]\nkeep = true\n[network]\naddress = \"10.0.2.15/24\"\ngateway = \"10.0.2.2\"\ndns = [\"10.0.2.3\"]\n\
             [wireguard]\nprivate_key = \"{TUNNEL_KEY}\"\naddress = \"10.9.0.2/32\"\npeer_public_key = \"{TUNNEL_KEY}\"\n\
             endpoint = \"10.0.2.2:{}\"\nallowed_ips = [\"10.9.0.1/32\"]\n",
            self.settings,
            peer.local_addr()?.port()
        );
        self.machine = None;
        self.place.put("cerebrum.toml", settings.as_bytes())?;
        let machine = self.up()?;
        // There is no bus that networkctl and resolvectl could ask; this is what both have decided.
        let told = machine.run("cat /run/systemd/netif/links/*; ip addr; ip route")?;
        let wanted = [
            "MDNS=yes",
            "DNS=10.0.2.3",
            "inet 10.0.2.15/24",
            "default via 10.0.2.2",
            "inet 10.9.0.2/32",
            "10.9.0.1 dev wg0",
        ];
        let missing: Vec<_> = wanted.into_iter().filter(|line| !told.contains(line)).collect();
        ensure!(missing.is_empty(), "no {missing:?} in:\n{told}");
        ensure!(
            machine.run("ls /run/systemd/netif/leases 2>/dev/null; true")?.trim().is_empty(),
            "an address was asked for"
        );
        let mut message = [0; 256];
        let length = peer.recv(&mut message).context("waiting for the tunnel's first message")?;
        ensure!(length == HANDSHAKE_BYTES && message[0] == 1, "a message of {length} bytes, of kind {}", message[0]);
        self.serves().await
    }

    pub(crate) async fn logs(&mut self) -> anyhow::Result<()> {
        self.machine()?.run("echo kept-for-later >/dev/kmsg; sleep 1; journalctl --sync")?;
        let machine = self.up()?;
        let told = machine.run("journalctl -q -b -1 -k -o cat | grep kept-for-later; true")?;
        ensure!(told.trim() == "kept-for-later", "of the start before, the log has {told:?}");
        let place = machine.run("journalctl --header | grep 'File path'")?;
        ensure!(place.lines().all(|line| line.contains("/var/log/journal/")), "{place}");
        self.serves().await
    }

    /// What has to outlive everything: the clients' keys, and who the machine is.
    pub(crate) fn lasting(&self) -> anyhow::Result<String> {
        self.machine()?.run("sha256sum /data/cerebrum/keys.toml /data/system/machine-id /data/system/ssh/*")
    }

    /// Until a prompt is answered.
    pub(crate) async fn serves(&self) -> anyhow::Result<()> {
        let until = Instant::now() + BOOT;
        while let Err(error) = self.prompt().await {
            ensure!(Instant::now() < until, "no prompt is answered: {error:#}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }

    pub(crate) async fn kept(&mut self) -> anyhow::Result<()> {
        let before = self.lasting()?;
        self.up()?;
        let after = self.lasting()?;
        ensure!(after == before, "before:\n{before}after:\n{after}");
        self.serves().await
    }

    pub(crate) async fn verity(&mut self) -> anyhow::Result<()> {
        let status = self.machine()?.run("cerebrum update status")?;
        let root = if status.contains("slot b runs") { ROOT_B } else { ROOT_A };
        self.machine = None;
        // A bit of the file system's first block that nothing else would look at.
        self.place.flip(root + 2000)?;
        let machine = self.start()?;
        machine.says("is corrupted")?;
        machine.says("cannot be mounted, or is not what was signed")?;
        self.machine = None;
        self.place.flip(root + 2000)
    }
}
