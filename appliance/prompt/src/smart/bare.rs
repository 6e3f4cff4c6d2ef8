//! A definition without its documentation: the comments before it, and a docstring behind its header.

use std::ops::Range;

use super::lines::Lines;
use super::units::Unit;

/// The lines of a definition that are code, in up to two stretches. Decorators and attributes are code.
pub(super) fn code(lines: &Lines<'_>, unit: &Unit<'_>) -> [Range<usize>; 2] {
    let doc = docstring(lines, unit);
    [start(lines, unit)..doc.start, doc.end..unit.lines.end]
}

/// Tokens that go without the documentation.
pub(super) fn saved(lines: &Lines<'_>, unit: &Unit<'_>) -> usize {
    let kept: usize = code(lines, unit).iter().map(|range| lines.tokens(range)).sum();
    lines.tokens(&unit.lines) - kept
}

fn start(lines: &Lines<'_>, unit: &Unit<'_>) -> usize {
    let is_code = |at: &usize| {
        let line = lines.trimmed(*at);
        line.starts_with('@')
            || line.starts_with("#[")
            || line.starts_with("template")
            || line.starts_with("__attribute__")
    };
    let before = unit.lines.start..unit.signature.start;
    before.clone().rev().take_while(is_code).last().unwrap_or(before.end)
}

/// The docstring right behind the header, or nothing there.
fn docstring(lines: &Lines<'_>, unit: &Unit<'_>) -> Range<usize> {
    let none = unit.lines.end..unit.lines.end;
    let body = unit.signature.end..unit.lines.end;
    let Some(first) = body.clone().find(|at| !lines.is_blank(*at)) else { return none };
    let line = lines.trimmed(first).trim_start_matches(['r', 'u', 'R']);
    let Some(quotes) = ["\"\"\"", "'''"].into_iter().find(|quotes| line.starts_with(quotes)) else { return none };
    if line[quotes.len()..].contains(quotes) {
        return first..first + 1;
    }
    let last = (first + 1..body.end).find(|at| lines.trimmed(*at).contains(quotes));
    // What is nothing but documentation stays.
    last.filter(|last| (last + 1..body.end).any(|at| !lines.is_blank(at))).map_or(none, |last| first..last + 1)
}

#[cfg(test)]
mod tests {
    use super::super::{units, zones};
    use super::*;
    use crate::language::Language;
    use crate::tokens::Estimate;

    fn bare(language: Language, text: &str) -> Vec<Range<usize>> {
        let lines = Lines::new(text, &Estimate);
        let zones = zones::divide(&lines, Some(language));
        let units = units::scan(&lines, &zones.zones).units;
        code(&lines, &units[0]).into_iter().filter(|range| !range.is_empty()).collect()
    }

    #[test]
    fn code_without_documentation() {
        let rust = "/// What it does.\n/// And why.\n#[inline]\nfn a() {\n    b();\n}\n";
        assert_eq!(bare(Language::Rust, rust), vec![2..6]);
        let python =
            "# Why.\n@cached\ndef a(\n    x,\n):\n    \"\"\"What it does.\n\n    And how.\n    \"\"\"\n    return x\n";
        assert_eq!(bare(Language::Python, python), [1..5, 9..10]);
        assert_eq!(bare(Language::Python, "def a(x):\n    '''What.'''\n    return x\n"), [0..1, 2..3]);
        assert_eq!(bare(Language::Python, "def a(x):\n    '''What\n    it does.'''\n"), vec![0..3]);
    }
}
