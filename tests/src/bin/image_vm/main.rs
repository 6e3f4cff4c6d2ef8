//! `make test-image`: the image itself, from its boot loader to an answer, on an emulated Raspberry Pi.
//!
//! Needs what `make image` and `tests/image-vm/board.sh` have made, OpenSSH's client, and root (for the emulated machine's time
//! server). Ends every process it starts. What it leaves lies in `target/image/vm`: the card, the console's text, pictures.

mod cases;
mod clock;
mod machine;
mod updates;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use cerebrum_tests::vm::{self, Tally, say};

use cases::Run;
use machine::Place;

fn main() -> ExitCode {
    vm::main(try_everything())
}

async fn try_everything() -> anyhow::Result<bool> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no tree")?.to_owned();
    let folder = tree.join("target/image/vm");
    std::fs::create_dir_all(&folder)?;
    clock::serve()?;
    let place = Place { tree: tree.clone(), folder };
    let mut run = Run::new(place)?;
    let Tally { good, all } = cases(&mut run).await;
    let mib = |path: &str| -> anyhow::Result<f64> {
        Ok(std::fs::metadata(tree.join(path)).with_context(|| path.to_owned())?.len() as f64 / f64::from(1 << 20))
    };
    let image = std::fs::read_dir(tree.join("target/image/out"))
        .ok()
        .and_then(|entries| entries.flatten().find(|entry| entry.path().extension().is_some_and(|end| end == "zst")))
        .map(|entry| entry.metadata())
        .transpose()?;
    // Left by `make image-check`, and taken away when an image is built anew.
    let reproducible = match std::fs::read_to_string(tree.join("target/image/reproducible")) {
        Ok(word) if word.trim() == "yes" => "yes",
        Ok(_) => "no",
        Err(_) => "unchecked",
    };
    let figures = &run.figures;
    say(&format!("{good} of {all} cases are good"));
    say(&format!(
        "RESULT image_mib={:.1} root_mib={:.1} daemon_mib={:.1} first_answer_s={} idle_mib={} reproducible={reproducible} \
         update_cases={}/{}",
        image.map_or(0.0, |image| image.len() as f64 / f64::from(1 << 20)),
        mib("target/image/root.squashfs")?,
        mib("target/cross/aarch64/cerebrumd")?,
        figures.first_answer_s.map_or("none".into(), |seconds| format!("{seconds:.0}")),
        figures.idle_mib.map_or("none".into(), |mib| format!("{mib:.0}")),
        figures.updates.good,
        figures.updates.all,
    ));
    Ok(good == all)
}

async fn cases(run: &mut Run) -> Tally {
    let mut tally = Tally::default();
    // Names of cases, for who works on one; each needs those before it that start the machine.
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    macro_rules! case {
        ($name:ident, $what:literal) => {
            if wanted.is_empty() || wanted.iter().any(|name| name == stringify!($name)) {
                let began = Instant::now();
                let outcome = run.$name().await;
                tally.count($what, began, outcome);
            }
        };
    }
    case!(bad_settings, "wrong settings: told beside the file and on the panel; SSH, which was right, lets in");
    case!(
        good_settings,
        "mended settings: after a new start, a prompt goes to the server outside over mutual TLS and back"
    );
    case!(well, "no unit has failed; the clock is right; the panel shows the status");
    case!(read_only, "the root cannot be written, nor made writable");
    case!(closed, "no passwords, and only the wanted ports are open");
    case!(idle, "memory in use when idle");
    case!(restarted, "a request that comes while the daemon starts anew is answered");
    case!(gave_up, "a daemon that refuses its settings: the panel says so, and the way back");
    case!(network, "an address that is told instead of asked for, and a tunnel that calls its other end");
    case!(logs, "a log that is to be kept outlives a power cut");
    case!(refused, "updates that are torn, damaged, unsigned or older are refused");
    case!(updated, "a good update: written, started, healthy, confirmed");
    case!(harmed_slot, "a slot with a harmed kernel is passed over at once, and the other confirmed");
    case!(unhealthy, "an update that starts and never gets healthy: back to the old system by itself");
    case!(power_cuts, "the power goes at ten points of an update: it always starts, and nothing is lost");
    case!(kept, "a power cut: keys, host key and machine's identity are as before");
    case!(verity, "a flipped bit of the root: the kernel refuses it");
    tally
}
