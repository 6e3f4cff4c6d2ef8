//! What was seen, read as a person would: how often lamps change, in what groups they blink, and what the log calls missing.

use crate::bench::Lit;

/// The parts that the log calls missing.
pub(crate) fn missing(log: &str) -> Vec<String> {
    let warnings = log.lines().filter(|line| line.contains("a part of the board is missing"));
    let error = |line: &str| line.split_once("error=").map(|(_, error)| error.to_owned());
    warnings.filter_map(error).filter_map(|error| Some(error.split_once(": ")?.0.to_owned())).collect()
}

pub(crate) const READY: usize = 0;
pub(crate) const ACTIVITY: usize = 1;
pub(crate) const UPSTREAM: usize = 2;
pub(crate) const ERROR: usize = 3;

/// How often a lamp changes.
pub(crate) fn toggles(lamps: &[Lit], lamp: usize) -> usize {
    lamps.windows(2).filter(|pair| pair[0].1[lamp] != pair[1].1[lamp]).count()
}

/// How often a lamp blinks between two pauses of a second or more; what may be cut off at either end is left out.
pub(crate) fn groups(lamps: &[Lit], lamp: usize) -> Vec<u32> {
    let mut groups = Vec::new();
    let (mut blinks, mut off_since, mut whole) = (0, lamps.first().map_or(0.0, |lit| lit.0), false);
    for pair in lamps.windows(2) {
        match (pair[0].1[lamp], pair[1].1[lamp]) {
            (false, true) => {
                if pair[1].0 - off_since > 1.0 {
                    if whole {
                        groups.push(blinks);
                    }
                    (blinks, whole) = (0, true);
                }
                blinks += 1;
            }
            (true, false) => off_since = pair[1].0,
            _ => {}
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_groups_of_blinks_are_counted() {
        // One blink that is cut off, then two groups of two, then one that is not over.
        let times = [0.1, 2.0, 2.4, 4.2, 4.6, 6.4, 6.8];
        let mut lamps = vec![(0.0, [false; 4])];
        for at in times {
            lamps.push((at, [false, false, false, true]));
            lamps.push((at + 0.2, [false; 4]));
        }
        assert_eq!(groups(&lamps, ERROR), [2, 2]);
        assert_eq!(toggles(&lamps, ERROR), 14);
        assert_eq!(groups(&[], ERROR), [0_u32; 0]);
    }

    #[test]
    fn parts_are_found_in_the_log() {
        let log = "x WARN a part of the board is missing; it is tried part=\"OLED\" error=OLED at /dev/i2c-9 address 0x3c: no\ny";
        assert_eq!(missing(log), ["OLED at /dev/i2c-9 address 0x3c"]);
    }
}
