//! Stop strings across token borders.
//!
//! The rule that does not depend on where tokens end: the stop string that is *complete* first wins; of several complete at the same
//! character, the one that began first. The text ends where it began.

/// Finds the first stop string in text that arrives in pieces, and holds back what may be its beginning.
#[derive(Clone, Debug, Default)]
pub struct StopMatcher {
    stops: Vec<String>,
    // Always a beginning of some stop string, so at most as long as the longest.
    held: String,
}

/// A stop string is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The text before it that had not been given out.
    pub text: String,
    /// Its index in the list given.
    pub index: usize,
}

impl StopMatcher {
    /// Looks for these; empty ones are ignored.
    pub fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// Takes more text and gives what is certainly not part of a stop string.
    pub fn push(&mut self, text: &str) -> Result<String, Stopped> {
        self.held.push_str(text);
        if let Some((start, index)) = self.first_complete() {
            self.held.truncate(start);
            return Err(Stopped { text: std::mem::take(&mut self.held), index });
        }
        let held = self.held.split_off(self.held.len() - self.longest_beginning());
        Ok(std::mem::replace(&mut self.held, held))
    }

    /// What was held back, when no more text comes.
    pub fn finish(self) -> String {
        self.held
    }

    fn first_complete(&self) -> Option<(usize, usize)> {
        let found = self.candidates().filter_map(|(index, stop)| {
            let start = self.held.find(stop)?;
            Some((start + stop.len(), start, index))
        });
        found.min().map(|(_, start, index)| (start, index))
    }

    // How many bytes at the end of the held text are the beginning of a stop string. Both begin with the first byte of a character, so
    // the cut is never inside one.
    fn longest_beginning(&self) -> usize {
        let held = self.held.as_bytes();
        let beginnings = self.candidates().filter_map(|(_, stop)| {
            let longest = held.len().min(stop.len() - 1);
            (1..=longest).rev().find(|&length| held.ends_with(&stop.as_bytes()[..length]))
        });
        beginnings.max().unwrap_or(0)
    }

    fn candidates(&self) -> impl Iterator<Item = (usize, &str)> {
        self.stops.iter().enumerate().map(|(index, stop)| (index, stop.as_str())).filter(|(_, stop)| !stop.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stops: &[&str], pieces: &[&str], given: &[&str], end: Result<&str, (&str, usize)>) {
        let mut matcher = StopMatcher::new(stops.iter().map(|&stop| stop.to_owned()).collect());
        let mut texts = Vec::new();
        for piece in pieces {
            match matcher.push(piece) {
                Ok(text) => texts.push(text),
                Err(stopped) => {
                    assert_eq!(
                        (texts, Err((stopped.text.as_str(), stopped.index))),
                        (owned(given), end),
                        "{stops:?} {pieces:?}"
                    );
                    return;
                }
            }
        }
        let rest = matcher.finish();
        assert_eq!((texts, Ok(rest.as_str())), (owned(given), end), "{stops:?} {pieces:?}");
    }

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn stop_strings_are_found_across_pieces() {
        // Nothing to look for: nothing held back.
        check(&[], &["a", "b"], &["a", "b"], Ok(""));
        check(&[""], &["a"], &["a"], Ok(""));
        // Within a piece, and over three.
        check(&["END"], &["abENDcd"], &[], Err(("ab", 0)));
        check(&["END"], &["abE", "N", "D"], &["ab", ""], Err(("", 0)));
        // Held back, then refuted: given out at once.
        check(&["END"], &["abE", "Nx"], &["ab", "ENx"], Ok(""));
        check(&["END"], &["abEN"], &["ab"], Ok("EN"));
        // A beginning inside a beginning.
        check(&["aab"], &["a", "a", "a", "b"], &["", "", "a"], Err(("", 0)));
        // The one complete first wins, even if another began earlier.
        check(&["abcd", "bc"], &["abcd"], &[], Err(("a", 1)));
        check(&["abcd", "bc"], &["a", "b", "c", "d"], &["", ""], Err(("a", 1)));
        // Complete at the same character: the longer one began first.
        check(&["c", "bc"], &["abc"], &[], Err(("a", 1)));
        // Characters of several bytes.
        check(&["€€"], &["x€", "€"], &["x"], Err(("", 0)));
        check(&["\n\n"], &["a\n", "b\n", "\n"], &["a", "\nb"], Err(("", 0)));
    }
}
