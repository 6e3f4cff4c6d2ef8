//! Code tokens: whole identifiers and their camelCase and snake_case parts, lightly stemmed, as 32-bit fingerprints, so
//! that no string is made per token.

use super::vocabulary;

/// What a token is of its identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An identifier of several parts as a whole, in its own case.
    Whole,
    /// One part of it, in lower case and stemmed; the only part of a plain word, too.
    Part,
}

/// Letters of a part that count.
const PART_BYTES: usize = 24;

/// Calls `each` for every token of `text`, with the identifier it is from.
pub(super) fn tokens<'t>(text: &'t str, mut each: impl FnMut(Kind, u32, &'t str)) {
    identifiers(text, |identifier| {
        if identifier.bytes().skip(1).any(|byte| byte == b'_' || byte.is_ascii_uppercase()) {
            each(Kind::Whole, whole(identifier), identifier);
        }
        parts(identifier, |part| each(Kind::Part, part, identifier));
    });
}

/// Calls `each` for every identifier of `text`.
#[inline]
pub(super) fn identifiers<'t>(text: &'t str, mut each: impl FnMut(&'t str)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !CLASS[usize::from(bytes[at])] {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && CLASS[usize::from(bytes[at])] {
            at += 1;
        }
        if at - start > 1 && !bytes[start].is_ascii_digit() {
            each(&text[start..at]);
        }
    }
}

/// Calls `each` for every word of a sentence: identifiers, and words that begin with a digit ("7bit").
pub(super) fn words<'t>(text: &'t str, mut each: impl FnMut(&'t str)) {
    let is_word = |c: char| !c.is_ascii() || CLASS[c as usize];
    for word in text.split(|c| !is_word(c)).filter(|word| word.len() > 1) {
        if word.bytes().any(|byte| !byte.is_ascii_digit()) {
            each(word);
        }
    }
}

/// The fingerprint of an identifier's first part.
pub(super) fn first_part(identifier: &str) -> Option<u32> {
    let bytes = identifier.as_bytes();
    let mut start = 0;
    for at in 0..=bytes.len() {
        if at == bytes.len() || bytes[at] == b'_' || boundary(bytes, start, at) {
            if at - start > 1 {
                return Some(part(&bytes[start..at]));
            }
            start = if at < bytes.len() && bytes[at] == b'_' { at + 1 } else { at };
        }
    }
    None
}

/// Bytes of identifiers: letters, digits, the underscore, and everything beyond ASCII.
const CLASS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
        byte += 1;
    }
    table
};

/// Fingerprint of an identifier in its own case.
pub(super) fn whole(identifier: &str) -> u32 {
    hash(identifier.bytes()) | 1
}

fn hash(bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Calls `each` with the fingerprint of every part.
pub(super) fn parts(identifier: &str, mut each: impl FnMut(u32)) {
    split(identifier, |bytes| each(part(bytes)));
}

/// Calls `each` with the bytes of every part.
pub(super) fn split(identifier: &str, mut each: impl FnMut(&[u8])) {
    let bytes = identifier.as_bytes();
    let mut start = 0;
    for at in 0..=bytes.len() {
        if at == bytes.len() || bytes[at] == b'_' || boundary(bytes, start, at) {
            if at - start > 1 {
                each(&bytes[start..at]);
            }
            start = if at < bytes.len() && bytes[at] == b'_' { at + 1 } else { at };
        }
    }
}

/// Between "parse" and "Header", between "HTTP" and "Server".
fn boundary(bytes: &[u8], start: usize, at: usize) -> bool {
    let upper = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_uppercase);
    let lower = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_lowercase);
    let after_digit =
        at > start && bytes.get(at).is_some_and(u8::is_ascii_alphabetic) && bytes[at - 1].is_ascii_digit();
    after_digit || (at > start && upper(at) && (!upper(at - 1) || lower(at + 1)))
}

/// Fingerprint of one part: lower case, without the endings that English words change.
pub(super) fn part(bytes: &[u8]) -> u32 {
    let mut buffer = [0u8; PART_BYTES];
    let length = bytes.len().min(PART_BYTES);
    for (to, from) in buffer.iter_mut().zip(bytes) {
        *to = from.to_ascii_lowercase();
    }
    let word = &buffer[..length];
    // "http2" and "http" are the same here; a name of digits is nothing.
    let letters = word.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(word, |last| &word[..=last]);
    hash(cut(vocabulary::full(letters)).iter().copied()) & !1
}

/// A word in lower case without the endings that English words change.
pub(super) fn stem(word: &str) -> &str {
    word.get(..cut(word.as_bytes()).len()).unwrap_or(word)
}

/// "parses", "parsed", "parsing", "parser" and "parse" are the same.
pub(super) fn cut(word: &[u8]) -> &[u8] {
    let endings: &[&[u8]] = match word.last() {
        Some(b's') => &[b"ations", b"ers", b"ies", b"es", b"s"],
        Some(b'n') => &[b"ation"],
        Some(b'g') => &[b"ing"],
        Some(b'r') => &[b"er"],
        Some(b'd') => &[b"ed"],
        Some(b'e' | b'y') => &[],
        _ => return undouble(word),
    };
    let cut =
        endings.iter().filter_map(|ending| word.strip_suffix(*ending)).find(|rest| rest.len() >= 3).unwrap_or(word);
    let cut = match cut {
        [rest @ .., b'e' | b'y'] if rest.len() >= 3 => rest,
        _ => cut,
    };
    undouble(cut)
}

/// "stopp" of "stopped" is "stop".
fn undouble(cut: &[u8]) -> &[u8] {
    match cut {
        [rest @ .., a, b] if a == b && a.is_ascii() && rest.len() >= 2 => &cut[..rest.len() + 1],
        _ => cut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprints(identifier: &str) -> Vec<u32> {
        let mut found = Vec::new();
        parts(identifier, |part| found.push(part));
        found
    }

    #[test]
    fn parts_meet_across_styles() {
        assert_eq!(fingerprints("parseHeaderLine"), fingerprints("parse_header_line"));
        assert_eq!(fingerprints("HTTPServer"), fingerprints("http_server"));
        assert_eq!(fingerprints("__init__"), fingerprints("init"));
        assert_eq!(fingerprints("parsing"), fingerprints("parse"));
        assert_eq!(fingerprints("parser"), fingerprints("parsed"));
        assert_eq!(fingerprints("entries"), fingerprints("entry"));
        assert_eq!(fingerprints("http2time"), fingerprints("http_time"));
        assert_eq!(fingerprints("msg_idx"), fingerprints("message_indexes"));
        assert_ne!(fingerprints("header"), fingerprints("line"));
    }

    #[test]
    fn identifiers_of_a_line() {
        let mut found = Vec::new();
        identifiers("x = größe(foo_bar2, 10, y1)", |identifier| found.push(identifier));
        assert_eq!(found, ["größe", "foo_bar2", "y1"]);
    }
}
