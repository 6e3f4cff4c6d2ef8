//! Short words as numbers, so that looking one up compares no bytes.

/// A table over sorted words of at most 16 bytes of ASCII.
pub(crate) struct WordTable<const N: usize> {
    keys: [u128; N],
    /// Where the words begin that begin with each byte.
    first: [u8; 129],
    longest: usize,
}

impl<const N: usize> WordTable<N> {
    /// Over the words of a table, whatever stands beside them.
    pub(crate) const fn new<T>(words: &[(&str, T); N]) -> Self {
        assert!(N <= u8::MAX as usize, "places have 8 bits");
        let (mut keys, mut first, mut longest) = ([0; N], [0; 129], 0);
        let mut at = 0;
        while at < N {
            let word = words[at].0.as_bytes();
            assert!(!word.is_empty() && word.len() <= 16 && word[0].is_ascii(), "a number has room for 16 bytes");
            keys[at] = key(word);
            if word.len() > longest {
                longest = word.len();
            }
            at += 1;
        }
        let mut byte = 0;
        while byte < first.len() {
            let mut at = 0;
            while at < N && (words[at].0.as_bytes()[0] as usize) < byte {
                at += 1;
            }
            first[byte] = at as u8;
            byte += 1;
        }
        Self { keys, first, longest }
    }

    /// The place of a word.
    #[inline]
    pub(crate) fn find(&self, word: &[u8]) -> Option<usize> {
        let first = usize::from(*word.first().filter(|byte| byte.is_ascii() && word.len() <= self.longest)?);
        let mut places = usize::from(self.first[first])..usize::from(self.first[first + 1]);
        if places.is_empty() {
            return None;
        }
        let key = key(word);
        places.find(|at| self.keys[*at] == key)
    }
}

const fn key(word: &[u8]) -> u128 {
    let mut key = 0;
    let mut at = 0;
    while at < word.len() {
        key = key << 8 | word[at] as u128;
        at += 1;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_and_nothing_else() {
        const WORDS: [(&str, u8); 4] = [("a", 0), ("ab", 0), ("b", 0), ("sixteen_letters_", 0)];
        const TABLE: WordTable<4> = WordTable::new(&WORDS);
        for (at, (word, _)) in WORDS.iter().enumerate() {
            assert_eq!(TABLE.find(word.as_bytes()), Some(at), "{word}");
        }
        for other in ["", "c", "aa", "sixteen_letters", "sixteen_letters_x", "\u{e4}", "A"] {
            assert_eq!(TABLE.find(other.as_bytes()), None, "{other}");
        }
    }
}
