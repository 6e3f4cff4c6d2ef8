//! A grammar as tables: rules of alternatives, alternatives of elements.

use std::collections::HashMap;

/// What stands in an alternative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// One character of a set.
    Chars(u32),
    /// What a rule gives.
    Rule(u32),
    /// This token, or any but it.
    Token { id: i32, not: bool },
    /// The alternative's end.
    End,
}

/// A whole grammar. The alternatives of a rule are the places in `elements` where they begin.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) elements: Vec<Element>,
    pub(super) rules: Vec<Option<Vec<u32>>>,
    pub(super) root: u32,
    pub(super) names_tokens: bool,
    sets: Vec<Vec<(u32, u32)>>,
    known: HashMap<Vec<(u32, u32)>, u32>,
    // Characters between two of these are in the same sets.
    borders: Vec<u32>,
}

impl Rules {
    /// The number of a set of characters, given as ranges in any order.
    pub(super) fn set(&mut self, ranges: Vec<(u32, u32)>, not: bool) -> u32 {
        let mut set = merged(ranges);
        if not {
            set = others(&set);
        }
        let next = self.sets.len() as u32;
        *self.known.entry(set).or_insert_with_key(|set| {
            self.sets.push(set.clone());
            next
        })
    }

    /// To be called when all sets are there.
    pub(super) fn seal(&mut self) {
        self.borders = self.sets.iter().flatten().flat_map(|&(low, high)| [low, high + 1]).collect();
        self.borders.sort_unstable();
        self.borders.dedup();
        self.known = HashMap::new();
    }

    /// Characters of one class are in the same sets.
    pub(super) fn class(&self, char: u32) -> u32 {
        self.borders.partition_point(|&border| border <= char) as u32
    }

    /// Whether a set has a character between these two.
    pub(super) fn meets(&self, set: u32, low: u32, high: u32) -> bool {
        let ranges = &self.sets[set as usize];
        let next = ranges.partition_point(|range| range.1 < low);
        low <= high && ranges.get(next).is_some_and(|range| range.0 <= high)
    }
}

fn merged(mut ranges: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    ranges.retain(|(low, high)| low <= high);
    ranges.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match merged.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    merged
}

fn others(set: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut from = 0;
    let mut others = Vec::with_capacity(set.len() + 1);
    for &(low, high) in set {
        if low > from {
            others.push((from, low - 1));
        }
        from = high + 1;
    }
    if from <= LAST {
        others.push((from, LAST));
    }
    others
}

/// Unicode's last character.
pub(super) const LAST: u32 = 0x10_ffff;
