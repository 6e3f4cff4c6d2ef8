//! How text is split into words before bytes are merged: the rules of `tokenizer.ggml.pre`, written out. The patterns they stand
//! for are in the comments, as llama.cpp has them.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// Rules for splitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Splitter {
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Gpt2,
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Llama3,
    /// The same with `\p{N}` for `\p{N}{1,3}`.
    Qwen2,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

impl Class {
    fn of(c: char) -> Self {
        match c {
            'a'..='z' | 'A'..='Z' => Self::Letter,
            '0'..='9' => Self::Number,
            _ if c.is_whitespace() => Self::Space,
            _ if c.is_ascii() => Self::Other,
            _ => match c.general_category_group() {
                GeneralCategoryGroup::Letter => Self::Letter,
                GeneralCategoryGroup::Number => Self::Number,
                _ => Self::Other,
            },
        }
    }
}

impl Splitter {
    /// The rules of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "gpt-2" | "gpt2" => Self::Gpt2,
            "llama3" | "llama-v3" | "llama-bpe" => Self::Llama3,
            "qwen2" => Self::Qwen2,
            _ => return None,
        })
    }

    /// Calls `each` with every word; together they are the text.
    pub(super) fn words<'t>(self, text: &'t str, mut each: impl FnMut(&'t str)) {
        let mut rest = text;
        while !rest.is_empty() {
            let length = match self {
                Self::Gpt2 => gpt2(rest),
                Self::Llama3 => modern(rest, 3),
                Self::Qwen2 => modern(rest, 1),
            };
            let (word, behind) = rest.split_at(length);
            each(word);
            rest = behind;
        }
    }
}

fn gpt2(text: &str) -> usize {
    if let Some(length) = contraction(text, false) {
        return length;
    }
    let bare = text.strip_prefix(' ').unwrap_or(text);
    let taken = text.len() - bare.len();
    match bare.chars().next().map(Class::of) {
        Some(class) if class != Class::Space => taken + run(bare, |c| Class::of(c) == class),
        _ => spaces(text),
    }
}

fn modern(text: &str, digits: usize) -> usize {
    if let Some(length) = contraction(text, true) {
        return length;
    }
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    let (class, second) = (Class::of(first), chars.next().map(Class::of));
    let letter = |c: char| Class::of(c) == Class::Letter;
    let other = |c: char| Class::of(c) == Class::Other;
    match class {
        Class::Letter => run(text, letter),
        Class::Space | Class::Other if second == Some(Class::Letter) && !matches!(first, '\r' | '\n') => {
            first.len_utf8() + run(chars_behind(text, first), letter)
        }
        Class::Number => {
            text.chars().take(digits).take_while(|c| Class::of(*c) == Class::Number).map(char::len_utf8).sum()
        }
        Class::Other => with_line_ends(text, run(text, other)),
        Class::Space if first == ' ' && second == Some(Class::Other) => {
            with_line_ends(text, 1 + run(chars_behind(text, first), other))
        }
        Class::Space => {
            let all = run(text, char::is_whitespace);
            // `\s*[\r\n]+` goes back to the last line end of the run.
            text[..all].rfind(['\r', '\n']).map_or_else(|| spaces(text), |at| at + 1)
        }
    }
}

fn chars_behind(text: &str, first: char) -> &str {
    &text[first.len_utf8()..]
}

fn run(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is(c)).unwrap_or(text.len())
}

fn with_line_ends(text: &str, length: usize) -> usize {
    length + run(&text[length..], |c| matches!(c, '\r' | '\n'))
}

/// `\s+(?!\S)|\s+`: all of a run, less its last character where something follows, which takes that along.
fn spaces(text: &str) -> usize {
    let all = run(text, char::is_whitespace);
    let last = text[..all].chars().next_back().map_or(0, char::len_utf8);
    if all < text.len() && all > last { all - last } else { all }
}

/// `'s`, `'re` and the like; in any case where `loose`.
fn contraction(text: &str, loose: bool) -> Option<usize> {
    let rest = text.strip_prefix('\'')?;
    ["s", "t", "re", "ve", "m", "ll", "d"].into_iter().find_map(|ending| {
        let found = rest.get(..ending.len())?;
        let same = if loose { found.eq_ignore_ascii_case(ending) } else { found == ending };
        same.then_some(1 + ending.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(splitter: Splitter, text: &str) -> Vec<&str> {
        let mut words = Vec::new();
        splitter.words(text, |word| words.push(word));
        words
    }

    #[test]
    fn gpt2_rules() {
        for (text, expected) in [
            ("it's 12  x", &["it", "'s", " 12", " ", " x"][..]),
            ("a\n    b", &["a", "\n   ", " b"]),
            ("a\nb\n", &["a", "\n", "b", "\n"]),
            (" (x);  ", &[" (", "x", ");", "  "]),
            ("größe 漢字 🦀", &["größe", " 漢字", " 🦀"]),
        ] {
            assert_eq!(words(Splitter::Gpt2, text), expected, "{text:?}");
        }
    }

    #[test]
    fn newer_rules() {
        for (text, qwen2, llama3) in [
            ("it'S 1234", &["it", "'S", " ", "1", "2", "3", "4"][..], &["it", "'S", " ", "123", "4"][..]),
            ("a\n    b", &["a", "\n", "   ", " b"], &["a", "\n", "   ", " b"]),
            ("f(x);\n\n  y", &["f", "(x", ");\n\n", " ", " y"], &["f", "(x", ");\n\n", " ", " y"]),
            ("\t\tif", &["\t", "\tif"], &["\t", "\tif"]),
            (" == \r\n", &[" ==", " \r\n"], &[" ==", " \r\n"]),
        ] {
            assert_eq!(words(Splitter::Qwen2, text), qwen2, "{text:?}");
            assert_eq!(words(Splitter::Llama3, text), llama3, "{text:?}");
        }
    }
}
