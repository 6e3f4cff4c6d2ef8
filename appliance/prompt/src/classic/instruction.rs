//! Finds the instruction by its marker: a line among the last twelve that starts with one. It and everything after it is
//! the instruction, everything before it the code.

use std::ops::Range;

const MARKERS: [&str; 6] = ["# INSTRUCTION:", "INSTRUCTION:", "# REFACTOR:", "REFACTOR:", "# TODO:", "TODO:"];
/// Lines looked at, from the end.
const SCAN_LINES: usize = 12;

/// A prompt told apart.
pub(super) struct Split<'a> {
    /// The code, without the white space around it when there is an instruction.
    pub(super) code: &'a str,
    /// The marker found.
    pub(super) marker: Option<&'static str>,
    /// Where the instruction stands in the prompt.
    pub(super) instruction: Option<Range<usize>>,
}

impl Split<'_> {
    /// The instruction's text.
    pub(super) fn instruction_text<'p>(&self, prompt: &'p str) -> Option<&'p str> {
        self.instruction.clone().and_then(|range| prompt.get(range))
    }
}

/// Tells instruction from code.
pub(super) fn split(prompt: &str) -> Split<'_> {
    match marker_line(prompt) {
        Some((start, marker)) => {
            let end = prompt.trim_end().len();
            Split { code: prompt[..start].trim(), marker: Some(marker), instruction: Some(start..end) }
        }
        None => Split { code: prompt, marker: None, instruction: None },
    }
}

/// Where the last marked line begins, leading white space not counted, and its marker.
fn marker_line(prompt: &str) -> Option<(usize, &'static str)> {
    let mut end = prompt.trim_end().len();
    for _ in 0..SCAN_LINES {
        let start = prompt[..end].rfind('\n').map_or(0, |newline| newline + 1);
        let line = prompt[start..end].trim_start();
        if let Some(marker) = MARKERS.into_iter().find(|marker| line.starts_with(marker)) {
            return Some((end - line.len(), marker));
        }
        end = start.checked_sub(1)?;
    }
    None
}
