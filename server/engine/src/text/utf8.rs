//! Whole characters out of bytes that may be cut anywhere.

/// Keeps the bytes of an unfinished character until the rest comes.
#[derive(Clone, Debug, Default)]
pub struct Utf8Carry {
    pending: Vec<u8>,
}

impl Utf8Carry {
    /// Takes bytes and gives the characters that are complete. Bytes that can never become one give U+FFFD, as
    /// [`String::from_utf8_lossy`] would.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.pending.len());
        let mut taken = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            taken += chunk.valid().len();
            let invalid = chunk.invalid();
            if taken + invalid.len() == self.pending.len() && is_unfinished(invalid) {
                break;
            }
            taken += invalid.len();
            if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.pending.drain(..taken);
        text
    }
}

// The beginning of a character that more bytes could complete: the standard library gives no length for such an error.
fn is_unfinished(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(pieces: &[&[u8]]) -> Vec<String> {
        let mut carry = Utf8Carry::default();
        pieces.iter().map(|piece| carry.push(piece)).collect()
    }

    #[test]
    fn characters_come_out_when_complete() {
        let crab = "🦀".as_bytes();
        let cases: [(&[&[u8]], &[&str]); 6] = [
            (&[b"ab", b"c"], &["ab", "c"]),
            (&[&crab[..1], &crab[1..3], &crab[3..]], &["", "", "🦀"]),
            (&[b"x\xe2\x82", b"\xacy"], &["x", "€y"]),
            // Never a character: shown at once, not kept.
            (&[b"\xff", b"a"], &["\u{fffd}", "a"]),
            // Begun, then contradicted.
            (&[b"\xe2\x82", b"a"], &["", "\u{fffd}a"]),
            (&[b"\xe2", b"\xe2\x82\xac"], &["", "\u{fffd}€"]),
        ];
        for (pieces, expected) in cases {
            assert_eq!(each(pieces), expected, "{pieces:?}");
        }
    }
}
