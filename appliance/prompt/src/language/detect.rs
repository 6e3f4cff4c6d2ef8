//! What language is a prompt written in? The first of these that answers: the request's own field, the tag of a fence,
//! a file path, a shebang, keywords. "Unknown" is an answer too: a wrong language picks a wrong model.

use super::{Language, keywords};

/// The name for no language in particular.
pub const UNKNOWN: &str = "unknown";

/// Text looked at for keywords; more of it changes no answer.
const KEYWORD_BYTES: usize = 4096;
/// Lines looked at for fences, paths and shebangs.
const HEADER_LINES: usize = 400;

/// The outcome of a detection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detected {
    /// The language; absent when nothing told it.
    pub language: Option<Language>,
    /// What told it.
    pub source: Source,
}

impl Detected {
    /// The language's name, or [`UNKNOWN`].
    #[must_use]
    pub fn name(self) -> &'static str {
        self.language.map_or(UNKNOWN, Language::name)
    }
}

/// What told a language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The request's `language` field.
    Field,
    /// The tag of a fence.
    Fence,
    /// The extension of a path on a line of its own or in a comment.
    Path,
    /// A `#!` line.
    Shebang,
    /// Weighted keywords.
    Keywords,
    /// Nothing.
    #[default]
    Unknown,
}

/// The name of a prompt's language, or [`UNKNOWN`].
#[must_use]
pub fn detect(prompt: &str) -> &'static str {
    identify(prompt, None).name()
}

/// The language of a prompt; `field` is what the request says itself.
#[must_use]
pub fn identify(prompt: &str, field: Option<&str>) -> Detected {
    let field = field.and_then(Language::from_name).map(|language| (Source::Field, language));
    let found = field
        .or_else(|| told_by_a_line(prompt))
        .or_else(|| keywords::guess(head(prompt)).map(|language| (Source::Keywords, language)));
    match found {
        Some((source, language)) => Detected { language: Some(language), source },
        None => Detected::default(),
    }
}

/// What single lines tell: fences before paths before shebangs, and the first of each, in one walk over the lines.
fn told_by_a_line(prompt: &str) -> Option<(Source, Language)> {
    let (mut path, mut command) = (None, None);
    for line in prompt.lines().take(HEADER_LINES) {
        let line = line.trim();
        if let Some(language) = fence_tag(line) {
            return Some((Source::Fence, language));
        }
        path = path.or_else(|| path_line(line).map(|(_, language)| (Source::Path, language)));
        command = command.or_else(|| shebang(line).map(|language| (Source::Shebang, language)));
    }
    path.or(command)
}

/// "```rust", "~~~ {.python}", "```ts title=x".
pub(crate) fn fence_tag(line: &str) -> Option<Language> {
    let tag = line.strip_prefix("```").or_else(|| line.strip_prefix("~~~"))?;
    let tag = tag.trim_start_matches(['`', '~', ' ', '{', '.']);
    let end = tag.find(|c: char| !(c.is_alphanumeric() || matches!(c, '+' | '#'))).unwrap_or(tag.len());
    Language::from_name(&tag[..end])
}

/// A line that is a path and little else: "# src/main.rs", "=== lib/app.py ===", "File: a/b.c:".
pub(crate) fn path_line(line: &str) -> Option<(&str, Language)> {
    const AROUND: &[char] = &['#', '/', '*', '=', '-', '+', ' ', '<', '>', '!', ';', '"', '\'', '`', ':', '[', ']'];
    // Most lines of code end here: these signs are never trimmed away, and no path has them.
    let mut dotted = false;
    for byte in line.bytes() {
        if matches!(byte, b'(' | b')' | b'{' | b'}' | b',') {
            return None;
        }
        dotted |= byte == b'.';
    }
    if !dotted {
        return None;
    }
    let bare = line.trim_matches(AROUND);
    let bare = bare.strip_prefix("File").or_else(|| bare.strip_prefix("file")).unwrap_or(bare).trim_matches(AROUND);
    if bare.is_empty() || bare.len() > 200 || bare.contains(|c: char| c.is_whitespace() || "(){};,=".contains(c)) {
        return None;
    }
    let (stem, extension) = bare.rsplit_once('.')?;
    let named = bare.contains('/') || bare != line;
    let language = Language::from_name(extension)?;
    (named && !stem.is_empty()).then_some((bare, language))
}

fn shebang(line: &str) -> Option<Language> {
    let command = line.strip_prefix("#!")?;
    command
        .split(['/', ' '])
        .filter(|word| !word.is_empty() && *word != "env")
        .find_map(|word| Language::from_name(word.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')))
}

/// The first few kilobytes, cut between characters.
fn head(prompt: &str) -> &str {
    &prompt[..prompt.floor_char_boundary(KEYWORD_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(prompt: &str, field: Option<&str>, language: Option<Language>, source: Source) {
        assert_eq!(identify(prompt, field), Detected { language, source }, "{prompt}");
    }

    #[test]
    fn in_order_of_trust() {
        use Language::*;
        check("```rust\nfn a() {}\n```", Some("python"), Some(Python), Source::Field);
        check("```rust\nfn a() {}\n```", Some("klingon"), Some(Rust), Source::Fence);
        check("Fix this:\n```c++ title=a\nint a;\n```", None, Some(Cpp), Source::Fence);
        check("# src/app/main.py\nx = 1\n", None, Some(Python), Source::Path);
        check("=== web/a.tsx ===\nlet a\n", None, Some(TypeScript), Source::Path);
        check("// File: lib/a.go\n", None, Some(Go), Source::Path);
        check("#!/usr/bin/env python3\nx\n", None, Some(Python), Source::Shebang);
        check("#!/bin/sh -e\nx\n", None, Some(Shell), Source::Shebang);
        check("Write me a poem about the sea.", None, None, Source::Unknown);
        check("", None, None, Source::Unknown);
    }

    #[test]
    fn an_empty_or_foreign_tag_says_nothing() {
        check("```\nhello\n```", None, None, Source::Unknown);
        check("```text\nhello\n```", None, None, Source::Unknown);
    }

    #[test]
    fn code_with_dots_is_no_path() {
        assert_eq!(path_line("self.c"), None);
        assert_eq!(path_line("import a.b.go"), None);
        assert_eq!(path_line("x/y"), None);
    }
}
