//! Follows strings and comments that go on for several lines, so that what is in them is taken for neither sentences nor
//! definitions. A few rules for each family of languages; what they cannot read they leave closed.

use super::lines::Marks;
use crate::language::Language;

/// What is open at the end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    /// A comment, up to `*/`.
    Comment,
    /// A string of three of these quotes.
    Triple(u8),
    /// A string up to this quote, in which a backslash hides the next character.
    String(u8),
    /// A raw string of Rust, with so many `#` behind its quote.
    Raw(u8),
}

/// How a language writes strings and comments.
#[derive(Clone, Copy, Debug, Default)]
struct Style {
    slashes: bool,
    hashes: bool,
    triple: bool,
    /// Strings in double quotes may go on over several lines.
    long_strings: bool,
    /// Strings in backticks do.
    backticks: bool,
    /// A single quote begins a string, not only a character.
    single: bool,
    /// `r#"` begins a string, and a single quote may begin a lifetime.
    rust: bool,
    /// `/` may begin a regular expression.
    regex: bool,
    /// Quotes within a line are not looked at: prose has them anywhere.
    loose: bool,
}

impl Style {
    fn of(language: Option<Language>) -> Self {
        use Language::{Go, Java, JavaScript, Kotlin, Python, Ruby, Rust, Shell, Swift, Toml, TypeScript, Yaml};
        let none = Self::default();
        let slashes = Self { slashes: true, single: true, ..none };
        match language {
            Some(Python) => Self { hashes: true, triple: true, single: true, ..none },
            Some(Toml) => Self { hashes: true, triple: true, single: true, ..none },
            Some(Shell | Yaml | Ruby) => Self { hashes: true, loose: true, ..none },
            Some(Rust) => Self { slashes: true, long_strings: true, rust: true, ..none },
            Some(JavaScript | TypeScript) => Self { backticks: true, regex: true, ..slashes },
            Some(Go) => Self { backticks: true, ..slashes },
            Some(Java | Kotlin | Swift) => Self { triple: true, ..slashes },
            Some(_) => slashes,
            None => Self { triple: true, slashes: true, loose: true, ..none },
        }
    }

    fn telling(self) -> Marks {
        let quotes = self.triple || self.long_strings || self.backticks || self.rust;
        let marks = if quotes { Marks::QUOTE } else { Marks::default() };
        if self.slashes { marks.and(Marks::STAR) } else { marks }
    }
}

/// Whether a string or comment of several lines is open.
pub(super) struct Quoted {
    style: Style,
    open: Option<Open>,
    /// A line without any of these opens and closes nothing.
    telling: Marks,
    /// How the line looks that opened what is open.
    opener: Opener,
}

/// What is remembered of a line that opens a string or comment, to notice that it was torn out of its place.
#[derive(Clone, Copy, Debug, Default)]
struct Opener {
    indent: u32,
    /// It begins with the quotes, as documentation does.
    leads: bool,
    /// It is nothing but the quotes: the end of a string whose beginning is missing looks the same.
    bare: bool,
    /// The line after it began with a star.
    starred: Option<bool>,
}

impl Quoted {
    pub(super) fn new(language: Option<Language>) -> Self {
        let style = Style::of(language);
        Self { style, open: None, telling: style.telling(), opener: Opener::default() }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether the line, indented so far, cannot be in what is open: the end of that was cut off, or what opened it was the
    /// end of another. Pastes that begin or end in the middle of documentation are common.
    fn is_torn(&mut self, line: &str, indent: u32) -> bool {
        let opener = self.opener;
        match self.open {
            Some(Open::Comment) => {
                let star = line.starts_with('*');
                let starred = *self.opener.starred.get_or_insert(star);
                starred && !star && !line.is_empty()
            }
            Some(Open::Triple(quote)) => {
                let less = indent < opener.indent || (opener.bare && indent == opener.indent);
                // Closing quotes are not followed by a word.
                let opens_anew = line.as_bytes().starts_with(&[quote; 3])
                    && line.as_bytes().get(3).is_some_and(u8::is_ascii_alphabetic);
                (opener.leads && less && defines(line)) || opens_anew
            }
            _ => false,
        }
    }

    fn note_opener(&mut self, line: &str, indent: u32) {
        let leads = line.starts_with("\"\"\"") || line.starts_with("'''");
        self.opener = Opener { indent, leads, bare: leads && line.len() == 3, starred: None };
    }

    /// Goes on over one trimmed line with its indentation. Returns whether it begins inside a string or comment.
    pub(super) fn read(&mut self, line: &str, indent: u32, marks: Marks) -> bool {
        if self.open.is_some() && self.is_torn(line, indent) {
            self.open = None;
        }
        let inside = self.open.is_some();
        if marks.any(self.telling) {
            self.bytes(line);
            if !inside && self.open.is_some() {
                self.note_opener(line, indent);
            }
        }
        inside
    }

    fn bytes(&mut self, line: &str) {
        let bytes = line.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            at = match self.open {
                Some(open) => match close(bytes, at, open) {
                    Some(end) => {
                        self.open = None;
                        end
                    }
                    None => return,
                },
                None => self.step(bytes, at),
            };
        }
    }

    /// One step outside strings and comments: the place to go on from.
    fn step(&mut self, bytes: &[u8], at: usize) -> usize {
        let style = self.style;
        let rest = &bytes[at..];
        match bytes[at] {
            b'#' if style.hashes && (at == 0 || bytes[at - 1] == b' ') => bytes.len(),
            b'/' if style.slashes && rest.starts_with(b"//") && (!style.loose || at == 0) => bytes.len(),
            b'/' if style.slashes && rest.starts_with(b"/*") && (!style.loose || begins(bytes, at)) => {
                self.open = Some(Open::Comment);
                at + 2
            }
            b'/' if style.regex && regex_may_begin(&bytes[..at]) => close_regex(bytes, at + 1).unwrap_or(at + 1),
            quote @ (b'"' | b'\'') if style.triple && rest.starts_with(&[quote; 3]) && opens(bytes, at) => {
                if ends_sentence(bytes, at) {
                    return bytes.len();
                }
                self.open = Some(Open::Triple(quote));
                at + 3
            }
            b'r' if style.rust
                && !at.checked_sub(1).is_some_and(|before| is_word(bytes[before]) && bytes[before] != b'b') =>
            {
                let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
                if rest.get(hashes + 1) == Some(&b'"') && hashes < 250 {
                    self.open = Some(Open::Raw(hashes as u8));
                    return at + hashes + 2;
                }
                at + 1
            }
            b'\'' if style.rust => after_character(bytes, at),
            b'"' if style.long_strings => {
                self.open = Some(Open::String(b'"'));
                at + 1
            }
            b'`' if style.backticks => {
                self.open = Some(Open::String(b'`'));
                at + 1
            }
            quote @ (b'"' | b'\'') if !style.loose && (quote == b'"' || style.single) => {
                // Unclosed at the end of the line: an apostrophe, or a line that goes on, which does not matter here.
                close(bytes, at + 1, Open::String(quote)).unwrap_or(bytes.len())
            }
            _ => at + 1,
        }
    }
}

/// Where what is open ends, if it does on this line.
fn close(bytes: &[u8], from: usize, open: Open) -> Option<usize> {
    let mut at = from;
    while at < bytes.len() {
        let rest = &bytes[at..];
        match open {
            Open::Comment if rest.starts_with(b"*/") => return Some(at + 2),
            Open::Triple(quote) if rest.starts_with(&[quote; 3]) => return Some(at + 3),
            Open::String(quote) if bytes[at] == quote => return Some(at + 1),
            Open::Raw(hashes) if bytes[at] == b'"' => {
                let hashes = usize::from(hashes);
                if rest[1..].iter().take_while(|byte| **byte == b'#').count() >= hashes {
                    return Some(at + 1 + hashes);
                }
            }
            Open::Triple(_) | Open::String(_) if bytes[at] == b'\\' => at += 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where a regular expression ends on this line.
fn close_regex(bytes: &[u8], from: usize) -> Option<usize> {
    let (mut at, mut class) = (from, false);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'[' => class = true,
            b']' => class = false,
            b'/' if !class => return Some(at + 1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// After an operator or an opening bracket `/` divides nothing.
fn regex_may_begin(before: &[u8]) -> bool {
    before.iter().rev().find(|byte| **byte != b' ').is_none_or(|byte| b"(,=:[!&|?{};+>".contains(byte))
}

/// After `'x'` or `'\n'`; a lifetime is only a quote.
fn after_character(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at + 1) {
        Some(b'\\') => close(bytes, at + 1, Open::String(b'\'')).unwrap_or(at + 1),
        Some(_) => {
            let end = bytes[at + 1..].iter().take(5).skip(1).position(|byte| *byte == b'\'');
            end.filter(|end| *end == 0 || bytes[at + 1] >= 0x80).map_or(at + 1, |end| at + 3 + end)
        }
        None => at + 1,
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// "text/*" in a sentence opens no comment.
fn begins(bytes: &[u8], at: usize) -> bool {
    at == 0 || b" (;{,\t".contains(&bytes[at - 1])
}

/// `'"""'` is a string of three quotes, and opens nothing.
fn opens(bytes: &[u8], at: usize) -> bool {
    at == 0 || !matches!(bytes[at - 1], b'"' | b'\'')
}

/// The header of a definition of Python, which no documentation has at its margin.
fn defines(line: &str) -> bool {
    let header = ["def ", "class ", "async def "].iter().any(|word| line.starts_with(word));
    header && line.ends_with([':', '(', ','])
}

/// Quotes at the end of a line right behind a sentence: they close a string whose beginning is missing.
fn ends_sentence(bytes: &[u8], at: usize) -> bool {
    let word = bytes[..at].iter().rev().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let prefix = word > 0 && word <= 2 && bytes[at - word..at].iter().all(|byte| b"rbfuRBFU".contains(byte));
    at + 3 == bytes.len()
        && at > 0
        && !prefix
        && (word > 0 || bytes[at - 1] == b'.')
        && bytes[..at].contains(&b' ')
        && !bytes[..at].contains(&b'=')
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
            (Language::Python, "# it's \"\"\"quoted", false),
            (Language::Python, "and the end of another.\"\"\"", false),
            (Language::Python, "return u\"\"\"", true),
            (Language::JavaScript, "glob('**/*.js')", false),
            (Language::JavaScript, "throw new Error(`begins", true),
            (Language::JavaScript, "const a = `all of it`", false),
            (Language::JavaScript, "s.replace(/[`'\"]/g, '')", false),
            (Language::JavaScript, "const half = a / b // don't `", false),
            (Language::Go, "const text = `begins", true),
            (Language::Rust, "let text = \"begins", true),
            (Language::Rust, "let text = r#\"begins \" here", true),
            (Language::Rust, "let text = r#\"all\"#;", false),
            (Language::Rust, "fn a<'a>(x: &'a str, y: char) -> bool { y == '\"' }", false),
            (Language::Rust, "match c { '\\'' | '\\\\' => \"x\", 'é' => \"y\" }", false),
            (Language::C, "int a; /* begins", true),
            (Language::C, "/* all */ int a;", false),
            (Language::C, "// see /* there", false),
            (Language::C, "char c = '\"'; /* begins", true),
        ] {
            let mut quoted = Quoted::new(Some(language));
            quoted.read(line, 0, Marks::of(line));
            assert_eq!(quoted.is_open(), open, "{line}");
        }
    }

    #[test]
    fn it_closes_again() {
        for (language, lines) in [
            (Language::JavaScript, ["a(`one", "two \\` three`)"]),
            (Language::Rust, ["a(\"one \\", "two \\\" three\")"]),
            (Language::Rust, ["a(r##\"one", "two \"# three\"##)"]),
            (Language::Python, ["'''one", "two \\''' three'''"]),
        ] {
            let mut quoted = Quoted::new(Some(language));
            for line in lines {
                quoted.read(line, 0, Marks::of(line));
            }
            assert!(!quoted.is_open(), "{lines:?}");
        }
    }

    /// Whether each line begins inside something.
    fn inside(language: Language, text: &str) -> Vec<bool> {
        let mut quoted = Quoted::new(Some(language));
        let read = |line: &str| {
            let indent = (line.len() - line.trim_start().len()) as u32;
            quoted.read(line.trim(), indent, Marks::of(line))
        };
        text.lines().map(read).collect()
    }

    #[test]
    fn a_definition_ends_documentation_that_was_cut_off() {
        let text = "    def a(self):\n        \"\"\"Cut off\n        here.\n    def b(self):\n        pass\n";
        assert_eq!(inside(Language::Python, text), [false, false, true, false, false]);
        let text = "        the end.\n        \"\"\"\n        x = 1\n    def b(self):\n        \"\"\"Whole.\"\"\"\n";
        assert_eq!(inside(Language::Python, text), [false, false, true, false, false]);
        let text = "        the end.\"\"\"\n        x = 1\n        \"\"\"\n        y = 2\n        \"\"\"Whole.\n        \"\"\"\n";
        assert_eq!(inside(Language::Python, text), [false, false, false, true, false, true]);
        let text = "x = dedent(\"\"\"\ndef a():\n    pass\n\"\"\")\n";
        assert_eq!(inside(Language::Python, text), [false, true, true, true]);
    }

    #[test]
    fn a_line_without_a_star_ends_a_comment_of_stars() {
        let text = "/**\n * Cut off\nint a() {\n";
        assert_eq!(inside(Language::C, text), [false, true, false]);
        let text = "/*\nAll of\n * it\n*/\n";
        assert_eq!(inside(Language::C, text), [false, true, true, true]);
    }
}
