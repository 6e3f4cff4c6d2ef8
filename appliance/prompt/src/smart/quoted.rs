//! Follows strings and comments that go on for several lines, so that what is in them is taken for neither sentences nor
//! definitions.

use super::lines::Marks;
use crate::language::Language;

/// How one begins, and how it ends.
type Pair = (&'static str, &'static str);

const TRIPLE: &[Pair] = &[("\"\"\"", "\"\"\""), ("'''", "'''")];
const COMMENT: &[Pair] = &[("/*", "*/")];
const EITHER: &[Pair] = &[("\"\"\"", "\"\"\""), ("'''", "'''"), ("/*", "*/")];

/// Whether a string or comment of several lines is open.
pub(super) struct Quoted {
    pairs: &'static [Pair],
    closer: Option<&'static str>,
    /// A line without any of these opens and closes nothing.
    telling: Marks,
}

impl Quoted {
    pub(super) fn new(language: Option<Language>) -> Self {
        let (pairs, telling) = match language {
            Some(Language::Python) => (TRIPLE, Marks::QUOTE),
            Some(Language::Shell | Language::Yaml | Language::Toml | Language::Ruby) => (&[][..], Marks::default()),
            Some(_) => (COMMENT, Marks::STAR),
            None => (EITHER, Marks::QUOTE.and(Marks::STAR)),
        };
        Self { pairs, closer: None, telling }
    }

    pub(super) fn is_open(&self) -> bool {
        self.closer.is_some()
    }

    /// Goes on over one trimmed line.
    pub(super) fn read(&mut self, line: &str, marks: Marks) {
        if !marks.any(self.telling) {
            return;
        }
        let mut at = 0;
        loop {
            let next = match self.closer {
                Some(closer) => line[at..].find(closer).map(|found| (at + found + closer.len(), None)),
                None if line.starts_with("//") || line.starts_with("# ") => None,
                None => self.opener(line, at),
            };
            let Some((end, closer)) = next else { return };
            (at, self.closer) = (end, closer);
        }
    }

    fn opener(&self, line: &str, from: usize) -> Option<(usize, Option<&'static str>)> {
        let found = |(open, close): &Pair| {
            let at = from + line[from..].find(open)?;
            opens(line, at, open).then_some((at + open.len(), Some(*close)))
        };
        self.pairs.iter().filter_map(found).min_by_key(|(at, _)| *at)
    }
}

/// "text/*" in a string opens no comment, and "'\"\"\"'" no string.
fn opens(line: &str, at: usize, open: &str) -> bool {
    let before = &line[..at];
    let quotes = before.bytes().filter(|byte| matches!(byte, b'"' | b'\'')).count();
    if open == "/*" {
        quotes.is_multiple_of(2) && (before.is_empty() || before.ends_with([' ', '(', ';', '{', ',', '\t']))
    } else {
        !before.ends_with(['"', '\'']) && !before.contains(" #")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_after_a_line() {
        for (language, line, open) in [
            (Language::Python, "x = \"\"\"begins", true),
            (Language::Python, "\"\"\"All of it.\"\"\"", false),
            (Language::Python, "if line.startswith('\"\"\"'):", false),
            (Language::Python, "accept = 'text/*'", false),
            (Language::JavaScript, "glob('**/*.js')", false),
            (Language::C, "int a; /* begins", true),
            (Language::C, "/* all */ int a;", false),
            (Language::C, "// see /* there", false),
        ] {
            let mut quoted = Quoted::new(Some(language));
            quoted.read(line, Marks::of(line));
            assert_eq!(quoted.is_open(), open, "{line}");
        }
    }
}
