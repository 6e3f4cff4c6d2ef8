//! `make test-board-vm`: the cross-built daemon on an emulated Raspberry Pi with the kernel's own drivers, from a button's
//! edge to the pixels that the bytes on the I2C bus draw and the levels that the lamps' pins have.
//!
//! Needs what `make cross` and `tests/board-vm/pack.sh` have made. Ends every process it starts. Pictures of what was seen go
//! to `target/vm/pictures`.

mod bench;
mod cases;
mod machine;
mod seen;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use cerebrum_common::pki::{IDENTITY_DAYS, Role};
use cerebrum_tests::client::Client;
use cerebrum_tests::stack::Site;
use cerebrum_tests::vm::{self, Tally, say};

use bench::Bench;
use cases::{Figures, Run};
use machine::Machine;

fn main() -> ExitCode {
    vm::main(try_everything())
}

async fn try_everything() -> anyhow::Result<bool> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no tree")?;
    let pictures = tree.join("target/vm/pictures");
    std::fs::create_dir_all(&pictures)?;
    let site = Site::new()?;
    let hosts = ["host".to_owned(), "localhost".to_owned()];
    site.authority.issue("server", Role::Server, &hosts, IDENTITY_DAYS)?.save(site.folder(), "server")?;
    say("starting cerebrum-server with the bundled model on this machine");
    let server = site.start_server("")?;
    say("starting an emulated Raspberry Pi (half a minute)");
    let began = Instant::now();
    let mut machine = Machine::start(tree, site.appliance.port())?;
    let (boot_s, uptime) = (began.elapsed().as_secs_f32(), machine.uptime()?);
    say(&format!(
        "it is up after {boot_s:.1} s, {uptime:.1} s by its own clock; pictures go to {}",
        pictures.display()
    ));
    prepare(&mut machine, &site)?;
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    let bench = Bench::new(machine, lan, pictures)?;
    let mut run = Run { bench, site, server, figures: Figures::default() };
    let Tally { good, all } = cases(&mut run).await;
    let Figures { splash_ms, press_ms, rss_mib } = run.figures;
    say(&format!(
        "RESULT board_cases={good}/{all} boot_s={boot_s:.1} splash_ms={splash_ms} press_ms={press_ms} rss_mib={rss_mib:.1}"
    ));
    Ok(good == all)
}

/// The machine gets the files that the settings name.
fn prepare(machine: &mut Machine, site: &Site) -> anyhow::Result<()> {
    for name in ["ca.pem", "appliance.pem", "appliance.key", "server.secret", "appliance-keys.toml"] {
        let content = std::fs::read_to_string(site.folder().join(name))?;
        machine.put(&format!("/etc/cerebrum/{name}"), content.trim_end())?;
    }
    Ok(())
}

async fn cases(run: &mut Run) -> Tally {
    let mut tally = Tally::default();
    macro_rules! case {
        ($name:ident, $what:literal) => {
            let began = Instant::now();
            let outcome = run.$name().await;
            tally.count($what, began, outcome);
        };
    }
    case!(splash, "the splash is on the panel within a second of the daemon's start");
    case!(ready, "ready: status page, ready lamp breathes, upstream lamp steady, the others dark");
    case!(pages, "a button's edge turns the page, there and back");
    case!(bounce, "bouncing contacts turn one page");
    case!(power_off, "power-off asks first");
    case!(generating, "a prompt through to the server and back: request page, activity lamp");
    case!(pairing, "a client gets its key by a press");
    case!(reset, "both buttons: countdown, and reset after ten seconds only");
    case!(update, "an update has its page, and a long press applies it");
    case!(server_gone, "the server goes: two blinks and the problem page; it comes back: dark");
    case!(clock, "a clock that is behind is said to be; set right, all is well");
    case!(moves, "the picture moves against burn-in");
    case!(shutdown, "after SIGTERM the last picture stays and the lamps are dark");
    case!(self_test, "cerebrumd --check-board draws its pattern and reports");
    case!(wrong_address, "a panel at another address: one warning, everything else works");
    case!(nothing_there, "no bus and no pins: one warning each, prompts are answered");
    case!(plugged_in_later, "bus and pins that come later, and pins that go and come");
    tally
}
