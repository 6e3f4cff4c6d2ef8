//! What must be sent so that the panel shows another picture.
//!
//! Owns the choice of bytes: a full picture takes 1 KiB, 23 ms on a 400 kHz bus, and most pictures differ from the one before
//! by a digit. Pure; `oled` sends the runs.

use crate::frame::{Frame, PAGES, WIDTH};

/// Unchanged bytes that are sent along, because starting a new run costs the bus two address commands and a data header.
const BRIDGE: usize = 12;

/// Bytes of one page that lie side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run<'a> {
    /// Which row of eight pixels, 0 to 7.
    pub page: u8,
    /// The first column, 0 to 127.
    pub column: u8,
    /// The bytes from there on.
    pub bytes: &'a [u8],
}

/// The runs that turn the panel's memory from `old` (unknown: everything) into `new`, from top to bottom.
#[must_use]
pub fn runs<'a>(old: Option<&Frame>, new: &'a Frame) -> Vec<Run<'a>> {
    let mut runs = Vec::new();
    for page in 0..PAGES {
        let row = page * WIDTH..(page + 1) * WIDTH;
        let after = &new.bytes()[row.clone()];
        let changed = |column: &usize| old.is_none_or(|old| old.bytes()[row.clone()][*column] != after[*column]);
        for (first, last) in spans((0..WIDTH).filter(changed)) {
            runs.push(Run { page: page as u8, column: first as u8, bytes: &after[first..=last] });
        }
    }
    runs
}

/// Joins columns that lie close to each other.
fn spans(columns: impl Iterator<Item = usize>) -> Vec<(usize, usize)> {
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for column in columns {
        match spans.last_mut() {
            Some((_, last)) if column - *last <= BRIDGE => *last = column,
            _ => spans.push((column, column)),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Page, render, samples};

    fn applied(old: &Frame, runs: &[Run<'_>]) -> Frame {
        let mut memory = *old.bytes();
        for run in runs {
            let start = usize::from(run.page) * WIDTH + usize::from(run.column);
            memory[start..start + run.bytes.len()].copy_from_slice(run.bytes);
        }
        Frame::from_bytes(memory)
    }

    fn sent(runs: &[Run<'_>]) -> usize {
        runs.iter().map(|run| run.bytes.len()).sum()
    }

    #[test]
    fn an_unknown_panel_gets_everything_and_the_same_picture_nothing() {
        let frame = render(&samples::busy(), Page::Request);
        assert_eq!((runs(None, &frame).len(), sent(&runs(None, &frame))), (8, 1_024));
        assert_eq!(runs(Some(&frame), &frame), []);
    }

    #[test]
    fn one_more_token_costs_less_than_a_tenth_of_a_picture() {
        let mut snapshot = samples::busy();
        let before = render(&snapshot, Page::Request);
        snapshot.request.as_mut().expect("a request").tokens += 1;
        let after = render(&snapshot, Page::Request);
        let changes = runs(Some(&before), &after);
        assert!((1..100).contains(&sent(&changes)), "{changes:?}");
    }

    proptest! {
        #[test]
        fn the_panel_ends_with_the_same_picture_as_after_a_full_flush(
            before in prop::collection::vec(any::<u8>(), WIDTH * PAGES),
            changes in prop::collection::vec((0..WIDTH * PAGES, any::<u8>()), 0..200),
        ) {
            let old = Frame::from_bytes(before.try_into().expect("the right size"));
            let mut bytes = *old.bytes();
            changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
            let new = Frame::from_bytes(bytes);
            let partial = runs(Some(&old), &new);
            prop_assert_eq!(applied(&old, &partial), applied(&old, &runs(None, &new)));
            prop_assert_eq!(applied(&old, &partial), new.clone());
            prop_assert!(sent(&partial) <= WIDTH * PAGES);
        }
    }
}
