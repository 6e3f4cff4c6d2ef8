//! How hard a request looks, from what costs nothing to know. A guess: it only chooses between two sizes of a model.

use crate::report::Report;

/// How hard a request looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difficulty {
    /// A small change in one place.
    Easy,
    /// Anything else.
    Hard,
}

/// Tokens of a prompt that a small model still keeps track of.
const EASY_TOKENS: usize = 1_500;
/// Definitions that an easy request names at most.
const EASY_ANCHORS: usize = 1;

/// Words of small changes.
const EASY: [&str; 13] = [
    "comment",
    "comments",
    "docstring",
    "docstrings",
    "document",
    "format",
    "log",
    "print",
    "rename",
    "spelling",
    "typo",
    "typos",
    "unused",
];

/// Words of what small models get wrong.
const HARD: [&str; 20] = [
    "algorithm",
    "architecture",
    "async",
    "atomic",
    "concurrency",
    "concurrent",
    "deadlock",
    "design",
    "generic",
    "lifetime",
    "lifetimes",
    "lock",
    "migrate",
    "optimise",
    "optimize",
    "race",
    "recursive",
    "security",
    "thread",
    "unsafe",
];

/// How hard a prepared prompt looks; `request` is what the user asks.
#[must_use]
pub fn difficulty(request: &str, report: &Report) -> Difficulty {
    let mut easy = false;
    for word in request.split(|c: char| !c.is_alphanumeric()) {
        let word = word.to_lowercase();
        if HARD.binary_search(&word.as_str()).is_ok() {
            return Difficulty::Hard;
        }
        easy |= EASY.binary_search(&word.as_str()).is_ok();
    }
    let small = report.final_tokens <= EASY_TOKENS && report.anchors.len() <= EASY_ANCHORS;
    if easy && small { Difficulty::Easy } else { Difficulty::Hard }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Profile, prepare};

    #[test]
    fn words_are_sorted() {
        assert!(EASY.is_sorted() && HARD.is_sorted());
    }

    #[test]
    fn small_changes_are_easy() {
        let report = prepare("x", Profile::Off).report;
        let large = Report { final_tokens: 2_000, ..report.clone() };
        for (request, report, expected) in [
            ("Rename `a` to `b`.", &report, Difficulty::Easy),
            ("Fix the typos", &report, Difficulty::Easy),
            ("Rename `a` to `b`.", &large, Difficulty::Hard),
            ("Rename the lock and fix the deadlock", &report, Difficulty::Hard),
            ("Make it work", &report, Difficulty::Hard),
        ] {
            assert_eq!(difficulty(request, report), expected, "{request}");
        }
    }
}
