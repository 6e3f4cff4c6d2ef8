//! What a prompt is written in, and which model that asks for.
//!
//! A name comes from a code fence, a path or a shebang where there is one; else from words that are common in one language
//! and rare in the others, counted over the first few kilobytes. Too little evidence gives [`UNKNOWN`].

/// The name for no language in particular.
pub const UNKNOWN: &str = "unknown";

/// The model for languages without an entry of their own.
pub const DEFAULT_MODEL: &str = "qwen_7b";

/// The original's language map.
pub const MODEL_MAP: [(&str, &str); 7] = [
    ("python", "qwen_7b"),
    ("javascript", "qwen_7b"),
    ("typescript", "qwen_7b"),
    ("rust", "codellama_7b"),
    ("go", "codellama_7b"),
    ("c", "codellama_7b"),
    ("cpp", "codellama_7b"),
];

/// How much of a prompt is looked at, in bytes.
const LOOK_BYTES: usize = 4096;

/// Names, endings and fence tags by language.
const NAMES: [(&str, &[&str]); 9] = [
    ("python", &["python", "py", "python3", "pyi"]),
    ("javascript", &["javascript", "js", "jsx", "mjs", "node"]),
    ("typescript", &["typescript", "ts", "tsx"]),
    ("rust", &["rust", "rs"]),
    ("go", &["go", "golang"]),
    ("c", &["c", "h"]),
    ("cpp", &["cpp", "c++", "cc", "cxx", "hpp", "hh"]),
    ("java", &["java"]),
    ("shell", &["shell", "sh", "bash", "zsh"]),
];

/// Evidence: a line that begins with (or, after `~`, contains) these characters, and its weight.
const EVIDENCE: [(&str, &[(&str, u32)]); 9] = [
    (
        "python",
        &[
            ("def ", 3),
            ("~self.", 2),
            ("elif ", 3),
            ("import ", 1),
            ("from ", 2),
            ("~):", 1),
            ("~None", 1),
            ("except", 2),
            ("@", 1),
        ],
    ),
    (
        "javascript",
        &[
            ("const ", 2),
            ("function ", 3),
            ("~=>", 1),
            ("~===", 2),
            ("let ", 1),
            ("~console.log", 3),
            ("~require(", 2),
            ("var ", 1),
            ("export ", 2),
        ],
    ),
    (
        "typescript",
        &[
            ("interface ", 3),
            ("~: string", 3),
            ("~: number", 3),
            ("export type", 4),
            ("~: boolean", 3),
            ("const ", 1),
            ("~=>", 1),
            ("type ", 1),
        ],
    ),
    (
        "rust",
        &[
            ("fn ", 3),
            ("pub ", 2),
            ("impl", 3),
            ("let mut ", 4),
            ("use ", 2),
            ("~->", 1),
            ("~&mut ", 2),
            ("#[", 3),
            ("match ", 1),
            ("~::", 1),
            ("let ", 1),
        ],
    ),
    ("go", &[("func ", 3), ("package ", 3), ("~:=", 3), ("~fmt.", 2), ("type ", 1), ("defer ", 3), ("~err != nil", 4)]),
    (
        "c",
        &[
            ("#include <", 2),
            ("~.h>", 2),
            ("int ", 1),
            ("~malloc(", 3),
            ("~printf(", 2),
            ("static ", 1),
            ("#define", 2),
            ("struct ", 1),
            ("~->", 1),
            ("void ", 1),
            ("typedef ", 3),
        ],
    ),
    (
        "cpp",
        &[
            ("#include <", 2),
            ("~std::", 4),
            ("template", 4),
            ("namespace ", 4),
            ("~cout", 3),
            ("class ", 1),
            ("using ", 2),
            ("~nullptr", 3),
            ("~virtual ", 2),
        ],
    ),
    (
        "java",
        &[
            ("public ", 2),
            ("private ", 2),
            ("~System.out", 4),
            ("import java", 5),
            ("package ", 1),
            ("~ extends ", 2),
            ("~ implements ", 3),
            ("protected ", 2),
            ("@Override", 5),
        ],
    ),
    (
        "shell",
        &[("fi", 2), ("done", 3), ("echo ", 2), ("esac", 4), ("~$(", 2), ("~; then", 4), ("~; do", 3), ("~$1", 2)],
    ),
];

/// Least evidence that names a language, and by how much it must lead the next one.
const ENOUGH: u32 = 3;

/// The language of `prompt`: one of the names in [`NAMES`], or [`UNKNOWN`].
pub fn detect(prompt: &str) -> &'static str {
    let head = head(prompt);
    fence(prompt).or_else(|| path(head)).or_else(|| shebang(head)).or_else(|| evidence(head)).unwrap_or(UNKNOWN)
}

fn head(prompt: &str) -> &str {
    &prompt[..prompt.floor_char_boundary(LOOK_BYTES)]
}

fn named(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    NAMES.iter().find(|(_, names)| names.contains(&name.as_str())).map(|(language, _)| *language)
}

/// The tag of the first fence that has a known one.
fn fence(prompt: &str) -> Option<&'static str> {
    prompt.lines().filter_map(|line| line.trim_start().strip_prefix("```")).find_map(|tag| {
        let end = tag.find(|c: char| !(c.is_alphanumeric() || c == '+' || c == '#')).unwrap_or(tag.len());
        named(&tag[..end])
    })
}

/// A path such as `src/main.rs` among the first lines: a file header, a diff, a stack frame.
fn path(head: &str) -> Option<&'static str> {
    let token = |line: &str| {
        line.split(|c: char| c.is_whitespace() || matches!(c, ':' | '"' | '\'' | '(' | ')' | ',' | '`'))
            .filter_map(|word| word.rsplit_once('.'))
            .filter(|(stem, _)| stem.contains('/') || stem.chars().all(|c| c.is_alphanumeric() || c == '_'))
            .filter(|(stem, _)| !stem.is_empty())
            .find_map(|(_, ending)| named(ending))
    };
    let is_header = |line: &&str| {
        let line = line.trim_start();
        ["File ", "file:", "+++ ", "--- ", "diff ", "# File", "// File", "# file", "// file"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    head.lines().take(40).filter(is_header).find_map(token)
}

fn shebang(head: &str) -> Option<&'static str> {
    let line = head.lines().next()?.strip_prefix("#!")?;
    line.split(['/', ' ']).rev().find_map(|word| named(word.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')))
}

fn evidence(head: &str) -> Option<&'static str> {
    let mut scores: Vec<(u32, &str)> =
        EVIDENCE.iter().map(|(language, signs)| (score(head, signs), *language)).collect();
    scores.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    let ((best, language), (second, _)) = (scores[0], scores[1]);
    (best >= ENOUGH && best > second).then_some(language)
}

fn score(head: &str, signs: &[(&str, u32)]) -> u32 {
    let hit = |line: &str, sign: &str| match sign.strip_prefix('~') {
        Some(inside) => line.contains(inside),
        None => line.starts_with(sign),
    };
    head.lines()
        .map(str::trim_start)
        .flat_map(|line| signs.iter().filter(move |(sign, _)| hit(line, sign)).map(|(_, weight)| *weight))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_a_person_would() {
        let cases = [
            ("fix this\n```rust\nlet x = 1;\n```", "rust"),
            ("```c++\nint x;\n```", "cpp"),
            ("# File: src/app.py\nx = 1", "python"),
            ("#!/usr/bin/env python3\nx = 1", "python"),
            ("#!/bin/bash\nls", "shell"),
            ("def f(self):\n    return None", "python"),
            ("fn main() {\n    let mut x = 1;\n}", "rust"),
            ("package main\n\nfunc main() {\n\tx := 1\n}", "go"),
            ("#include <stdio.h>\nint main(void) { printf(\"x\"); }", "c"),
            ("#include <vector>\nusing namespace std;\ntemplate <class T> class A {};", "cpp"),
            ("const f = (a) => a;\nconsole.log(f(1));", "javascript"),
            ("interface A { name: string }\nconst a: A = x;", "typescript"),
            ("public class A {\n  private int x;\n  System.out.println(x);\n}", "java"),
            ("for f in *; do\n  echo $f\ndone", "shell"),
            ("hello, how are you?", UNKNOWN),
            ("", UNKNOWN),
        ];
        for (prompt, language) in cases {
            assert_eq!(detect(prompt), language, "{prompt:?}");
        }
    }

    #[test]
    fn the_map_speaks_of_known_languages() {
        for (language, _) in MODEL_MAP {
            assert!(NAMES.iter().any(|(name, _)| *name == language), "{language}");
        }
    }
}
