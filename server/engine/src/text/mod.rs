//! From the bytes of tokens to the text a caller sees: whole characters, and nothing of a stop string.
//!
//! Pure. Bytes come from the scheduler, one token at a time; text goes back to it. Two stages, each holding back as little as it can:
//! [`Utf8Carry`] an unfinished character, [`StopMatcher`] what may yet become a stop string. However the bytes are cut into tokens,
//! the text is the same.

mod stop;
mod utf8;

pub use stop::{StopMatcher, Stopped};
pub use utf8::Utf8Carry;

/// Both stages for one generation.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    carry: Utf8Carry,
    stops: StopMatcher,
}

impl Transcript {
    /// Ends before the first of these stop strings; empty ones are ignored.
    pub fn new(stops: Vec<String>) -> Self {
        Self { carry: Utf8Carry::default(), stops: StopMatcher::new(stops) }
    }

    /// Takes one token's bytes and gives the text that is certain by now. `Err` when a stop string is complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<String, Stopped> {
        let characters = self.carry.push(bytes);
        self.stops.push(&characters)
    }

    /// The text held back that turned out not to be a stop string. An unfinished character is dropped: it is nothing to show.
    pub fn finish(self) -> String {
        self.stops.finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // One run over the bytes cut at the given places: the text, and which stop string ended it.
    fn run(bytes: &[u8], cuts: &[usize], stops: &[String]) -> (String, Option<usize>) {
        let mut transcript = Transcript::new(stops.to_vec());
        let mut text = String::new();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        for piece in cuts.windows(2) {
            match transcript.push(&bytes[piece[0]..piece[1]]) {
                Ok(more) => text += &more,
                Err(stopped) => return (text + &stopped.text, Some(stopped.index)),
            }
        }
        (text + &transcript.finish(), None)
    }

    proptest! {
        #[test]
        fn the_text_does_not_depend_on_how_the_bytes_are_cut(
            text in "[abcß€🦀]{0,24}",
            stops in prop::collection::vec("[abcß€🦀]{0,4}", 0..4),
            cuts in prop::collection::vec(0_usize..100, 0..20),
        ) {
            let every_byte: Vec<usize> = (0..text.len()).collect();
            let whole = run(text.as_bytes(), &[], &stops);
            prop_assert_eq!(&run(text.as_bytes(), &cuts, &stops), &whole);
            prop_assert_eq!(&run(text.as_bytes(), &every_byte, &stops), &whole);
            // And it is what it should be: everything before the stop string that is complete first.
            match whole.1 {
                None => prop_assert_eq!(&whole.0, &text),
                Some(index) => {
                    let begins = text.starts_with(&(whole.0.clone() + &stops[index]));
                    prop_assert!(begins, "{:?}", whole);
                }
            }
            for stop in stops.iter().filter(|stop| !stop.is_empty()) {
                prop_assert!(!whole.0.contains(stop.as_str()));
            }
        }

        #[test]
        fn arbitrary_bytes_read_as_the_lossy_conversion_does(
            bytes in prop::collection::vec(prop::sample::select(vec![b'a', 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0xa6, 0x80, 0xff]), 0..24),
            cuts in prop::collection::vec(0_usize..100, 0..20),
        ) {
            let (text, _) = run(&bytes, &cuts, &[]);
            let lossy = String::from_utf8_lossy(&bytes).into_owned();
            // The end may be an unfinished character, which the transcript drops and the conversion marks.
            prop_assert!(text == lossy || format!("{text}\u{fffd}") == lossy, "{:?} {:?}", text, lossy);
        }
    }
}
