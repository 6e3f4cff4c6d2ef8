//! Anchors: units that the instruction names outright. They are always sent.

use std::collections::HashMap;
use std::ops::Range;

use super::lines::Lines;
use super::prose;
use super::terms;
use super::units::{Role, Unit};
use super::zones::Zone;

/// Definitions of one name that still count as named; a name with more of them (`__init__`) says little.
const NAMESAKES: usize = 6;
/// Definitions of one name whose signatures are worth sending.
const DEFINERS: usize = 3;
/// Most anchors.
const ANCHORS: usize = 24;
/// Letters of the shortest quoted string that is looked for.
const QUOTE_BYTES: usize = 6;

/// Definitions by the fingerprint of their name.
pub(super) struct Names(HashMap<u32, Vec<usize>>);

impl Names {
    pub(super) fn new(units: &[Unit<'_>], gone: impl Fn(usize) -> bool) -> Self {
        let mut names: HashMap<u32, Vec<usize>> = HashMap::new();
        for (number, unit) in units.iter().enumerate().filter(|(number, unit)| !unit.name.is_empty() && !gone(*number))
        {
            names.entry(terms::whole(unit.name)).or_default().push(number);
        }
        Self(names)
    }

    /// The units that define a name, unless there are too many.
    pub(super) fn definers(&self, identifier: &str) -> &[usize] {
        self.up_to(DEFINERS, identifier)
    }

    fn namesakes(&self, identifier: &str) -> &[usize] {
        self.up_to(NAMESAKES, identifier)
    }

    fn up_to(&self, most: usize, identifier: &str) -> &[usize] {
        self.0.get(&terms::whole(identifier)).map_or(&[], |units| if units.len() <= most { units } else { &[] })
    }
}

/// Looks for anchors in the instruction's texts.
pub(super) fn find(
    instruction: &[&str],
    lines: &Lines<'_>,
    units: &[Unit<'_>],
    zones: &[Zone],
    files: &[&str],
    names: &Names,
) -> Vec<usize> {
    let mut anchors = Vec::new();
    for text in instruction {
        named(text, units, names, &mut anchors);
        spoken(text, units, names, &mut anchors);
        places(text, lines, units, zones, files, &mut anchors);
        quoted(text, lines, units, &mut anchors);
    }
    let mut seen = Vec::new();
    anchors.retain(|anchor| {
        !seen.contains(anchor) && {
            seen.push(*anchor);
            true
        }
    });
    anchors.truncate(ANCHORS);
    anchors
}

/// Identifiers that name a definition. A plain English word does only in backticks or before parentheses.
fn named(text: &str, units: &[Unit<'_>], names: &Names, anchors: &mut Vec<usize>) {
    terms::identifiers(text, |identifier| {
        let found = names.namesakes(identifier);
        if !found.is_empty() && (is_code(identifier) || is_marked(text, identifier)) {
            let owner = owner(text, identifier);
            let matching = |unit: &&usize| owner.is_none_or(|owner| parent_name(units, **unit) == owner);
            let owned: Vec<usize> = found.iter().filter(matching).copied().collect();
            anchors.extend(if owned.is_empty() { found.to_vec() } else { owned });
        }
    });
}

fn parent_name<'a>(units: &[Unit<'a>], unit: usize) -> &'a str {
    units[unit].parent.map_or("", |parent| units[parent].name)
}

fn is_code(identifier: &str) -> bool {
    let inner = |c: char| c == '_' || c.is_ascii_uppercase() || c.is_ascii_digit();
    identifier.starts_with('_') || identifier.chars().skip(1).any(inner)
}

/// In backticks or quotes, before "(", after "." or "::".
fn is_marked(text: &str, identifier: &str) -> bool {
    let (before, after) = around(text, identifier);
    before.ends_with(['`', '.', ':', '\'', '"']) && !before.ends_with(": ") || after.starts_with(['`', '('])
}

/// "Class" of "Class.name" or "Class::name".
fn owner<'t>(text: &'t str, identifier: &str) -> Option<&'t str> {
    let (before, _) = around(text, identifier);
    let before = before.strip_suffix("::").or_else(|| before.strip_suffix('.'))?;
    let start = before.rfind(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(0, |at| at + 1);
    before.get(start..).filter(|owner| !owner.is_empty())
}

/// The text on both sides of an identifier that was found in it.
fn around<'t>(text: &'t str, identifier: &str) -> (&'t str, &'t str) {
    let start = identifier.as_ptr() as usize - text.as_ptr() as usize;
    (&text[..start], &text[start + identifier.len()..])
}

/// Names of two words or more whose words follow each other in the instruction: "parse the header line" does not name
/// `parse_header_line`, "parse header line" does.
fn spoken(text: &str, units: &[Unit<'_>], names: &Names, anchors: &mut Vec<usize>) {
    let mut words = Vec::new();
    terms::identifiers(text, |word| {
        if !is_code(word) {
            terms::parts(word, |part| words.push(part));
        }
    });
    let mut parts = Vec::new();
    for unit in units.iter().filter(|unit| !unit.name.is_empty()) {
        parts.clear();
        terms::parts(unit.name, |part| parts.push(part));
        if parts.len() >= 2 && words.windows(parts.len()).any(|window| window == parts) {
            anchors.extend_from_slice(names.namesakes(unit.name));
        }
    }
}

/// `file:line` and stack frames.
fn places(text: &str, lines: &Lines<'_>, units: &[Unit<'_>], zones: &[Zone], files: &[&str], anchors: &mut Vec<usize>) {
    for (path, number) in text.lines().filter_map(prose::place) {
        for file in (0..files.len()).filter(|file| same_file(files[*file], path)) {
            let first = zones.iter().filter(|zone| zone.file == Some(file)).map(|zone| zone.lines.start).min();
            // Line 1 is the one after the file's header.
            let Some(line) = first.map(|header| header + number).filter(|line| *line < lines.len()) else { continue };
            let at = units.partition_point(|unit| unit.lines.end <= line);
            anchors.extend(units.get(at).filter(|unit| unit.file == Some(file)).map(|_| at));
        }
    }
}

fn same_file(one: &str, other: &str) -> bool {
    let ends =
        |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'));
    ends(one, other) || ends(other, one)
}

/// Strings in quotes that stand in the code as they are.
fn quoted(text: &str, lines: &Lines<'_>, units: &[Unit<'_>], anchors: &mut Vec<usize>) {
    for quote in ['"', '`'] {
        for inner in text.split(quote).skip(1).step_by(2).take(8) {
            if inner.len() < QUOTE_BYTES || inner.contains('\n') {
                continue;
            }
            let found = |unit: &(usize, &Unit<'_>)| selectable(unit.1) && span(lines, unit.1).contains(inner);
            let hits: Vec<usize> =
                units.iter().enumerate().filter(found).map(|(at, _)| at).take(DEFINERS + 1).collect();
            // A quoted name has its definition already; everything that uses it is not meant.
            if hits.len() <= DEFINERS && !(hits.len() > 1 && terms_only(inner)) {
                anchors.extend(hits);
            }
        }
    }
}

fn terms_only(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | ':' | '(' | ')'))
}

fn selectable(unit: &Unit<'_>) -> bool {
    !matches!(unit.role, Role::Fixed | Role::Header)
}

fn span<'a>(lines: &Lines<'a>, unit: &Unit<'_>) -> &'a str {
    let range: Range<usize> = unit.lines.clone();
    lines.slice(&range)
}
