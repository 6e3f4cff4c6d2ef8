//! A table from fingerprints to numbers that no text can make slow: places are tried a fixed number of times, then the
//! newcomer is turned away. A text made to collide loses savings, not time.

/// Places tried.
const PROBES: usize = 64;
const EMPTY: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Slot {
    hash: u32,
    value: u32,
}

const VACANT: Slot = Slot { hash: 0, value: EMPTY };

/// What a fingerprint leads to.
pub(super) enum Entry {
    /// A value was there.
    Found(u32),
    /// This is the first.
    New,
    /// There is no place for it.
    Refused,
}

/// Fingerprints with a number each.
pub(super) struct Table {
    slots: Vec<Slot>,
    filled: usize,
}

impl Table {
    pub(super) fn with_capacity(values: usize) -> Self {
        Self { slots: vec![VACANT; (values * 8 / 5).next_power_of_two().max(64)], filled: 0 }
    }

    /// The value under a fingerprint that `same` accepts.
    pub(super) fn find(&self, hash: u32, same: impl Fn(u32) -> bool) -> Option<u32> {
        self.probe(hash, same).ok()
    }

    /// The value that `same` accepts, or `value` put in its place.
    #[inline]
    pub(super) fn entry(&mut self, hash: u32, value: u32, same: impl Fn(u32) -> bool) -> Entry {
        if self.filled * 8 >= self.slots.len() * 5 {
            self.grow();
        }
        match self.probe(hash, same) {
            Ok(found) => Entry::Found(found),
            Err(Some(place)) => {
                self.slots[place] = Slot { hash, value };
                self.filled += 1;
                Entry::New
            }
            Err(None) => Entry::Refused,
        }
    }

    /// The value, or the place where it would be, if there is one.
    #[inline]
    fn probe(&self, hash: u32, same: impl Fn(u32) -> bool) -> Result<u32, Option<usize>> {
        let mask = self.slots.len() - 1;
        for step in 0..PROBES {
            let place = (hash as usize).wrapping_add(step) & mask;
            let slot = self.slots[place];
            if slot.value == EMPTY {
                return Err(Some(place));
            }
            if slot.hash == hash && same(slot.value) {
                return Ok(slot.value);
            }
        }
        Err(None)
    }

    fn grow(&mut self) {
        let size = self.slots.len() * 2;
        let old = std::mem::replace(&mut self.slots, vec![VACANT; size]);
        for slot in old.into_iter().filter(|slot| slot.value != EMPTY) {
            if let Err(Some(place)) = self.probe(slot.hash, |_| false) {
                self.slots[place] = slot;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_come_first_kept() {
        let mut table = Table::with_capacity(1);
        for value in 0..1000 {
            assert!(matches!(table.entry(value * 0x9e37, value, |_| true), Entry::New));
        }
        assert!(matches!(table.entry(5 * 0x9e37, 7, |_| true), Entry::Found(5)));
        assert_eq!(table.find(999 * 0x9e37, |_| true), Some(999));
        assert_eq!(table.find(1, |_| true), None);
    }

    #[test]
    fn a_crowd_under_one_fingerprint_is_turned_away() {
        let mut table = Table::with_capacity(1);
        let refused = (0..1000).filter(|value| matches!(table.entry(7, *value, |_| false), Entry::Refused)).count();
        assert!(refused > 900, "{refused}");
    }
}
