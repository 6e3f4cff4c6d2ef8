//! Cuts text into windows of fixed length that overlap, counted in characters and never inside one.

/// Length of a window.
const WINDOW_CHARS: usize = 1000;
/// Characters that a window shares with the one before it.
const OVERLAP_CHARS: usize = 150;
const STRIDE_CHARS: usize = WINDOW_CHARS - OVERLAP_CHARS;

/// The windows in order. The last one may be shorter, and is the first to reach the end of the text: another one after
/// it could hold nothing new.
pub(super) fn cut(text: &str) -> Vec<&str> {
    let mut windows = Vec::new();
    let mut start = 0;
    loop {
        let rest = &text[start..];
        let end = offset(rest, WINDOW_CHARS);
        windows.push(&rest[..end]);
        if end == rest.len() {
            return windows;
        }
        start += offset(rest, STRIDE_CHARS);
    }
}

/// Where the first `chars` characters of `text` end, in bytes.
fn offset(text: &str, chars: usize) -> usize {
    text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_by_length() {
        for (length, expected) in [
            (0, vec![0]),
            (1000, vec![1000]),
            (1001, vec![1000, 151]),
            (1850, vec![1000, 1000]),
            (1851, vec![1000, 1000, 151]),
        ] {
            let text = "é".repeat(length);
            let found: Vec<usize> = cut(&text).iter().map(|window| window.chars().count()).collect();
            assert_eq!(found, expected, "{length} characters");
        }
    }

    #[test]
    fn neighbours_share_the_overlap() {
        let text: String = ('a'..='z').cycle().take(2500).collect();
        let windows = cut(&text);
        for pair in windows.windows(2) {
            assert_eq!(pair[0][STRIDE_CHARS..], pair[1][..OVERLAP_CHARS]);
        }
    }
}
