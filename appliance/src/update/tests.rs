use std::fs;

use ring::signature::{Ed25519KeyPair, KeyPair};

use super::*;

const SLOT_BYTES: u64 = 256 << 10;
const FIRST: [u64; 2] = [4096, 8192];

/// A disk with the image's table and the bundles that somebody could offer it.
struct Bench {
    folder: tempfile::TempDir,
    signer: Ed25519KeyPair,
    machine: Machine,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        let mut table = vec![0; 512];
        for (index, first) in FIRST.iter().enumerate() {
            let entry = 0x1be + 16 * (index + 1);
            table[entry + 8..entry + 12].copy_from_slice(&(*first as u32).to_le_bytes());
            table[entry + 12..entry + 16].copy_from_slice(&((SLOT_BYTES / 512) as u32).to_le_bytes());
        }
        fs::write(&disk, table).unwrap();
        OpenOptions::new().write(true).open(&disk).unwrap().set_len(8 << 20).unwrap();
        let signer = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let machine = Machine {
            disk,
            running: Slot::A,
            version: Version::new("1.2.0", 100).unwrap(),
            keys: vec![signer.public_key().as_ref().try_into().unwrap()],
        };
        // As the image is flashed: the second slot is empty.
        let file = machine.open().unwrap();
        let mut state = State::read(&file).unwrap();
        state.allow(Slot::B, 0);
        state.write(&file).unwrap();
        Self { folder, signer, machine }
    }

    fn bundle(&self, version: &str, content: &[u8]) -> Vec<u8> {
        let packed = zstd::encode_all(content, 3).unwrap();
        let manifest = format!(
            "compatible = \"cerebrum-cm4\"\nversion = \"{version}\"\ndate = 200\nslot_bytes = {}\nslot_sha256 = \"{}\"\n\
             packed_bytes = {}\npacked_sha256 = \"{}\"\n",
            content.len(),
            hex(&Sha256::digest(content)),
            packed.len(),
            hex(&Sha256::digest(&packed)),
        );
        let mut bundle = b"CRBUPD1\n".to_vec();
        bundle.extend((manifest.len() as u32).to_le_bytes());
        bundle.extend(manifest.as_bytes());
        let signature = self.signer.sign(&bundle);
        bundle.extend(signature.as_ref());
        bundle.extend(packed);
        bundle
    }

    fn stage(&self, bundle: &[u8], allow_older: bool) -> Result<Manifest, UpdateError> {
        let path = self.folder.path().join("bundle");
        fs::write(&path, bundle).unwrap();
        self.machine.stage(&path, allow_older, |_| {})
    }

    fn slot(&self, slot: Slot) -> Vec<u8> {
        let start = FIRST[slot.partition() - 2] as usize * 512;
        fs::read(&self.machine.disk).unwrap()[start..start + SLOT_BYTES as usize].to_vec()
    }
}

fn system(seed: u8) -> Vec<u8> {
    (0..150_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed).collect()
}

#[test]
fn a_good_update_is_written_tried_and_confirmed() {
    let bench = Bench::new();
    bench.stage(&bench.bundle("1.3.0", &system(1)), false).unwrap();
    assert!(bench.slot(Slot::B).starts_with(&system(1)));
    assert_eq!(bench.machine.state().unwrap().left(Slot::B), 0, "nobody has asked for a trial yet");
    assert_eq!(bench.machine.staged().unwrap().as_deref(), Some("1.3.0"));

    assert_eq!(bench.machine.try_other().unwrap(), Slot::B);
    let state = bench.machine.state().unwrap();
    assert_eq!((state.first, state.left(Slot::A), state.left(Slot::B)), (Slot::B, TRIES, TRIAL));

    // What the boot loader does, and then the new system.
    let mut state = state;
    state.allow(Slot::B, TRIAL - 1);
    let new = Machine { running: Slot::B, ..bench.machine.clone() };
    state.write(&new.open().unwrap()).unwrap();
    assert!(new.is_on_trial().unwrap() && !bench.machine.is_on_trial().unwrap());
    let path = bench.folder.path().join("next");
    fs::write(&path, bench.bundle("1.4.0", &system(2))).unwrap();
    let refused = new.stage(&path, false, |_| {}).unwrap_err().to_string();
    assert!(refused.contains("on trial") && bench.slot(Slot::A) == vec![0; SLOT_BYTES as usize], "{refused}");
    new.confirm().unwrap();
    assert!(!new.is_on_trial().unwrap());
    // The power goes twice while it starts.
    let mut state = new.state().unwrap();
    state.allow(Slot::B, TRIES - 2);
    state.write(&new.open().unwrap()).unwrap();
    assert!(!new.is_on_trial().unwrap(), "it was well once");
    new.confirm().unwrap();
    assert_eq!(new.roll_back().unwrap(), Slot::A);
    assert_eq!(new.state().unwrap().first, Slot::A);
}

#[test]
fn a_system_that_does_not_get_well_is_left_for_good() {
    let bench = Bench::new();
    bench.stage(&bench.bundle("1.3.0", &system(1)), false).unwrap();
    bench.machine.try_other().unwrap();
    assert_eq!(bench.machine.staged().unwrap(), None, "it is on its way, not waiting");
    let new = Machine { running: Slot::B, ..bench.machine.clone() };
    new.give_up().unwrap();
    let state = bench.machine.state().unwrap();
    assert_eq!((state.first, state.left(Slot::A), state.left(Slot::B)), (Slot::A, TRIES, 0));
    assert_eq!(bench.machine.staged().unwrap(), None, "nor is it offered again");
    assert!(bench.machine.try_other().is_err() && bench.machine.roll_back().is_err());
    bench.stage(&bench.bundle("1.3.1", &system(2)), false).unwrap();
    assert_eq!(bench.machine.staged().unwrap().as_deref(), Some("1.3.1"));
}

#[test]
fn a_system_that_never_came_up_is_not_offered_as_new() {
    let bench = Bench::new();
    bench.stage(&bench.bundle("1.3.0", &system(1)), false).unwrap();
    bench.machine.try_other().unwrap();
    assert_eq!(bench.machine.failed().unwrap(), None, "it is being tried");
    // The boot loader has spent both tries, and no system was there to say so.
    let mut state = bench.machine.state().unwrap();
    state.allow(Slot::B, 0);
    state.write(&bench.machine.open().unwrap()).unwrap();
    assert_eq!(bench.machine.staged().unwrap(), None);
    assert_eq!(bench.machine.failed().unwrap().as_deref(), Some("1.3.0"));
    // Whoever asks for it by its name gets it: it may have been the power.
    assert_eq!(bench.machine.try_other().unwrap(), Slot::B);
    let new = Machine { running: Slot::B, ..bench.machine.clone() };
    assert!(new.is_on_trial().unwrap());
    new.confirm().unwrap();
    assert!(!new.is_on_trial().unwrap());
}

#[test]
fn nothing_is_written_of_what_is_refused() {
    let bench = Bench::new();
    let good = bench.bundle("1.3.0", &system(1));
    let before = fs::read(&bench.machine.disk).unwrap();
    let flipped = |place: usize| {
        let mut bad = good.clone();
        bad[place] ^= 1;
        bad
    };
    let other_key = Bench { signer: Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap(), ..Bench::new() };
    let refused = |bundle: &[u8]| bench.stage(bundle, false).unwrap_err().to_string();
    assert!(refused(b"").contains("no update bundle"));
    assert!(refused(b"PK\x03\x04 something else entirely").contains("no update bundle"));
    assert!(refused(&other_key.bundle("1.3.0", &system(1))).contains("not signed"));
    assert!(refused(&flipped(20)).contains("not signed"));
    assert!(refused(&flipped(good.len() - 1000)).contains("damaged"));
    for length in [50, good.len() / 2, good.len() - 1] {
        let sentence = refused(&good[..length]);
        assert!(sentence.contains("torn") || sentence.contains("no update bundle"), "{length}: {sentence}");
    }
    assert!(refused(&[good.clone(), vec![0]].concat()).contains("torn"));
    assert!(refused(&bench.bundle("1.1.9", &system(1))).contains("older than the running"));
    assert!(refused(&bench.bundle("1.3.0", &vec![0; SLOT_BYTES as usize])).contains("a slot has"));
    assert_eq!(fs::read(&bench.machine.disk).unwrap(), before);

    assert!(bench.stage(&bench.bundle("1.1.9", &system(1)), true).is_ok(), "unless it is asked for");
}

#[test]
fn a_slot_that_was_not_written_whole_is_never_tried() {
    let bench = Bench::new();
    assert!(bench.machine.try_other().unwrap_err().to_string().contains("nothing to start in slot b"));
    assert!(bench.machine.roll_back().is_err());
    bench.stage(&bench.bundle("1.3.0", &system(1)), false).unwrap();
    bench.machine.try_other().unwrap();
    // Another update begins over it, and the power goes: what was good is barred before the first byte.
    let disk = bench.machine.open().unwrap();
    let (start, room) = partition(&disk, Slot::B).unwrap();
    let path = bench.folder.path().join("next");
    fs::write(&path, bench.bundle("1.4.0", &system(2))).unwrap();
    let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        bench.machine.stage(&path, false, |_| std::panic::resume_unwind(Box::new("the power goes")))
    }));
    assert!(cut.is_err());
    let state = bench.machine.state().unwrap();
    assert_eq!((state.first, state.left(Slot::B)), (Slot::A, 0));
    assert!(Mark::read(&disk, start, room).unwrap().is_none());
    assert!(bench.machine.try_other().is_err());
    bench.machine.stage(&path, false, |_| {}).unwrap();
    assert!(bench.machine.try_other().is_ok() && bench.slot(Slot::B).starts_with(&system(2)));
}

#[test]
fn the_power_may_go_at_any_of_ten_points() {
    let content: Vec<u8> = (0..200_u32 << 10).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for cut in 1..=10 {
        let bench = Bench::new();
        let path = bench.folder.path().join("bundle");
        fs::write(&path, bench.bundle("1.3.0", &content)).unwrap();
        let running = bench.slot(Slot::A);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            bench.machine.stage(&path, false, |share| {
                if share * 10.0 >= f64::from(cut) {
                    std::panic::resume_unwind(Box::new("the power goes"));
                }
            })
        }));
        assert!(outcome.is_err(), "point {cut} was not reached");
        let state = bench.machine.state().unwrap();
        assert_eq!((state.first, state.left(Slot::A), state.left(Slot::B)), (Slot::A, TRIES, 0), "point {cut}");
        assert_eq!(bench.slot(Slot::A), running, "point {cut}");
        assert!(bench.machine.try_other().is_err(), "point {cut}");
        bench.machine.stage(&path, false, |_| {}).unwrap();
        assert!(bench.machine.try_other().is_ok() && bench.slot(Slot::B).starts_with(&content), "point {cut}");
    }
}

#[test]
fn versions_are_compared_as_numbers_and_then_by_date() {
    let version = |numbers: &str, date| Version::new(numbers, date).unwrap();
    assert!(version("0.10.0", 0) > version("0.9.9", 9) && version("1.0.0", 2) > version("1.0.0", 1));
    assert!(Version::new("1.x", 0).is_none());
}

#[test]
fn keys_are_read_line_by_line() {
    let line = "00".repeat(32);
    assert_eq!(bundle::keys(&format!("# ours\n{line} # 2026\nnonsense\n")), [[0; 32]]);
}
