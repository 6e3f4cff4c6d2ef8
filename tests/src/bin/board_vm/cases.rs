//! What should be seen on the board, case by case, in the order in which they are tried.
//!
//! Owns the expectations. Pictures are compared pixel for pixel: with what the project's own code draws for a status that is
//! known here, and with what the daemon gives as `/display.png`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, ensure};
use cerebrum_board::{
    Button, Cause, Fault, Frame, Offers, Page, Pairing, Snapshot, Stage, Update, UpdateState, render,
};
use cerebrum_tests::client::{Client, eventually};
use cerebrum_tests::stack::{Program, Site};
use serde_json::json;

use crate::bench::Bench;
use crate::seen::{ACTIVITY, ERROR, READY, UPSTREAM, groups, missing, toggles};

const SHORT: Duration = Duration::from_millis(120);
const LONG: Duration = Duration::from_millis(1200);
/// The goal for the splash, after the daemon's start.
const SPLASH: Duration = Duration::from_secs(1);
/// Starts of which the best counts.
const STARTS: u32 = 4;

/// Everything that a case works on.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) bench: Bench,
    pub(crate) site: Site,
    pub(crate) server: Program,
    pub(crate) figures: Figures,
}

/// What is measured on the way.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) splash_ms: u128,
    pub(crate) press_ms: u128,
    pub(crate) rss_mib: f64,
}

/// The daemon's settings: `board` goes into its section.
pub(crate) fn settings(site: &Site, board: &str) -> String {
    format!(
        "listen = \"0.0.0.0:7000\"\nkeys_file = \"appliance-keys.toml\"\n\n\
         [board]\nbackend = \"cdev\"\n{board}\n\n\
         [[upstream]]\nname = \"vps\"\nurl = \"https://host:{}\"\nkey_file = \"server.secret\"\n\
         ca = \"ca.pem\"\ncertificate = \"appliance.pem\"\nkey = \"appliance.key\"\n",
        site.server.port()
    )
}

/// Waits in the machine until this file is there: what a press starts runs beside the daemon.
fn appears(path: &str) -> String {
    format!("n=0; while [ ! -e {path} ] && [ $n -lt 100 ]; do usleep 100000; n=$((n+1)); done; [ -e {path} ]")
}

fn wiring(chip: &str) -> String {
    format!(
        "gpio_chip = \"{chip}\"\nfactory_reset = [\"touch\", \"/tmp/reset\"]\npower_off = [\"touch\", \"/tmp/off\"]\n\
         apply_update = [\"touch\", \"/tmp/applied\"]\nupdate_file = \"/tmp/update.toml\""
    )
}

/// What is known of the appliance from here: enough for the pages that show no figures.
fn known() -> Snapshot {
    Snapshot {
        addresses: vec![IpAddr::V4(Ipv4Addr::new(10, 0, 2, 15))],
        version: env!("CARGO_PKG_VERSION").to_owned(),
        stage: Stage::Ready,
        offers: Offers::ALL,
        ..Snapshot::default()
    }
}

/// The page that asks about a client, whatever time is left.
fn pairing_pages(client: &str, code: &str) -> Vec<Frame> {
    let allowed = Duration::from_secs(60);
    let page = |left: u32| {
        let remaining = allowed * left / 500;
        let pairing = Pairing { id: 1, client: client.to_owned(), code: code.to_owned(), remaining, allowed };
        render(&Snapshot { pairing: Some(pairing), ..known() }, Page::Pairing)
    };
    (0..=500).map(page).collect()
}

impl Run {
    async fn start(&mut self) -> anyhow::Result<Duration> {
        let chip = self.bench.chip()?;
        let at = self.bench.start_daemon(&settings(&self.site, &wiring(&chip)))?;
        Ok(at)
    }

    /// The best of some starts counts: the emulated machine is many times slower than a real one, and others share its
    /// processors.
    pub(crate) async fn splash(&mut self) -> anyhow::Result<()> {
        for attempt in 1.. {
            let start = self.start().await?;
            self.bench.shows("splash", &render(&known(), Page::Splash)).await?;
            // It is lit once the picture is there.
            let until = tokio::time::Instant::now() + Duration::from_secs(10);
            while !self.bench.panel_is_on()? {
                ensure!(tokio::time::Instant::now() < until, "the panel is off");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let took = self.bench.changed_at().saturating_sub(start);
            self.figures.splash_ms = took.as_millis();
            if took <= SPLASH {
                break;
            }
            ensure!(attempt < STARTS, "the splash took {took:?}, and {SPLASH:?} is the goal");
            self.bench.stop_daemon()?;
        }
        Ok(())
    }

    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        self.bench.answers().await?;
        eventually(&self.bench.lan, "/health", |health| health["vps_available"] == true).await?;
        self.bench.shows_the_display("status", Some(&render(&known(), Page::Splash))).await?;
        let lamps = self.bench.lamps(5)?;
        ensure!(toggles(&lamps, READY) > 4, "the ready lamp does not breathe: {lamps:?}");
        ensure!(toggles(&lamps, UPSTREAM) == 0 && lamps[0].1[UPSTREAM], "the upstream lamp is not steady: {lamps:?}");
        ensure!(toggles(&lamps, ERROR) == 0 && !lamps[0].1[ERROR], "the error lamp is lit: {lamps:?}");
        ensure!(toggles(&lamps, ACTIVITY) == 0 && !lamps[0].1[ACTIVITY], "the activity lamp is lit: {lamps:?}");
        self.figures.rss_mib = self.bench.rss_mib()?;
        Ok(())
    }

    pub(crate) async fn pages(&mut self) -> anyhow::Result<()> {
        let status = self.bench.shows_the_display("status", None).await?;
        let network = render(&known(), Page::Network);
        let pressed = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH)?;
        self.bench.press(Button::First, SHORT)?;
        self.bench.shows("network", &network).await?;
        self.figures.press_ms = self.bench.changed_at().saturating_sub(pressed + SHORT).as_millis();
        let shown = self.bench.shows_the_display("network", Some(&status)).await?;
        ensure!(shown == network, "the daemon shows another page than the panel");
        self.bench.press(Button::First, SHORT)?;
        let servers = self.bench.shows_the_display("servers", Some(&network)).await?;
        self.bench.press(Button::Second, SHORT)?;
        self.bench.shows("network", &network).await?;
        self.bench.press(Button::Second, SHORT)?;
        let back = self.bench.shows_the_display("status", Some(&network)).await?;
        ensure!(back != servers, "back is not back");
        Ok(())
    }

    /// Contacts that bounce turn one page, and not none or several.
    pub(crate) async fn bounce(&mut self) -> anyhow::Result<()> {
        let network = render(&known(), Page::Network);
        while !self.bench.press_bouncing(Button::First)? {
            self.turn_to(&network).await?;
            self.bench.press(Button::Second, SHORT)?;
        }
        self.bench.shows("bounced", &network).await?;
        ensure!(self.bench.settled().await? == network, "more than one page was turned");
        while !self.bench.press_bouncing(Button::Second)? {
            self.turn_to(&network).await?;
        }
        // One page back is one page from there.
        ensure!(self.bench.settled().await? != network, "no page was turned");
        self.bench.press(Button::First, SHORT)?;
        ensure!(self.bench.settled().await? == network, "more than one page was turned back");
        self.bench.press(Button::Second, SHORT)
    }

    /// Turns pages until this one is shown.
    async fn turn_to(&mut self, page: &Frame) -> anyhow::Result<()> {
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        while self.bench.settled().await? != *page {
            ensure!(tokio::time::Instant::now() < until, "the machine is too slow for contacts that bounce");
            self.bench.press(Button::Second, SHORT)?;
        }
        Ok(())
    }

    pub(crate) async fn power_off(&mut self) -> anyhow::Result<()> {
        // From the status page, wherever the case before has ended.
        self.turn_to(&render(&known(), Page::Network)).await?;
        self.bench.press(Button::Second, SHORT)?;
        // A long press is for the page that was seen when it began.
        self.bench.settled().await?;
        self.bench.press(Button::First, LONG)?;
        let question = render(&known(), Page::ConfirmPowerOff);
        self.bench.shows("power-off", &question).await?;
        self.bench.settled().await?;
        self.bench.press(Button::First, SHORT)?;
        self.bench.shows_the_display("status", Some(&question)).await?;
        self.bench.machine.run("[ ! -e /tmp/off ]").context("the machine was switched off without being asked")?;
        self.bench.press(Button::First, LONG)?;
        self.bench.shows("power-off", &question).await?;
        self.bench.settled().await?;
        self.bench.press(Button::First, LONG)?;
        self.bench.machine.run(&appears("/tmp/off")).context("the machine was not switched off").map(drop)
    }

    /// A prompt goes from this machine's LAN side through the emulated appliance to the real server and back.
    pub(crate) async fn generating(&mut self) -> anyhow::Result<()> {
        let status = self.bench.shows_the_display("status", None).await?;
        let request = json!({"prompt": "def fibonacci(n):", "max_tokens": 4000, "temperature": 0.8});
        // Held still, so that the panel and the display can be compared while they show a request; some answers are short, and
        // over before that.
        let stream = loop {
            let mut stream = self.bench.lan.stream("/v1/complete/stream", &request).await?;
            for _ in 0..20 {
                let token = stream.next().await?.context("the stream ended early")?;
                ensure!(token["token"].is_string(), "{token}");
            }
            self.server.signal("STOP")?;
            if self.bench.lan.get("/health").await?.json()?["active_count"] == 1 {
                break stream;
            }
            self.server.signal("CONT")?;
        };
        let shown = self.bench.shows_the_display("request", Some(&status)).await;
        let lamps = self.bench.lamps(3);
        self.server.signal("CONT")?;
        ensure!(shown? != status, "the panel does not show the request");
        let lamps = lamps?;
        // Ten times a second, of which a slow machine sees some; a slow blink has two.
        let seconds = lamps.last().map_or(0.0, |last| last.0) - lamps[0].0;
        ensure!(toggles(&lamps, ACTIVITY) as f64 > 4.0 * seconds, "the activity lamp does not blink fast: {lamps:?}");
        drop(stream);
        self.bench.shows_the_display("status", None).await?;
        eventually(&self.bench.lan, "/health", |health| health["active_count"] == 0).await.map(drop)
    }

    pub(crate) async fn pairing(&mut self) -> anyhow::Result<()> {
        let before = self.bench.shows_the_display("status", None).await?;
        let begun = self.bench.lan.post("/v1/pair", &json!({"name": "a laptop"})).await?.json()?;
        let (claim, code) = (begun["claim"].as_str().context("no claim")?, begun["code"].as_str().context("no code")?);
        let decision = format!("/v1/pair/{}", begun["id"]);
        // Its client waits all the while: an attempt without one is withdrawn.
        let asking = self.bench.lan.clone().with_header("x-pairing-claim", claim);
        let waiting = async {
            loop {
                let decision = asking.get(&decision).await?.json()?;
                if decision["state"] != "waiting" {
                    return anyhow::Ok(decision);
                }
            }
        };
        let pressing = async {
            let shown = self.bench.shows_the_display("pairing", Some(&before)).await?;
            ensure!(
                pairing_pages("a laptop", code).contains(&shown),
                "not this client with the code {code}:\n{}",
                shown.to_terminal()
            );
            tokio::time::sleep(Duration::from_secs(3)).await; // a person reads
            self.bench.press(Button::First, SHORT)
        };
        let (decision, ()) = tokio::try_join!(waiting, pressing)?;
        ensure!(decision["state"] == "granted", "{decision}");
        let key = decision["key"].as_str().context("no key")?;
        let paired = Client::plain(self.site.appliance, Some(key));
        ensure!(paired.get("/v1/models").await?.status == 200, "the key is not taken");
        Ok(())
    }

    pub(crate) async fn reset(&mut self) -> anyhow::Result<()> {
        self.bench.hold_both(Duration::from_secs(3))?;
        // Fingers are lifted for longer than contacts bounce.
        self.bench.machine.run("usleep 300000; [ ! -e /tmp/reset ]").context("reset after three seconds")?;
        let down = Button::ALL.map(|button| format!("echo pull-down >{}", crate::bench::pull(button))).join("\n");
        self.bench.machine.run(&down)?;
        let counting = self.bench.shows("reset", &render(&known(), Page::Reset { seconds_left: 5 })).await;
        counting.with_context(|| self.bench.log().unwrap_or_default())?;
        self.bench.machine.run("usleep 7000000; [ -e /tmp/reset ]").context("no reset after ten seconds")?;
        let up = Button::ALL.map(|button| format!("echo pull-up >{}", crate::bench::pull(button))).join("\n");
        self.bench.machine.run(&up).map(drop)
    }

    /// What `cerebrum update` leaves word of has a page of its own, and a long press there applies it.
    pub(crate) async fn update(&mut self) -> anyhow::Result<()> {
        let update = Some(Update { version: "9.8.7".to_owned(), state: UpdateState::RestartNeeded });
        let page = render(&Snapshot { update, ..known() }, Page::Update);
        self.bench.machine.put("/tmp/update.toml", "version = \"9.8.7\"\nstage = \"restart-needed\"")?;
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        while !self.bench.unmoved()?.contains(&page) {
            ensure!(tokio::time::Instant::now() < until, "there is no page of the update");
            self.bench.press(Button::First, SHORT)?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.bench.shows("update", &page).await?;
        self.bench.machine.run("[ ! -e /tmp/applied ]").context("applied without being asked")?;
        self.bench.press(Button::First, LONG)?;
        self.bench.machine.run(&appears("/tmp/applied")).context("not applied")?;
        // Without an update there is no such page, and the status comes back.
        self.bench.machine.run("rm /tmp/update.toml")?;
        self.bench.shows_the_display("status", Some(&page)).await.map(drop)
    }

    /// The server goes, and comes back.
    pub(crate) async fn server_gone(&mut self) -> anyhow::Result<()> {
        self.server.kill();
        let before = self.bench.shows_the_display("status-alone", None).await?;
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let lamps = self.bench.lamps(8)?;
            let groups = groups(&lamps, ERROR);
            if groups.iter().filter(|blinks| **blinks == 2).count() >= 2 {
                break;
            }
            ensure!(tokio::time::Instant::now() < until, "no two blinks of the error lamp: {groups:?} {lamps:?}");
        }
        self.bench.shows_the_display("problem", Some(&before)).await?;
        self.server = self.site.start_server("")?;
        eventually(&self.bench.lan, "/health", |health| health["vps_available"] == true).await?;
        self.bench.shows_the_display("status", None).await?;
        // A moment after the page, and for good.
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let lamps = self.bench.lamps(4)?;
            if toggles(&lamps, ERROR) == 0 && !lamps[0].1[ERROR] {
                return Ok(());
            }
            ensure!(tokio::time::Instant::now() < until, "the error lamp stays lit: {lamps:?}");
        }
    }

    /// A machine without a battery starts in the past, where no certificate is valid yet.
    pub(crate) async fn clock(&mut self) -> anyhow::Result<()> {
        self.bench.stop_daemon()?;
        self.bench.machine.run("date -s @1000000000")?;
        self.start().await?;
        let message = "vps's certificate is not valid yet. Is the clock set?".to_owned();
        let error = Some(Fault { cause: Cause::Clock, message });
        let problem = render(&Snapshot { error, ..known() }, Page::Error);
        self.bench.shows("problem-clock", &problem).await?;
        let lamps = self.bench.lamps(10)?;
        let (wanted, groups) = (Cause::Clock.blinks(), groups(&lamps, ERROR));
        let blinks = wanted.long + wanted.short;
        ensure!(!groups.is_empty() && groups.iter().all(|&seen| seen == blinks), "{groups:?} blinks: {lamps:?}");
        self.bench.set_clock()?;
        self.bench.shows_the_display("status", Some(&problem)).await?;
        eventually(&self.bench.lan, "/health", |health| health["vps_available"] == true).await.map(drop)
    }

    pub(crate) async fn moves(&mut self) -> anyhow::Result<()> {
        ensure!(self.bench.moved, "the picture has never been moved in minutes");
        Ok(())
    }

    pub(crate) async fn shutdown(&mut self) -> anyhow::Result<()> {
        let code = self.bench.stop_daemon()?;
        ensure!(code == 0, "the daemon ended with {code}:\n{}", self.bench.log()?);
        let stopped = render(&Snapshot { stage: Stage::Stopped, ..known() }, Page::Shutdown);
        self.bench.shows("stopped", &stopped).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.bench.shows("stopped", &stopped).await?;
        ensure!(self.bench.panel_is_on()?, "the panel is off");
        let lamps = self.bench.lamps(1)?;
        ensure!(lamps.iter().all(|(_, lit)| *lit == [false; 4]), "lamps stay lit: {lamps:?}");
        Ok(())
    }

    pub(crate) async fn self_test(&mut self) -> anyhow::Result<()> {
        let check = format!("cerebrumd --check-board --config {}", crate::bench::SETTINGS);
        self.bench.machine.run(&format!("{check} >/tmp/check 2>&1 &\ncheck=$!"))?;
        let pattern = Snapshot { name: "/dev/i2c-1 0x3c".to_owned(), ..known() };
        self.bench.shows("test-pattern", &render(&pattern, Page::Test)).await?;
        let (report, code) = self.bench.machine.attempt("wait $check\ncode=$?\ncat /tmp/check\n(exit $code)")?;
        ensure!(code == 0 && report.contains("screen   ok") && report.contains("lamps    ok"), "{report}");
        Ok(())
    }

    /// The panel is somewhere else than the settings say.
    pub(crate) async fn wrong_address(&mut self) -> anyhow::Result<()> {
        let chip = self.bench.chip()?;
        let before = self.bench.picture()?;
        let board = format!("{}\naddress = 0x3d", wiring(&chip));
        self.bench.start_daemon(&settings(&self.site, &board))?;
        self.bench.answers().await?;
        tokio::time::sleep(Duration::from_secs(8)).await; // several tries
        let log = self.bench.log()?;
        ensure!(missing(&log) == ["OLED at /dev/i2c-1 address 0x3d"], "{log}");
        ensure!(self.bench.picture()? == before, "another panel was drawn on");
        ensure!(toggles(&self.bench.lamps(3)?, READY) > 2, "the lamps do not work without the panel");
        self.bench.stop_daemon().map(drop)
    }

    pub(crate) async fn nothing_there(&mut self) -> anyhow::Result<()> {
        let board = "i2c_bus = \"/dev/i2c-9\"\ngpio_chip = \"/dev/gpiochip9\"";
        self.bench.start_daemon(&settings(&self.site, board))?;
        self.bench.answers().await?;
        eventually(&self.bench.lan, "/health", |health| health["vps_available"] == true).await?;
        let request = json!({"prompt": "def fibonacci(n):", "max_tokens": 8});
        let answer = self.bench.lan.post("/v1/complete", &request).await?;
        ensure!(answer.status == 200, "{answer:?}");
        let log = self.bench.log()?;
        let lines = "/dev/gpiochip9 lines";
        let mut told = missing(&log);
        told.sort_unstable();
        let wanted = [
            "OLED at /dev/i2c-9 address 0x3c".to_owned(),
            format!("buttons at {lines} [5, 6]"),
            format!("lamps at {lines} [17, 27, 22, 23]"),
        ];
        ensure!(told == wanted, "{log}");
        self.bench.stop_daemon().map(drop)
    }

    /// Bus and pins are plugged in after the daemon's start, and the pins are pulled out and plugged in again.
    pub(crate) async fn plugged_in_later(&mut self) -> anyhow::Result<()> {
        let chip = self.bench.chip()?;
        let bus = "/sys/bus/platform/drivers/i2c-bcm2835";
        self.bench.machine.run(&format!("echo 3f804000.i2c >{bus}/unbind"))?;
        self.pins(false)?;
        let before = self.bench.picture()?;
        self.bench.start_daemon(&settings(&self.site, &wiring(&chip)))?;
        self.bench.answers().await?;
        ensure!(self.bench.picture()? == before, "drawn without a bus");
        self.bench.machine.run(&format!("echo 3f804000.i2c >{bus}/bind"))?;
        self.pins(true)?;
        let shown = self.bench.shows_the_display("plugged-in", Some(&before)).await?;
        self.pressed_at_last(&shown).await?;
        self.pins(false)?;
        self.pins(true)?;
        let shown = self.bench.shows_the_display("pins-again", None).await?;
        self.pressed_at_last(&shown).await?;
        // One word of each part's loss, and one when it has been well for a while, however often it came and went.
        let until = tokio::time::Instant::now() + Duration::from_secs(120);
        while toggles(&self.bench.lamps(5)?, READY) <= 2 {
            ensure!(tokio::time::Instant::now() < until, "the lamps do not come back:\n{}", self.bench.log()?);
        }
        while self.bench.log()?.matches("this part of the board answers again").count() < 3 {
            ensure!(tokio::time::Instant::now() < until, "{}", self.bench.log()?);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        self.bench.stop_daemon().map(drop)
    }

    /// Takes the simulated pins away or brings them back, under whatever number.
    fn pins(&mut self, there: bool) -> anyhow::Result<()> {
        let live = u8::from(there);
        self.bench.machine.run(&format!("echo {live} >/sys/kernel/config/gpio-sim/board/live"))?;
        if there { self.bench.find_pins() } else { Ok(()) }
    }

    /// Presses until the page turns: the buttons are tried again only from time to time.
    async fn pressed_at_last(&mut self, before: &cerebrum_board::Frame) -> anyhow::Result<()> {
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        while self.bench.picture()? == *before {
            ensure!(tokio::time::Instant::now() < until, "the buttons do not come back:\n{}", self.bench.log()?);
            self.bench.press(Button::First, SHORT)?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }
}
