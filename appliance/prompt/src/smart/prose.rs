//! Tells sentences from code, a line at a time, by marks and word shapes.

/// Words of code that a line of prose does not begin with, unless more of the line speaks for prose.
const CODE_STARTS: [&str; 26] = [
    "import ",
    "from ",
    "def ",
    "class ",
    "fn ",
    "pub ",
    "let ",
    "const ",
    "var ",
    "return ",
    "struct ",
    "enum ",
    "impl ",
    "use ",
    "mod ",
    "package ",
    "func ",
    "function ",
    "typedef ",
    "static ",
    "extern ",
    "export ",
    "global ",
    "raise ",
    "assert ",
    "del ",
];

/// Whether a trimmed line reads like a sentence or a part of one.
pub(super) fn is_prose(line: &str) -> bool {
    let Some(first) = line.chars().next() else { return false };
    if !(first.is_alphabetic() || matches!(first, '`' | '-' | '*' | '>' | '"' | '(') || first.is_ascii_digit()) {
        return false;
    }
    let assigns = (line.contains(" = ") || line.contains(" == ")) && !(first.is_uppercase() && is_sentence(line));
    let assigns = assigns || has_comment(line);
    if assigns
        || line.ends_with([';', '{', '}', '[', '\\', '='])
        || CODE_STARTS.iter().any(|start| is_statement(line, start))
    {
        return false;
    }
    let (words, marks) = shape(line);
    words >= 3 && marks * 3 <= words
}

/// `//` that is no part of an address.
fn has_comment(line: &str) -> bool {
    line.match_indices("//").any(|(at, _)| !line[..at].ends_with(':'))
}

/// "import os" is a statement, "import the settings from the old file instead." is not.
fn is_statement(line: &str, start: &str) -> bool {
    line.starts_with(start) && !is_sentence(line)
}

fn is_sentence(line: &str) -> bool {
    line.ends_with(['.', '?', '!']) && line.split(' ').count() > 5
}

/// One of `$%&()*+;<=>[\]^{|}~`.
fn is_mark(byte: u8) -> bool {
    matches!(byte, b'$'..=b'&' | b'('..=b'+' | b';'..=b'>' | b'['..=b'^' | b'{'..=b'~')
}

/// Words of letters, and marks of code; what is in backticks counts as one word.
fn shape(line: &str) -> (usize, usize) {
    let (mut words, mut marks, mut in_word, mut quoted) = (0, 0, false, false);
    for byte in line.bytes() {
        if byte == b'`' {
            quoted = !quoted;
            words += usize::from(quoted);
        }
        if quoted {
            continue;
        }
        let letter = byte.is_ascii_alphabetic() || byte >= 0x80 || byte == b'\'';
        words += usize::from(letter && !in_word);
        in_word = letter || (in_word && matches!(byte, b'_' | b'0'..=b'9'));
        marks += usize::from(is_mark(byte));
    }
    (words, marks)
}

/// Whether a trimmed line is part of a stack trace or a compiler's message.
pub(super) fn is_trace(line: &str) -> bool {
    let starts =
        ["Traceback (", "File \"", "at ", "thread '", "error:", "error[", "warning:", "--> ", "panicked at", "Error:"];
    starts.iter().any(|start| line.starts_with(start)) || place(line).is_some()
}

/// A place such as `src/app.py:31`, `File "a.py", line 3`, `a.c(12)`: path and line number.
pub(super) fn place(line: &str) -> Option<(&str, usize)> {
    if let Some(rest) = line.split_once("File \"").map(|(_, rest)| rest) {
        let (path, rest) = rest.split_once('"')?;
        let number = rest.split_once("line ")?.1;
        return Some((path, leading_number(number)?));
    }
    line.match_indices(':').find_map(|(at, _)| {
        let number = leading_number(&line[at + 1..])?;
        let start =
            line[..at].rfind(|c: char| c.is_whitespace() || "\"'(`<,".contains(c)).map_or(0, |before| before + 1);
        let path = line[..at].get(start..)?;
        let extension = path.rsplit_once('.')?.1;
        (!extension.is_empty() && extension.len() <= 5 && extension.chars().all(char::is_alphanumeric))
            .then_some((path, number))
    })
}

fn leading_number(text: &str) -> Option<usize> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_and_code() {
        for line in [
            "Refactor `parse(x)` to use async and await.",
            "Please make this faster:",
            "- keep the public interface as it is",
            "import the settings from the old file instead.",
            "Why does the second version return nothing?",
            "Überarbeite die Funktion, bitte",
            "Fail if the two are unequal as determined by the == operator.",
            "Follow the rules of https://example.org/style, please",
        ] {
            assert!(is_prose(line), "{line}");
        }
        for line in [
            "import os",
            "from os import path, sep, name",
            "x = compute(y)",
            "return self.value",
            "if (a && b) {",
            "# a comment is no sentence of its own",
            "}",
            "",
            "foo bar;",
        ] {
            assert!(!is_prose(line), "{line}");
        }
    }

    #[test]
    fn places() {
        for (line, expected) in [
            ("  File \"lib/a.py\", line 31, in f", Some(("lib/a.py", 31))),
            ("   --> src/main.rs:12:5", Some(("src/main.rs", 12))),
            ("    at f (/srv/app/a.js:3:9)", Some(("/srv/app/a.js", 3))),
            ("ends at 12:30 today", None),
            ("no place", None),
        ] {
            assert_eq!(place(line), expected, "{line}");
        }
    }
}
