//! Updates of the image: good ones, bad ones, ones that turn out bad, and power that goes in their midst.

use std::time::{Duration, Instant};

use anyhow::ensure;
use cerebrum_tests::vm::say;

use crate::cases::{Run, UPDATE};
use crate::machine::BOOT;

/// Where slot b begins on the disk.
const SLOT_B: u64 = 663_552 * 512;

impl Run {
    /// One case of updates, counted.
    fn update_case(&mut self, name: &str, outcome: anyhow::Result<()>) {
        self.figures.updates.all += 1;
        match outcome {
            Ok(()) => {
                self.figures.updates.good += 1;
                say(&format!("       update, {name}: ok"));
            }
            Err(error) => say(&format!("       update, {name}: {error:#}")),
        }
    }

    fn all_updates_good(&self, before: u32, wanted: u32) -> anyhow::Result<()> {
        let good = self.figures.updates.good - before;
        ensure!(good == wanted, "{good} of {wanted}");
        Ok(())
    }

    pub(crate) async fn refused(&mut self) -> anyhow::Result<()> {
        let before = self.figures.updates.good;
        let older = self.place.folder.join("older.update");
        self.place.done(&["sh", "-euc", "echo older >/image/vm/older"])?;
        self.place.bundle_of("0.0.1", "/image/vm/older", "/image/vm/older.update")?;
        let machine = self.machine()?;
        machine.run(&format!("cp /boot/{UPDATE} /data/good.update"))?;
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
        let before = self.figures.updates.good;
        let outcome = self.update();
        self.update_case("good", outcome);
        self.all_updates_good(before, 1)
    }

    fn update(&mut self) -> anyhow::Result<()> {
        let machine = self.machine()?;
        machine.run("cerebrum update stage /data/good.update")?;
        machine.tries()?.says("Cerebrum: starting slot b, tries left 1")?;
        self.settled("slot b runs")
    }

    /// Waits until the running system has said that it is well.
    fn settled(&mut self, runs: &str) -> anyhow::Result<()> {
        match self.machine()?.wait_for_ssh() {
            Err(_) if self.machine()?.is_cut_off() => self.up().map(drop)?,
            outcome => outcome?,
        }
        let machine = self.machine()?;
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
        let before = self.figures.updates.good;
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

    pub(crate) async fn unhealthy(&mut self) -> anyhow::Result<()> {
        let before = self.figures.updates.good;
        let outcome = self.relapse();
        self.update_case("never healthy", outcome);
        self.all_updates_good(before, 1)
    }

    fn relapse(&mut self) -> anyhow::Result<()> {
        let sick = self.place.sick_bundle()?;
        self.machine = None;
        self.place.put_file(UPDATE, &sick)?;
        let machine = self.up()?;
        machine.run(&format!("cerebrum update stage /boot/{UPDATE}"))?;
        let staged = machine.run("cerebrum update status")?;
        ensure!(staged.contains("version 99.0.0 is in slot b, not started yet"), "{staged}");
        let said = machine.tries()?;
        said.says("Cerebrum: starting slot b, tries left 1")?;
        said.says("Cerebrum: starting slot a")?;
        // The emulated USB host, and with it the network, does not survive being reset twice.
        self.up()?;
        self.settled("slot a runs")?;
        let status = self.machine()?.run("cerebrum update status")?;
        ensure!(status.contains("b 0") && !status.contains("99.0.0"), "{status}");
        Ok(())
    }

    pub(crate) async fn power_cuts(&mut self) -> anyhow::Result<()> {
        let before = self.figures.updates.good;
        let lasting = self.lasting()?;
        let writing = [
            ("the power goes as it begins to write", 1),
            ("the power goes after a fifth", 20),
            ("the power goes after two fifths", 40),
            ("the power goes at the last bytes", 68),
            ("the power goes as it is read back", 85),
        ];
        for (name, percent) in writing {
            let outcome = self.cut_while_staging(percent, &lasting);
            self.update_case(name, outcome);
        }
        let outcome = self.cut_when_whole(&lasting);
        self.update_case("the power goes when it is whole", outcome);
        // The next start spends the first try, and the one after it the last.
        let outcome = self.cut_when_told();
        self.update_case("the power goes when the boot loader is told", outcome);
        let outcome = self.cut_at("Cerebrum: starting slot b, tries left 0");
        self.update_case("the power goes in the boot loader", outcome);
        let outcome = self.cut_at("Cerebrum: starting slot a").and_then(|()| self.runs("slot a runs", &lasting));
        self.update_case("the power goes again, and no try is left", outcome);
        let outcome = self.cut_when_up(&lasting);
        self.update_case("the power goes before the new system is confirmed", outcome);
        self.serves().await?;
        self.all_updates_good(before, 10)
    }

    /// After a new start this system runs, and what lasts is as it was.
    fn runs(&mut self, runs: &str, lasting: &str) -> anyhow::Result<()> {
        self.settled(runs)?;
        let after = self.lasting()?;
        ensure!(after == lasting, "before:\n{lasting}after:\n{after}");
        Ok(())
    }

    fn cut_while_staging(&mut self, percent: u8, lasting: &str) -> anyhow::Result<()> {
        // What the panel is told is what is waited for.
        self.machine()?.run(&format!(
            "rm -f /run/cerebrum/update.toml; cerebrum update stage /data/good.update >/dev/null 2>&1 & \
             until grep -qs installing /run/cerebrum/update.toml && \
             [ $(sed -n 's/percent = //p' /run/cerebrum/update.toml) -ge {percent} ]; do \
             kill -0 $! || exit 1; sleep 0.1; done"
        ))?;
        self.up()?;
        self.runs("slot a runs", lasting)?;
        let status = self.machine()?.run("cerebrum update status")?;
        ensure!(status.contains("b 0") && !status.contains("not started yet"), "{status}");
        Ok(())
    }

    fn cut_when_whole(&mut self, lasting: &str) -> anyhow::Result<()> {
        self.machine()?.run("cerebrum update stage /data/good.update")?;
        self.up()?;
        self.runs("slot a runs", lasting)?;
        let status = self.machine()?.run("cerebrum update status")?;
        ensure!(status.contains("is in slot b, not started yet"), "{status}");
        Ok(())
    }

    fn cut_when_told(&mut self) -> anyhow::Result<()> {
        self.machine()?.tries()?;
        self.cut_at("Cerebrum: starting slot b, tries left 1")
    }

    /// The power goes now, and comes back: the console says this then.
    fn cut_at(&mut self, said: &str) -> anyhow::Result<()> {
        self.start()?.says(said)
    }

    fn cut_when_up(&mut self, lasting: &str) -> anyhow::Result<()> {
        self.machine()?.tries()?.says("Cerebrum: starting slot b, tries left 1")?;
        self.machine()?.wait_for_ssh()?;
        self.start()?.says("Cerebrum: starting slot b, tries left")?;
        self.runs("slot b runs", lasting)
    }
}
