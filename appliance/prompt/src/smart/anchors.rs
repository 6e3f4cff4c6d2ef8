//! Anchors: units that the instruction names outright. They are always sent.

use std::ops::Range;

use super::lines::Lines;
use super::prose;
use super::terms;
use super::units::{Role, Unit};
use super::vocabulary;
use super::words::{Word, Words};
use super::zones::Zones;

/// Definitions of one name that still count as named; a name with more of them (`__init__`) says little.
pub(super) const NAMESAKES: usize = 6;
/// The same while copies are not yet told from what they are copies of.
pub(super) const NAMESAKES_WITH_COPIES: usize = 16;
/// Definitions of one name whose signatures are worth sending.
const DEFINERS: usize = 3;
/// Definitions of one name among which the one in the same file is looked for.
const MEANT: usize = 24;
/// Most anchors.
const ANCHORS: usize = 24;
/// Letters of the shortest quoted string that is looked for.
const QUOTE_BYTES: usize = 6;

/// Definitions by name.
pub(super) struct Names {
    /// Where each word's definitions begin in `units`.
    starts: Vec<u32>,
    units: Vec<u32>,
}

impl Names {
    pub(super) fn new(words: &Words<'_>, units: &[Unit<'_>], gone: impl Fn(usize) -> bool) -> Self {
        let named = units.iter().enumerate().filter(|(number, unit)| !unit.name.is_empty() && !gone(*number));
        let mut pairs: Vec<(u32, Word)> =
            named.filter_map(|(number, unit)| Some((number as u32, words.find(unit.name)?))).collect();
        let mut starts = vec![0u32; words.distinct() + 1];
        let extends = |unit: u32| units[unit as usize].role == Role::Opening && units[unit as usize].extends;
        for (_, word) in pairs.iter().filter(|(unit, _)| !extends(*unit)) {
            starts[word.number() + 1] += 1;
        }
        // `impl Type` counts as the definition of a type only when nothing else is.
        pairs.retain(|(unit, word)| !extends(*unit) || starts[word.number() + 1] == 0);
        starts.fill(0);
        for (_, word) in &pairs {
            starts[word.number() + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut next = starts.clone();
        let mut numbers = vec![0u32; pairs.len()];
        for (unit, word) in pairs {
            let place = &mut next[word.number()];
            numbers[*place as usize] = unit;
            *place += 1;
        }
        Self { starts, units: numbers }
    }

    /// The units that a name in `file` means, as far as one can tell: those of the same file before others.
    pub(super) fn meant(&self, word: Word, units: &[Unit<'_>], file: Option<usize>) -> impl Iterator<Item = usize> {
        let all = self.up_to(MEANT, word);
        let near = move |unit: &&u32| units[**unit as usize].file == file;
        let few = if all.len() <= DEFINERS { all } else { &[] };
        let many = if all.len() > DEFINERS { all } else { &[] };
        few.iter().chain(many.iter().filter(near).take(DEFINERS)).map(|unit| *unit as usize)
    }

    /// Whether anything defines this.
    fn is_defined(&self, word: usize) -> bool {
        self.starts[word] < self.starts[word + 1]
    }

    fn up_to(&self, most: usize, word: Word) -> &[u32] {
        let units = &self.units[self.starts[word.number()] as usize..self.starts[word.number() + 1] as usize];
        if units.len() <= most { units } else { &[] }
    }
}

/// What anchors are looked for in.
pub(super) struct Place<'p, 'a> {
    pub(super) lines: &'p Lines<'a>,
    pub(super) words: &'p Words<'a>,
    pub(super) units: &'p [Unit<'a>],
    pub(super) zones: &'p Zones<'a>,
    pub(super) names: &'p Names,
    /// Definitions of one name that still count as named.
    pub(super) namesakes: usize,
}

/// What the instruction names.
pub(super) struct Anchors {
    /// Units, those first that are named as a program would.
    pub(super) units: Vec<usize>,
    /// How many of them are; the others may be meant by some of its words.
    pub(super) firm: usize,
}

/// Looks for anchors in the instruction's texts.
pub(super) fn find(instruction: &[&str], place: &Place<'_, '_>) -> Anchors {
    let mut anchors = Vec::new();
    for text in instruction {
        place.named(text, &mut anchors);
        place.places(text, &mut anchors);
        place.quoted(text, &mut anchors);
    }
    distinct(&mut anchors);
    let firm = anchors.len();
    instruction.iter().for_each(|text| place.spoken(text, &mut anchors));
    distinct(&mut anchors);
    Anchors { units: anchors, firm }
}

fn distinct(anchors: &mut Vec<usize>) {
    let mut seen = Vec::new();
    anchors.retain(|anchor| {
        let new = !seen.contains(anchor) && seen.len() < ANCHORS;
        if new {
            seen.push(*anchor);
        }
        new
    });
}

impl Place<'_, '_> {
    /// Identifiers that name a definition. A plain English word does only in backticks or before parentheses.
    fn named(&self, text: &str, anchors: &mut Vec<usize>) {
        terms::identifiers(text, |identifier| {
            let Some(word) = self.words.find(identifier) else { return };
            let found = self.names.up_to(self.namesakes, word);
            if !found.is_empty() && (is_code(identifier) || is_marked(text, identifier) || is_object(text, identifier))
            {
                let owner = owner(text, identifier);
                let matching = |unit: &usize| owner.is_none_or(|owner| self.parent_name(*unit) == owner);
                let owned: Vec<usize> = found.iter().map(|unit| *unit as usize).filter(matching).collect();
                let all = found.iter().map(|unit| *unit as usize);
                if owned.is_empty() { anchors.extend(all) } else { anchors.extend(owned) }
            }
        });
    }

    fn parent_name(&self, unit: usize) -> &str {
        self.units[unit].parent.map_or("", |parent| self.units[parent].name)
    }

    /// Names of two words or more whose words follow each other in the instruction: "parse the header line" does not
    /// name `parse_header_line`, "parse header line" does.
    fn spoken(&self, text: &str, anchors: &mut Vec<usize>) {
        let mut said = Vec::new();
        terms::words(text, |word| {
            let spelt = word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            if !is_code(word) || spelt {
                terms::parts(word, |part| said.push(part));
            }
        });
        let mut firsts = said.clone();
        firsts.sort_unstable();
        let mut parts = Vec::new();
        let mut found: Vec<(Range<usize>, Word)> = Vec::new();
        for (number, name) in self.words.texts().iter().enumerate().filter(|(number, _)| self.names.is_defined(*number))
        {
            // Most names are turned away by their first part.
            if said.is_empty() || terms::first_part(name).is_none_or(|part| firsts.binary_search(&part).is_err()) {
                continue;
            }
            parts.clear();
            terms::parts(name, |part| parts.push(part));
            found.extend(said_at(&said, &parts).map(|place| (place, Word::numbered(number))));
        }
        // "read to end internal" names `read_to_end_internal`, not `read_to_end`.
        let within = |inner: &Range<usize>, outer: &Range<usize>| {
            inner.len() < outer.len() && outer.start <= inner.start && inner.end <= outer.end
        };
        let longest = |place: &Range<usize>| !found.iter().any(|(other, _)| within(place, other));
        for (_, word) in found.iter().filter(|(place, _)| longest(place)) {
            anchors.extend(self.names.up_to(self.namesakes, *word).iter().map(|unit| *unit as usize));
        }
    }

    /// `file:line` and stack frames.
    fn places(&self, text: &str, anchors: &mut Vec<usize>) {
        for (path, number) in text.lines().filter_map(prose::place) {
            let files = &self.zones.files;
            for file in (0..files.len()).filter(|file| same_file(files[*file], path)) {
                let zones = self.zones.zones.iter().filter(|zone| zone.file == Some(file));
                // Line 1 is the one after the file's header.
                let line = zones.map(|zone| zone.lines.start).min().map(|header| header + number);
                let Some(line) = line.filter(|line| *line < self.lines.len()) else { continue };
                let at = self.units.partition_point(|unit| unit.lines.end <= line);
                anchors.extend(self.units.get(at).filter(|unit| unit.file == Some(file)).map(|_| at));
            }
        }
    }

    /// Strings in quotes that stand in the code as they are.
    fn quoted(&self, text: &str, anchors: &mut Vec<usize>) {
        for quote in ['"', '`'] {
            for inner in text.split(quote).skip(1).step_by(2).take(8) {
                if inner.len() < QUOTE_BYTES || inner.contains('\n') {
                    continue;
                }
                let hits = self.holders(inner);
                // A quoted name has its definition already; everything that uses it is not meant.
                if hits.len() <= DEFINERS && !(hits.len() > 1 && terms_only(inner)) {
                    anchors.extend(hits);
                }
            }
        }
    }

    /// Units that hold a string, up to one more than are of use.
    fn holders(&self, inner: &str) -> Vec<usize> {
        let mut hits: Vec<usize> = Vec::new();
        for (at, _) in self.lines.text.match_indices(inner) {
            let unit = self.units.partition_point(|unit| self.lines.span(&unit.lines).end <= at);
            if self.units.get(unit).is_some_and(selectable) && hits.last() != Some(&unit) {
                hits.push(unit);
            }
            if hits.len() > DEFINERS {
                break;
            }
        }
        hits
    }
}

fn is_code(identifier: &str) -> bool {
    let inner = |c: char| c == '_' || c.is_ascii_uppercase() || c.is_ascii_digit();
    identifier.starts_with('_') || identifier.chars().skip(1).any(inner)
}

/// Where the words of a name stand in a sentence: right behind each other, or in order with a few others between them when
/// they are three or more ("polls for the next line").
fn said_at(said: &[u32], parts: &[u32]) -> Option<Range<usize>> {
    /// Words between.
    const GAPS: usize = 3;
    let most = match parts.len() {
        0 | 1 => return None,
        2 => 2,
        length => length + GAPS,
    };
    (0..said.len()).filter(|at| said[*at] == parts[0]).find_map(|start| {
        let mut wanted = parts.iter().peekable();
        let end = (start..said.len().min(start + most)).find(|at| {
            wanted.next_if(|part| **part == said[*at]);
            wanted.peek().is_none()
        })?;
        Some(start..end + 1)
    })
}

/// In backticks or quotes, before "(", after "." or "::".
fn is_marked(text: &str, identifier: &str) -> bool {
    let (before, after) = around(text, identifier);
    before.ends_with(['`', '.', ':', '\'', '"']) && !before.ends_with(": ") || after.starts_with(['`', '('])
}

/// "load" in "Refactor load, please." and "Add checks to load": a noun that wants an article and has none is a name.
fn is_object(text: &str, identifier: &str) -> bool {
    const BEFORE: [&str; 8] = ["of", "to", "for", "in", "function", "method", "class", "named"];
    let (before, after) = around(text, identifier);
    let rest = after.trim_start_matches([' ', '"', '\'']);
    let ends =
        rest.is_empty() || rest.starts_with([',', '.', '?', '!', ';', '\n', '\r', ':']) || rest.starts_with("and ");
    let mut words = before.trim_end().rsplit(|c: char| c.is_whitespace());
    let last = words.next().unwrap_or_default().to_ascii_lowercase();
    let sentence = words.next().is_none_or(|word| word.is_empty() || word.ends_with(['.', ':', '!', '?']));
    ends && before.ends_with(' ') && (BEFORE.contains(&last.as_str()) || (sentence && vocabulary::is_task(&last)))
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

fn same_file(one: &str, other: &str) -> bool {
    let ends =
        |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'));
    ends(one, other) || ends(other, one)
}

fn terms_only(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | ':' | '(' | ')'))
}

fn selectable(unit: &Unit<'_>) -> bool {
    !matches!(unit.role, Role::Fixed | Role::Header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_said() {
        for (said, parts, expected) in [
            (&[1, 2, 3][..], &[2, 3][..], Some(1..3)),
            (&[1, 2, 9, 3], &[2, 3], None),
            (&[1, 9, 9, 2, 3], &[1, 2, 3], Some(0..5)),
            (&[1, 9, 9, 9, 9, 2, 3], &[1, 2, 3], None),
            (&[1], &[1], None),
        ] {
            assert_eq!(said_at(said, parts), expected, "{said:?} {parts:?}");
        }
    }

    #[test]
    fn objects() {
        for (text, name, expected) in [
            ("Refactor load, please.", "load", true),
            ("Add type checks to load", "load", true),
            ("Fix the error handling of load and keep its behaviour.", "load", true),
            ("Refactor the load, please.", "load", false),
            ("It should load.", "load", false),
            ("Look at the load of files", "load", false),
            ("Refactor load balancing of nodes", "load", false),
        ] {
            let at = text.find(name).expect("is in the text");
            assert_eq!(is_object(text, &text[at..at + name.len()]), expected, "{text}");
        }
    }
}
