//! What the image should do, case by case, in the order in which it is tried.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cerebrum_board::Frame;
use cerebrum_common::pki::{IDENTITY_DAYS, Role};
use cerebrum_tests::client::Client;
use cerebrum_tests::stack::{Program, Site};
use serde_json::json;

use crate::machine::{BOOT, Machine, Place, make_key};
use crate::trace::Traced;

/// Where slot a's root begins on the disk: after the slot's own boot files.
const ROOT_A: u64 = (139_264 + 65_536) * 512;
/// Where slot b begins.
const SLOT_B: u64 = 663_552 * 512;
/// A client's key of its person's own choice.
const CLIENT_KEY: &str = "chosen-by-the-person-0001";

/// What is measured on the way.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) first_answer_s: Option<f32>,
    pub(crate) idle_mib: Option<f32>,
    pub(crate) update_good: u32,
    pub(crate) update_all: u32,
}

/// Everything that a case works on.
#[derive(Debug)]
pub(crate) struct Run {
    place: Place,
    site: Site,
    _server: Program,
    machine: Option<Machine>,
    lan: Client,
    settings: String,
    identity: String,
    pub(crate) figures: Figures,
}

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
        let lan = Client::plain(site.appliance, Some(CLIENT_KEY));
        Ok(Self {
            place,
            site,
            _server: server,
            machine: None,
            lan,
            settings,
            identity: String::new(),
            figures: Figures::default(),
        })
    }

    fn machine(&self) -> anyhow::Result<&Machine> {
        self.machine.as_ref().context("no machine runs")
    }

    fn start(&mut self) -> anyhow::Result<&Machine> {
        self.machine = None;
        self.machine = Some(Machine::start(&self.place, self.site.appliance.port())?);
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
        let machine = self.start()?;
        machine.wait_for_ssh()?;
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
        let started = self.start()?.started;
        let until = started + BOOT;
        loop {
            match self.prompt().await {
                Ok(()) => break,
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
        crate::say(&format!(
            "       {used:.1} MiB; the daemon: {}",
            machine.run("grep VmRSS /proc/$(pidof cerebrumd)/status")?.trim()
        ));
        self.figures.idle_mib = Some(used);
        Ok(())
    }

    pub(crate) async fn kept(&mut self) -> anyhow::Result<()> {
        let asked = "sha256sum /data/cerebrum/keys.toml /data/system/machine-id /data/system/ssh/*";
        self.identity = self.machine()?.run(asked)?;
        let machine = self.start()?;
        machine.wait_for_ssh()?;
        let after = machine.run(asked)?;
        ensure!(after == self.identity, "before:\n{}after:\n{after}", self.identity);
        let until = Instant::now() + BOOT;
        while self.prompt().await.is_err() {
            ensure!(Instant::now() < until, "no prompt is answered");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }

    /// One case of updates, counted.
    fn update_case(&mut self, name: &str, outcome: anyhow::Result<()>) {
        self.figures.update_all += 1;
        match outcome {
            Ok(()) => self.figures.update_good += 1,
            Err(error) => crate::say(&format!("       update, {name}: {error:#}")),
        }
    }

    fn all_updates_good(&self, before: u32, wanted: u32) -> anyhow::Result<()> {
        let good = self.figures.update_good - before;
        ensure!(good == wanted, "{good} of {wanted}");
        Ok(())
    }

    pub(crate) async fn refused(&mut self) -> anyhow::Result<()> {
        let before = self.figures.update_good;
        let bundle = self.place.bundle()?;
        let older = self.place.folder.join("older.update");
        self.place.done(&["sh", "-euc", "echo older >/image/vm/older"])?;
        self.place.bundle_of("0.0.1", "/image/vm/older", "/image/vm/older.update")?;
        let machine = self.machine()?;
        machine.send(&bundle, "/data/good.update")?;
        machine.send(&older, "/data/older.update")?;
        machine.run("head -c 20000000 /data/good.update >/data/torn.update")?;
        let harm = |from: &str, name: &str, place: u64| {
            machine.run(&format!(
                "cp /data/{from}.update /data/{name}.update; printf X | dd of=/data/{name}.update bs=1 seek={place} conv=notrunc 2>/dev/null"
            ))
        };
        harm("good", "damaged", 30_000_000)?;
        harm("older", "unsigned", 40)?;
        let mut outcomes = Vec::new();
        let refusals =
            [("torn", "torn"), ("damaged", "damaged"), ("unsigned", "not signed"), ("older", "older than the running")];
        for (name, sentence) in refusals {
            let output = machine.attempt(&format!(
                "cerebrum update stage /data/{name}.update; r=$?; rm /data/{name}.update; exit $r"
            ))?;
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            let right = !output.status.success() && told.contains(sentence);
            outcomes.push((name, if right { Ok(()) } else { Err(anyhow::anyhow!("it says {told:?}")) }));
        }
        let count = outcomes.len() as u32;
        outcomes.into_iter().for_each(|(name, outcome)| self.update_case(name, outcome));
        self.all_updates_good(before, count)
    }

    pub(crate) async fn updated(&mut self) -> anyhow::Result<()> {
        let before = self.figures.update_good;
        let outcome = self.update();
        self.update_case("good", outcome);
        self.all_updates_good(before, 1)
    }

    fn update(&self) -> anyhow::Result<()> {
        let machine = self.machine()?;
        machine.run("cerebrum update stage /data/good.update && rm /data/good.update")?;
        // The session ends with the system it runs on.
        drop(machine.attempt("cerebrum update try")?);
        machine.says("Cerebrum: starting slot b, tries left 1")?;
        self.settled("slot b runs")
    }

    /// Waits until the running system has said that it is well.
    fn settled(&self, runs: &str) -> anyhow::Result<()> {
        let machine = self.machine()?;
        machine.wait_for_ssh()?;
        let until = Instant::now() + BOOT;
        loop {
            let status = machine.run("cerebrum update status; systemctl is-active cerebrum-settle.service || true")?;
            let settled = status.contains("inactive") && !status.contains("trial");
            if status.contains(runs) && settled {
                return Ok(());
            }
            ensure!(Instant::now() < until, "{status}");
            std::thread::sleep(Duration::from_secs(5));
        }
    }

    pub(crate) async fn harmed_slot(&mut self) -> anyhow::Result<()> {
        let before = self.figures.update_good;
        self.machine = None;
        // In the middle of slot b's kernel.
        self.place.flip(SLOT_B + 12_000_000)?;
        let outcome = self.start().map(drop).and_then(|()| {
            self.machine()?.says("Cerebrum: slot b did not start")?;
            self.settled("slot a runs")
        });
        self.update_case("harmed kernel", outcome);
        self.all_updates_good(before, 1)
    }

    pub(crate) async fn verity(&mut self) -> anyhow::Result<()> {
        self.machine = None;
        // A bit of the file system's first block that nothing else would look at.
        self.place.flip(ROOT_A + 2000)?;
        let machine = self.start()?;
        machine.says("is corrupted")?;
        machine.says("cannot be mounted, or is not what was signed")?;
        self.machine = None;
        self.place.flip(ROOT_A + 2000)
    }
}
