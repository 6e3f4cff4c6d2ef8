//! The boot loader's state: which slot goes first, and how often each may still be tried.
//!
//! Owns the two copies on the disk, in U-Boot's own form: CRC-32 of the rest, then `name=value` strings, each ended by a zero
//! byte, in 512 bytes. The boot loader counts down before it starts a slot; the system counts up once it is healthy. Both write
//! one copy after the other, so that a cut leaves at least one whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of one copy.
const SIZE: usize = 512;
/// Where the copies are, in bytes from the disk's beginning.
const PLACES: [u64; 2] = [2048 * 512, 2064 * 512];
/// How often a healthy slot may be started without becoming healthy again.
pub const TRIES: u32 = 3;

/// One of the two systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The first one, which the image is flashed with.
    A,
    /// The second one, empty at first.
    B,
}

impl Slot {
    /// As the boot loader writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::A, Self::B].into_iter().find(|slot| slot.name() == name)
    }

    const fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }

    /// Number of its partition.
    pub const fn partition(self) -> usize {
        self.index() + 2
    }
}

/// What the boot loader goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The slot that is tried first.
    pub first: Slot,
    left: [u32; 2],
}

impl State {
    /// How often `slot` may still be started; 0 passes it over.
    pub fn left(&self, slot: Slot) -> u32 {
        self.left[slot.index()]
    }

    /// Sets how often `slot` may be started.
    pub fn allow(&mut self, slot: Slot, tries: u32) {
        self.left[slot.index()] = tries;
    }

    /// Reads the first copy that is whole.
    ///
    /// # Errors
    /// The system's complaint; a disk whose copies are both harmed has what the boot loader assumes then: both slots may be tried.
    pub fn read(disk: &File) -> io::Result<Self> {
        for place in PLACES {
            let mut copy = [0; SIZE];
            disk.read_exact_at(&mut copy, place)?;
            if let Some(state) = Self::parse(&copy) {
                return Ok(state);
            }
        }
        Ok(Self { first: Slot::A, left: [TRIES; 2] })
    }

    /// Writes both copies, the second only when the first is on the disk.
    ///
    /// # Errors
    /// The system's complaint.
    pub fn write(&self, disk: &File) -> io::Result<()> {
        for place in PLACES {
            disk.write_all_at(&self.bytes(), place)?;
            disk.sync_all()?;
        }
        Ok(())
    }

    fn parse(copy: &[u8; SIZE]) -> Option<Self> {
        let (sum, rest) = copy.split_at(4);
        if sum != crc32(rest).to_le_bytes() {
            return None;
        }
        let text = std::str::from_utf8(rest).ok()?;
        let value = |name: &str| {
            let mut entries = text.split('\0').take_while(|entry| !entry.is_empty());
            entries.find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
        };
        // The boot loader counts in hexadecimal; numbers here never reach two digits.
        let left = |name: &str| value(name).map_or(Some(0), |number| number.parse().ok());
        let first = Slot::named(value("order")?.split(' ').next()?)?;
        Some(Self { first, left: [left("a_left")?, left("b_left")?] })
    }

    fn bytes(&self) -> [u8; SIZE] {
        let (first, second) = (self.first.name(), self.first.other().name());
        let text = format!("a_left={}\0b_left={}\0order={first} {second}\0\0", self.left[0], self.left[1]);
        let mut copy = [0; SIZE];
        copy[4..4 + text.len()].copy_from_slice(text.as_bytes());
        let sum = crc32(&copy[4..]);
        copy[..4].copy_from_slice(&sum.to_le_bytes());
        copy
    }
}

/// CRC-32 as in zlib and U-Boot (reflected, polynomial 0xedb88320).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |mut sum, byte| {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
        }
        sum
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> File {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(2 << 20).unwrap();
        disk
    }

    #[test]
    fn the_sum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn what_is_written_is_read_and_one_copy_is_enough() {
        let state = State { first: Slot::B, left: [3, 1] };
        for harmed in PLACES {
            let disk = disk();
            state.write(&disk).unwrap();
            assert_eq!(State::read(&disk).unwrap(), state);
            disk.write_all_at(b"torn", harmed + 100).unwrap();
            assert_eq!(State::read(&disk).unwrap(), state);
        }
    }

    #[test]
    fn without_a_whole_copy_both_slots_may_be_tried() {
        assert_eq!(State::read(&disk()).unwrap(), State { first: Slot::A, left: [TRIES; 2] });
    }

    #[test]
    fn what_the_boot_loader_writes_is_understood() {
        // As `env export -c -s 0x200` gives it: the names in any order, a count in hexadecimal without prefix.
        let mut copy = [0; SIZE];
        let text = b"order=b a\0a_left=2\0b_left=0\0\0";
        copy[4..4 + text.len()].copy_from_slice(text);
        let sum = crc32(&copy[4..]);
        copy[..4].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(State::parse(&copy), Some(State { first: Slot::B, left: [2, 0] }));
    }
}
