//! The daemon in the emulated machine, and what a person would see and press on its board.
//!
//! Owns the machine, the traced panel and the client on the LAN. Says what is there; what should be there is for `cases`.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail, ensure};
use cerebrum_board::{Button, Frame};
use cerebrum_tests::client::Client;
use cerebrum_tests::vm::trace::Traced;

use crate::machine::Machine;

/// How long the board may take to show what it should; the emulated processors are slow, and shared.
const PATIENCE: Duration = Duration::from_secs(40);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Pixels of `/display.png` for one of the panel's.
const PNG_SCALE: u32 = 4;
/// The lines of the default wiring: ready, activity, upstream, error.
const LAMPS: [u8; 4] = [17, 27, 22, 23];
/// Where the daemon's settings are.
pub(crate) const SETTINGS: &str = "/etc/cerebrum/cerebrum.toml";
/// Where the daemon's log is.
const LOG: &str = "/tmp/daemon.log";

/// The board and who uses it.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) machine: Machine,
    pub(crate) lan: Client,
    panel: Traced,
    pictures: PathBuf,
    /// Whether the picture has been seen moved against burn-in.
    pub(crate) moved: bool,
}

/// The lamps at one moment of the machine's own clock.
pub(crate) type Lit = (f64, [bool; 4]);

impl Bench {
    pub(crate) fn new(machine: Machine, lan: Client, pictures: PathBuf) -> anyhow::Result<Self> {
        let panel = Traced::follow(machine.trace())?;
        let mut bench = Self { machine, lan, panel, pictures, moved: false };
        bench.set_clock()?;
        bench.find_pins()?;
        Ok(bench)
    }

    /// Lets the shell know where the simulated lines are; the chip's number is the kernel's choice, and may change.
    pub(crate) fn find_pins(&mut self) -> anyhow::Result<()> {
        self.machine.run("pins=$(echo /sys/devices/platform/gpio-sim.0/gpiochip*)\nls $pins/sim_gpio17/value").map(drop)
    }

    /// The device file of the simulated lines.
    pub(crate) fn chip(&mut self) -> anyhow::Result<String> {
        Ok(format!("/dev/{}", self.machine.run("cat /sys/kernel/config/gpio-sim/board/bank/chip_name")?))
    }

    /// Gives the machine, which has no clock of its own, this one's time.
    pub(crate) fn set_clock(&mut self) -> anyhow::Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        self.machine.run(&format!("date -s @{now}")).map(drop)
    }

    /// Starts the daemon with its settings; returns when by this machine's wall clock.
    pub(crate) fn start_daemon(&mut self, settings: &str) -> anyhow::Result<Duration> {
        self.machine.put(SETTINGS, settings)?;
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        self.machine.run(&format!("cerebrumd --config {SETTINGS} >{LOG} 2>&1 &\ndaemon=$!"))?;
        Ok(at)
    }

    /// Asks the daemon to end, as systemd would; returns its exit code.
    pub(crate) fn stop_daemon(&mut self) -> anyhow::Result<i32> {
        Ok(self.machine.attempt("kill -TERM $daemon\nwait $daemon")?.1)
    }

    /// What the daemon has logged.
    pub(crate) fn log(&mut self) -> anyhow::Result<String> {
        self.machine.run(&format!("cat {LOG}"))
    }

    /// Memory of the daemon that is in use, in MiB.
    pub(crate) fn rss_mib(&mut self) -> anyhow::Result<f64> {
        let line = self.machine.run("grep VmRSS /proc/$daemon/status")?;
        let kib: f64 = line.split_whitespace().nth(1).context("no size")?.parse()?;
        Ok(kib / 1024.0)
    }

    /// Presses a button for a while.
    pub(crate) fn press(&mut self, button: Button, held: Duration) -> anyhow::Result<()> {
        let pull = pull(button);
        let micros = held.as_micros();
        self.machine.run(&format!("echo pull-down >{pull}\nusleep {micros}\necho pull-up >{pull}")).map(drop)
    }

    /// Presses a button whose contacts bounce for some milliseconds, when it closes and when it opens. False when the machine
    /// was too slow for it: then the contacts may have stayed for longer than bouncing ones do.
    pub(crate) fn press_bouncing(&mut self, button: Button) -> anyhow::Result<bool> {
        let pull = pull(button);
        let bounce = format!(
            "read before rest </proc/uptime; for _ in 1 2; do echo pull-up >{pull}; echo pull-down >{pull}; done; \
             read after rest </proc/uptime; echo $before $after"
        );
        let told = self.machine.run(&format!("{bounce}\nusleep 150000\n{bounce}\necho pull-up >{pull}"))?;
        let times = told.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        // Four edges, in hundredths of a second: no two of them are likely to be a window apart then.
        let short = |train: &[f64]| train[1] - train[0] < 1.5 * cerebrum_board::buttons::WINDOW.as_secs_f64();
        Ok(times.chunks_exact(2).all(short))
    }

    /// Holds both buttons for a while.
    pub(crate) fn hold_both(&mut self, held: Duration) -> anyhow::Result<()> {
        let both = |pull: &str| Button::ALL.map(|button| format!("echo {pull} >{}", self::pull(button))).join("\n");
        let (down, up) = (both("pull-down"), both("pull-up"));
        self.machine.run(&format!("{down}\nusleep {}\n{up}", held.as_micros())).map(drop)
    }

    /// The lamps over some whole seconds, whenever one changes; the first entry is the state at the beginning, the last the
    /// one at the end.
    pub(crate) fn lamps(&mut self, seconds: u32) -> anyhow::Result<Vec<Lit>> {
        let read: String =
            LAMPS.iter().zip('a'..).map(|(pin, name)| format!("read {name} <$pins/sim_gpio{pin}/value\n")).collect();
        let text = self.machine.run(&format!(
            "read now rest </proc/uptime\nend=$((${{now%.*}} + {seconds}))\nlast=\n\
             while [ ${{now%.*}} -lt $end ]; do\nread now rest </proc/uptime\n{read}\
             [ $a$b$c$d = \"$last\" ] || echo $now $a $b $c $d\nlast=$a$b$c$d\ndone\necho $now $a $b $c $d"
        ))?;
        text.lines().map(lit).collect::<Option<Vec<_>>>().with_context(|| format!("not lamps:\n{text}"))
    }

    /// What the bytes on the bus have made of the panel.
    pub(crate) fn picture(&mut self) -> anyhow::Result<Frame> {
        Ok(self.panel.catch_up()?.frame())
    }

    /// The picture once nothing that was done is on its way any more.
    pub(crate) async fn settled(&mut self) -> anyhow::Result<Frame> {
        tokio::time::sleep(Duration::from_millis(700)).await;
        self.picture()
    }

    /// Whether the panel is switched on.
    pub(crate) fn panel_is_on(&mut self) -> anyhow::Result<bool> {
        Ok(self.panel.catch_up()?.is_on())
    }

    /// When the panel changed last, by this machine's wall clock.
    pub(crate) fn changed_at(&self) -> Duration {
        self.panel.bus().changed_at()
    }

    /// Waits until the panel shows exactly this.
    pub(crate) async fn shows(&mut self, name: &str, wanted: &Frame) -> anyhow::Result<()> {
        self.until(name, async |bench| Ok(bench.unmoved()?.contains(wanted).then(|| wanted.clone()))).await.map(drop)
    }

    /// Waits until the panel shows, pixel for pixel, what the daemon gives as `/display.png`, and something else than
    /// `before`; returns it.
    pub(crate) async fn shows_the_display(&mut self, name: &str, before: Option<&Frame>) -> anyhow::Result<Frame> {
        self.until(name, async |bench| {
            let display = bench.lan.get("/display.png").await?.body;
            let same = bench.unmoved()?.into_iter().find(|frame| frame.to_png(PNG_SCALE) == display);
            Ok(same.filter(|frame| Some(frame) != before))
        })
        .await
    }

    async fn until(
        &mut self,
        name: &str,
        mut look: impl AsyncFnMut(&mut Self) -> anyhow::Result<Option<Frame>>,
    ) -> anyhow::Result<Frame> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(frame) = look(self).await? {
                self.moved |= self.picture()? != frame;
                self.keep(name, &frame)?;
                return Ok(frame);
            }
            if Instant::now() > until {
                let seen = self.picture()?;
                self.keep(&format!("{name}-wrong"), &seen)?;
                bail!("{name}: within {PATIENCE:?} the panel showed only\n{}", seen.to_terminal());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The panel's picture moved back from each of the places to which it moves against burn-in. The pages leave the
    /// outermost pixels dark, so that nothing is lost by it.
    pub(crate) fn unmoved(&mut self) -> anyhow::Result<Vec<Frame>> {
        let frame = self.picture()?;
        let places: [(i8, i8); 9] = [(0, 0), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)];
        Ok(places.iter().map(|(x, y)| frame.shifted(-*x, -*y)).collect())
    }

    fn keep(&self, name: &str, frame: &Frame) -> anyhow::Result<()> {
        Ok(std::fs::write(self.pictures.join(format!("{name}.png")), frame.to_png(PNG_SCALE))?)
    }

    /// Waits until the daemon answers on the LAN.
    pub(crate) async fn answers(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lan.get("/health").await {
                Ok(answer) => {
                    ensure!(answer.status == 200, "{answer:?}");
                    return Ok(());
                }
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

/// The button's line, in the shell's words.
pub(crate) fn pull(button: Button) -> &'static str {
    match button {
        Button::First => "$pins/sim_gpio5/pull",
        Button::Second => "$pins/sim_gpio6/pull",
    }
}

fn lit(line: &str) -> Option<Lit> {
    let mut words = line.split(' ');
    let at = words.next()?.parse().ok()?;
    let mut next = || words.next().map(|word| word == "1");
    Some((at, [next()?, next()?, next()?, next()?]))
}
