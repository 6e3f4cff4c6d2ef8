//! Phrases by which a user asks for a long answer.

/// The phrases, in lower case. A hyphen stands for a space as well.
pub const EXTENDED_PHRASES: [&str; 12] = [
    "detailed report",
    "comprehensive analysis",
    "full breakdown",
    "long format",
    "extended analysis",
    "thorough review",
    "in-depth",
    "professional document",
    "formal document",
    "draft a",
    "complete analysis",
    "full explanation",
];

/// Whether the user's request asks for a long answer, by whole words: "draft a letter" does, "overdraft accounts" does
/// not. Code, replies and tool output are for the caller to leave out: a comment that says "draft a" asks for nothing.
#[must_use]
pub fn wants_extended_output(request: &str) -> bool {
    let said: Vec<String> = words(request).map(str::to_lowercase).collect();
    let begins = |mut said: &[String], phrase| {
        words(phrase).all(|word| said.split_off_first().is_some_and(|first| first == word))
    };
    (0..said.len()).any(|at| EXTENDED_PHRASES.iter().any(|phrase| begins(&said[at..], phrase)))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '\'').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_only() {
        for (request, expected) in [
            ("Write a detailed report on this module.", true),
            ("An IN-DEPTH look, please", true),
            ("An in depth look, please", true),
            ("Please draft a letter", true),
            ("Draft\n  a plan", true),
            ("Fix the overdraft a customer may have", false),
            ("Add draft accounts", false),
            ("rename draft_a to draft_b", false),
            ("Print in-depth-first order", true),
            ("detailed  reports", false),
            ("", false),
        ] {
            assert_eq!(wants_extended_output(request), expected, "{request}");
        }
    }

    #[test]
    fn every_phrase_is_found() {
        assert!(EXTENDED_PHRASES.iter().all(|phrase| wants_extended_output(&format!("a {phrase} of it"))));
    }
}
