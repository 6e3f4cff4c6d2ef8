//! The `classic` profile: prompt preparation as the first Cerebrum published it, weaknesses included, so that the two
//! can be compared and nobody's numbers change under them.
//!
//! Source of every step and number: the first Cerebrum's `retrieval` package. Lengths are characters, as Python counts
//! them. It never looks at lines or syntax, always names Python in its fences and never closes them.

mod instruction;
mod windows;

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use xxhash_rust::xxh3::xxh3_64;

use crate::report::{Outcome, Prepared, Report};
use crate::request::{Profile, Request};
use instruction::Split;

/// Code up to this many characters is never divided.
const DIVIDE_ABOVE_CHARS: usize = 1500;
/// At most this many windows are kept.
const KEEP_WINDOWS: usize = 3;

/// Prepares as the first Cerebrum did.
pub(crate) fn prepare(request: &Request<'_>) -> Prepared {
    let split = instruction::split(request.prompt);
    let mut report = Report::new(request, Profile::Classic, Outcome::Short);
    report.marker = split.marker;
    report.instruction.clone_from(&split.instruction);
    report.said.extend(split.instruction.clone());
    let result = match chars(split.code) > DIVIDE_ABOVE_CHARS {
        true => divide(request.prompt, &split, &mut report),
        false => wrap_small(request.prompt, &split, &mut report),
    };
    let prompt = result.unwrap_or_else(|| request.prompt.to_owned());
    report.final_chars = chars(&prompt);
    Prepared { prompt, report }
}

/// A short prompt only gets its instruction moved to the front. This is the one place where the result is longer than
/// the original: by the fixed words of the wrapper.
fn wrap_small(prompt: &str, split: &Split<'_>, report: &mut Report) -> Option<String> {
    let instruction = split.instruction_text(prompt)?;
    report.outcome = Outcome::InstructionFirst;
    Some(assemble(instruction, &[split.code]))
}

fn divide(prompt: &str, split: &Split<'_>, report: &mut Report) -> Option<String> {
    let all = windows::cut(split.code);
    report.chunks_total = all.len();
    let unique = drop_duplicates(all);
    report.chunks_unique = unique.len();
    let keep = KEEP_WINDOWS.min(unique.len() - 1);
    report.outcome = if keep == 0 { Outcome::NothingToChoose } else { Outcome::SavingTooSmall };
    // Without an instruction the first Cerebrum put the chosen windows before the *whole* prompt, and its 10 % rule then
    // always refused the result; the refusal is all that is left of that path.
    let instruction = split.instruction_text(prompt).filter(|_| keep > 0)?;
    let assembled = assemble(instruction, &best(unique, instruction, keep));
    saves_a_tenth(chars(prompt), chars(&assembled)).then(|| {
        report.outcome = Outcome::Reduced;
        report.chunks_kept = keep;
        assembled
    })
}

fn drop_duplicates(windows: Vec<&str>) -> Vec<&str> {
    let mut seen = HashSet::with_capacity(windows.len());
    windows.into_iter().filter(|window| seen.insert(xxh3_64(window.trim().as_bytes()))).collect()
}

/// The `keep` windows that share most words with the query, best first; equals keep their order.
fn best<'a>(mut windows: Vec<&'a str>, query: &str, keep: usize) -> Vec<&'a str> {
    let query = Query::new(query);
    windows.sort_by_cached_key(|window| Reverse(query.shared(window)));
    windows.truncate(keep);
    windows
}

/// The different words of a query, in lower case; words are what white space parts.
struct Query {
    words: HashMap<String, usize>,
    /// One bit for each length in bytes that a word has, the highest for all longer ones: most words of a window are
    /// told apart by it, without being hashed.
    lengths: u64,
}

impl Query {
    fn new(text: &str) -> Self {
        let mut words = HashMap::new();
        for word in text.split_whitespace() {
            let next = words.len();
            words.entry(word.to_lowercase()).or_insert(next);
        }
        let lengths = words.keys().fold(0, |lengths, word| lengths | length_bit(word));
        Self { words, lengths }
    }

    /// How many of its words stand in `text`.
    fn shared(&self, text: &str) -> usize {
        let mut found = vec![false; self.words.len()];
        let mut lower = String::new();
        for word in text.split_whitespace() {
            if word.is_ascii() {
                if self.lengths & length_bit(word) == 0 {
                    continue;
                }
                lower.clear();
                lower.push_str(word);
                lower.make_ascii_lowercase();
            } else {
                // Lower case may be longer or shorter than upper case here.
                lower = word.to_lowercase();
            }
            if let Some(index) = self.words.get(&lower) {
                found[*index] = true;
            }
        }
        found.into_iter().filter(|found| *found).count()
    }
}

fn length_bit(word: &str) -> u64 {
    1 << word.len().min(63)
}

fn assemble(instruction: &str, code: &[&str]) -> String {
    let code = code.join("\n\n");
    format!("{instruction}\n\nHere is the code to refactor:\n```python\n{code}\n\nRefactored code:\n```python\n")
}

/// The 10 % rule, in whole numbers.
fn saves_a_tenth(before: usize, after: usize) -> bool {
    after * 10 < before * 9
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests;
