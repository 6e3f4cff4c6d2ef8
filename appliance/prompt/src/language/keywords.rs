//! Guesses a language from words and marks that only some languages use. Each has a weight; the best sum wins when it is
//! high enough and clearly ahead of the second best.

use super::Language::{self, *};
use crate::word_table::WordTable;

/// Below this sum nothing is said.
const ENOUGH: u32 = 6;

/// The language that the words of `text` speak for.
pub(super) fn guess(text: &str) -> Option<Language> {
    let mut score = [0u32; Language::ALL.len()];
    for line in text.lines() {
        add(&mut score, line_signs(line.trim()));
        words(line, |word, next| {
            add(&mut score, word_signs(word));
            if next == Some(b'!') && !word.is_empty() {
                add(&mut score, &[(Rust, 2)]);
            }
        });
    }
    choose(&score)
}

fn add(score: &mut [u32; Language::ALL.len()], signs: &[(Language, u32)]) {
    for (language, weight) in signs {
        score[*language as usize] += weight;
    }
}

fn choose(score: &[u32; Language::ALL.len()]) -> Option<Language> {
    let of = |language: &Language| score[*language as usize];
    // `rev`: of equals the first counts, so that C wins over C++ when nothing speaks for the extension.
    let best = Language::ALL.iter().copied().rev().max_by_key(of)?;
    let rivals = Language::ALL.iter().filter(|other| **other != best && Some(**other) != relative(best));
    let second = rivals.map(of).max()?;
    // A quarter ahead: closer than that is a guess.
    (of(&best) >= ENOUGH && of(&best) * 4 >= second * 5).then_some(best)
}

/// The language that shares nearly every sign with this one; between the two any difference decides.
fn relative(language: Language) -> Option<Language> {
    match language {
        C => Some(Cpp),
        Cpp => Some(C),
        JavaScript => Some(TypeScript),
        TypeScript => Some(JavaScript),
        _ => None,
    }
}

/// Calls `each` with every word of a line and the byte that follows it.
fn words(line: &str, mut each: impl FnMut(&str, Option<u8>)) {
    // Bytes beyond ASCII are in no word that is looked for.
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
    let bytes = line.as_bytes();
    let mut at = 0;
    while let Some(start) = bytes[at..].iter().position(is_word).map(|found| at + found) {
        let end = bytes[start..].iter().position(|byte| !is_word(byte)).map_or(bytes.len(), |found| start + found);
        each(&line[start..end], bytes.get(end).copied());
        at = end;
    }
}

/// Which of the bytes that the signs of a line begin with stand in it: looked for once instead of by every sign.
#[derive(Clone, Copy)]
struct Marks(u64);

impl Marks {
    fn of(line: &str) -> Self {
        // Bytes below 64 have the digits and nearly all punctuation; letters and brackets wrap onto them, which can only
        // cost a search in vain.
        Self(line.bytes().fold(0, |marks, byte| marks | 1 << (byte & 63)))
    }

    fn has(self, byte: u8) -> bool {
        self.0 & 1 << (byte & 63) != 0
    }
}

/// What a whole line says.
fn line_signs(line: &str) -> &'static [(Language, u32)] {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| line.starts_with(prefix));
    if line.starts_with('#') {
        return hash_signs(line);
    }
    let marks = Marks::of(line);
    let contains = |sign: &str| marks.has(sign.as_bytes()[0]) && line.contains(sign);
    match line {
        _ if starts(&["def ", "elif ", "except", "async def ", "@property", "from __future__"])
            && line.ends_with(':') =>
        {
            &[(Python, 4)]
        }
        _ if starts(&["if ", "for ", "while ", "else", "try", "class ", "with "]) && line.ends_with(':') => {
            &[(Python, 3)]
        }
        _ if starts(&["from "]) && contains(" import ") => &[(Python, 4)],
        _ if starts(&["import "]) && contains(" from ") => &[(JavaScript, 4), (TypeScript, 4)],
        _ if contains(": string") || contains(": number") || contains(": boolean") => &[(TypeScript, 4)],
        _ if contains("===") || contains("=> {") => &[(JavaScript, 2), (TypeScript, 2)],
        _ if contains("-> ") && line.ends_with('{') => &[(Rust, 2)],
        _ if contains(":= ") => &[(Go, 3)],
        _ if starts(&["fi", "done", "esac", "then"]) && line.len() < 6 => &[(Shell, 4)],
        _ if contains("std::") && line.ends_with(';') => &[(Cpp, 1), (Rust, 1)],
        _ if contains("->") && line.ends_with(';') => &[(C, 2), (Cpp, 2), (Php, 1)],
        _ if line.starts_with('$') && line.ends_with(';') => &[(Php, 3)],
        _ if contains("[[ ") || contains("$(") || contains("${") => &[(Shell, 2)],
        _ => &[],
    }
}

/// What a line that starts with `#` says.
fn hash_signs(line: &str) -> &'static [(Language, u32)] {
    let word = line[1..].trim_start();
    match word {
        _ if word.starts_with("include") && line.contains(".h") => &[(C, 4), (Cpp, 4)],
        _ if word.starts_with("include") => &[(C, 2), (Cpp, 4)],
        _ if ["define", "ifdef", "ifndef", "endif", "if ", "undef"].iter().any(|d| word.starts_with(d)) => {
            &[(C, 3), (Cpp, 3), (CSharp, 1)]
        }
        _ if line.starts_with("#[") || line.starts_with("#![") => &[(Rust, 4)],
        _ => &[],
    }
}

/// What one word says.
fn word_signs(word: &str) -> &'static [(Language, u32)] {
    static TABLE: WordTable<{ WORDS.len() }> = WordTable::new(&WORDS);
    TABLE.find(word.as_bytes()).map_or(&[], |at| WORDS[at].1)
}

/// Words and what they say; sorted.
#[rustfmt::skip]
const WORDS: [(&str, &[(Language, u32)]); 96] = [
    ("Err", &[(Rust, 1)]),
    ("FROM", &[(Sql, 3)]),
    ("False", &[(Python, 2)]),
    ("INSERT", &[(Sql, 3)]),
    ("JOIN", &[(Sql, 3)]),
    ("NULL", &[(C, 2), (Cpp, 1)]),
    ("None", &[(Python, 2)]),
    ("Ok", &[(Rust, 1)]),
    ("SELECT", &[(Sql, 3)]),
    ("Some", &[(Rust, 1)]),
    ("String", &[(Java, 1), (CSharp, 1)]),
    ("System", &[(Java, 1), (CSharp, 1)]),
    ("True", &[(Python, 2)]),
    ("Vec", &[(Rust, 3)]),
    ("WHERE", &[(Sql, 3)]),
    ("__init__", &[(Python, 2)]),
    ("async", &[(JavaScript, 1), (TypeScript, 1), (CSharp, 1)]),
    ("attr_accessor", &[(Ruby, 3)]),
    ("await", &[(JavaScript, 1), (TypeScript, 1), (CSharp, 1)]),
    ("boolean", &[(Java, 2), (TypeScript, 1)]),
    ("chan", &[(Go, 3)]),
    ("char", &[(C, 2), (Cpp, 2)]),
    ("companion", &[(Kotlin, 3)]),
    ("console", &[(JavaScript, 2), (TypeScript, 1)]),
    ("const", &[(JavaScript, 1), (TypeScript, 1), (Cpp, 1), (C, 1)]),
    ("constexpr", &[(Cpp, 4)]),
    ("cout", &[(Cpp, 4)]),
    ("crate", &[(Rust, 3)]),
    ("def", &[(Python, 2), (Ruby, 2)]),
    ("defer", &[(Go, 3)]),
    ("do", &[(Shell, 1)]),
    ("document", &[(JavaScript, 2), (TypeScript, 1)]),
    ("echo", &[(Shell, 2), (Php, 1)]),
    ("elif", &[(Python, 2), (Shell, 2)]),
    ("elsif", &[(Ruby, 3)]),
    ("end", &[(Ruby, 3)]),
    ("esac", &[(Shell, 2), (Php, 1)]),
    ("exit", &[(Shell, 2), (Php, 1)]),
    ("export", &[(JavaScript, 2), (TypeScript, 2), (Shell, 1)]),
    ("extends", &[(Java, 2), (TypeScript, 1)]),
    ("final", &[(Java, 2), (TypeScript, 1)]),
    ("fmt", &[(Go, 3)]),
    ("fn", &[(Rust, 3)]),
    ("fun", &[(Kotlin, 3)]),
    ("func", &[(Go, 4), (Swift, 3)]),
    ("function", &[(JavaScript, 3), (TypeScript, 2), (Shell, 1), (Php, 2)]),
    ("goroutine", &[(Go, 3)]),
    ("impl", &[(Rust, 3)]),
    ("implements", &[(Java, 2), (TypeScript, 1)]),
    ("int", &[(C, 2), (Cpp, 2)]),
    ("interface", &[(TypeScript, 2), (Java, 1), (Go, 1), (CSharp, 1)]),
    ("isinstance", &[(Python, 2)]),
    ("keyof", &[(TypeScript, 2)]),
    ("lambda", &[(Python, 2)]),
    ("let", &[(Rust, 1), (JavaScript, 1), (TypeScript, 1), (Swift, 1)]),
    ("malloc", &[(C, 2), (Cpp, 1)]),
    ("match", &[(Rust, 1)]),
    ("mut", &[(Rust, 3)]),
    ("namespace", &[(Cpp, 4)]),
    ("nil", &[(Go, 1), (Ruby, 1), (Swift, 1)]),
    ("null", &[(JavaScript, 1), (TypeScript, 1), (CSharp, 1)]),
    ("nullptr", &[(Cpp, 4)]),
    ("package", &[(Go, 2), (Java, 2), (Kotlin, 1)]),
    ("printf", &[(C, 2), (Cpp, 1)]),
    ("private", &[(Java, 2), (Cpp, 1), (CSharp, 2), (TypeScript, 1), (Php, 1)]),
    ("protected", &[(Java, 2), (Cpp, 1), (CSharp, 2), (TypeScript, 1), (Php, 1)]),
    ("prototype", &[(JavaScript, 2), (TypeScript, 1)]),
    ("pub", &[(Rust, 3)]),
    ("public", &[(Java, 2), (Cpp, 1), (CSharp, 2), (TypeScript, 1), (Php, 1)]),
    ("puts", &[(Ruby, 3)]),
    ("readonly", &[(TypeScript, 2)]),
    ("require", &[(JavaScript, 2), (TypeScript, 1)]),
    ("self", &[(Python, 2), (Rust, 2)]),
    ("size_t", &[(C, 2), (Cpp, 1)]),
    ("sizeof", &[(C, 2), (Cpp, 2)]),
    ("struct", &[(C, 1), (Cpp, 1), (Rust, 1), (Go, 1)]),
    ("template", &[(Cpp, 4)]),
    ("then", &[(Shell, 1)]),
    ("throws", &[(Java, 2), (TypeScript, 1)]),
    ("typedef", &[(C, 2), (Cpp, 2)]),
    ("typename", &[(Cpp, 4)]),
    ("typeof", &[(JavaScript, 2), (TypeScript, 1)]),
    ("u32", &[(Rust, 3)]),
    ("u64", &[(Rust, 3)]),
    ("u8", &[(Rust, 3)]),
    ("uint32_t", &[(C, 2), (Cpp, 1)]),
    ("uint8_t", &[(C, 2), (Cpp, 1)]),
    ("undefined", &[(JavaScript, 2), (TypeScript, 1)]),
    ("unknown", &[(TypeScript, 2)]),
    ("unsigned", &[(C, 2), (Cpp, 2)]),
    ("using", &[(CSharp, 2), (Cpp, 2)]),
    ("usize", &[(Rust, 3)]),
    ("val", &[(Kotlin, 3)]),
    ("var", &[(JavaScript, 1), (Go, 1), (CSharp, 1), (Kotlin, 1)]),
    ("virtual", &[(Cpp, 4)]),
    ("void", &[(C, 1), (Cpp, 1), (Java, 1), (CSharp, 1)]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_sorted_and_found() {
        assert!(WORDS.is_sorted_by_key(|(word, _)| *word));
        assert!(WORDS.iter().all(|(word, signs)| word_signs(word) == *signs));
        assert!(
            ["", "x", "defx", "a_word_that_is_longer_than_any", "größe"].iter().all(|word| word_signs(word).is_empty())
        );
    }

    #[test]
    fn snippets() {
        for (expected, text) in [
            (Some(Python), "import os\n\nclass A:\n    def f(self):\n        return None\n"),
            (Some(Rust), "pub fn f(x: &mut Vec<u8>) -> usize {\n    x.len()\n}\n"),
            (Some(JavaScript), "const a = require('a');\nfunction f(x) {\n  return x === undefined;\n}\n"),
            (Some(TypeScript), "export function f(x: string): number {\n  return x.length;\n}\n"),
            (Some(Go), "package main\n\nfunc f(x int) int {\n\ty := x + 1\n\treturn y\n}\n"),
            (Some(C), "#include <stdio.h>\nint main(void) {\n  printf(\"x\");\n  return 0;\n}\n"),
            (Some(Cpp), "#include <vector>\nnamespace a {\ntemplate <typename T> int f(T t) { return t; }\n}\n"),
            (Some(Java), "package a;\npublic final class A extends B {\n  private int x;\n  public void f() {}\n}\n"),
            (Some(Shell), "set -e\nif [ -f x ]; then\n  echo yes\nfi\nexport A=1\n"),
            (None, "The quick brown fox jumps over the lazy dog, and then some."),
            (None, "12 34 56"),
        ] {
            assert_eq!(guess(text), expected, "{text}");
        }
    }
}
