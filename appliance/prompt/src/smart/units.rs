//! Divides code into units: definitions with what belongs to them, imports, and the stretches in between. Every line of
//! a code zone is in exactly one unit, and a unit is sent whole, as its signature, or not at all.

mod extent;

use std::ops::Range;

use super::headers::{self, Shape};
use super::lines::Lines;
use super::quoted::Quoted;
use super::zones::{Kind, Zone};
use crate::language::Language;

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A definition.
    Definition,
    /// The opening lines of a class or the like: sent with any of its parts.
    Opening,
    /// The closing lines of one.
    Closing,
    /// An import.
    Import,
    /// A piece between definitions, or of text that has none.
    Piece,
    /// A file header: sent with any part of its file.
    Header,
    /// Prose and fences: always sent.
    Fixed,
}

/// Some lines that are kept or dropped together.
#[derive(Clone, Debug)]
pub(super) struct Unit<'a> {
    pub(super) role: Role,
    pub(super) lines: Range<usize>,
    /// Lines that say what is defined: decorators and the header, without comments and body.
    pub(super) signature: Range<usize>,
    /// The name defined, or "".
    pub(super) name: &'a str,
    /// The opening of the class around it.
    pub(super) parent: Option<usize>,
    /// The definition that goes on here, after an instruction in its middle or after what interrupts it.
    pub(super) continues: Option<usize>,
    /// Adds to a type that is defined elsewhere, as `impl` does.
    pub(super) extends: bool,
    pub(super) file: Option<usize>,
    pub(super) language: Option<Language>,
}

/// Characters that a piece without a name may have before it is split at blank lines.
const PIECE_BYTES: usize = 1200;
/// How deep classes are looked into.
const DEPTH: usize = 6;
/// A block without a header of its own is looked into when it is at least this long.
const BLOCK_LINES: usize = 12;

/// The units of a prompt.
pub(super) struct Units<'a> {
    /// In order.
    pub(super) units: Vec<Unit<'a>>,
    /// For each line, whether it begins inside a string or comment of several lines.
    pub(super) quoted: Vec<bool>,
}

/// Divides a prompt into units.
pub(super) fn scan<'a>(lines: &Lines<'a>, zones: &[Zone]) -> Units<'a> {
    let mut units = Vec::new();
    let mut quoted = vec![false; lines.len()];
    for (number, zone) in zones.iter().enumerate() {
        match zone.kind {
            Kind::Code => {
                let interrupted = number >= 2
                    && zones[number - 1].kind == Kind::Prose
                    && zones[number - 2].kind == Kind::Code
                    && zones[number - 2].file == zone.file;
                let before = if interrupted { zones[number - 2].lines.clone() } else { 0..0 };
                let was_open = strings(lines, zone, before, &mut quoted);
                let goes_on = zones.get(number + 1).is_some_and(|next| next.kind == Kind::Prose)
                    && zones.get(number + 2).is_some_and(|after| after.kind == Kind::Code && after.file == zone.file);
                let mut scanner = Scanner { lines, zone, goes_on, quoted: &quoted, units: &mut units };
                let from = if interrupted { scanner.rest(was_open) } else { zone.lines.start };
                scanner.zone(from);
            }
            kind => {
                let role = if kind == Kind::Header { Role::Header } else { Role::Fixed };
                units.push(Unit {
                    role,
                    lines: zone.lines.clone(),
                    signature: zone.lines.start..zone.lines.start,
                    name: "",
                    parent: None,
                    continues: None,
                    extends: false,
                    file: zone.file,
                    language: zone.language,
                });
            }
        }
    }
    units.shrink_to_fit();
    Units { units, quoted }
}

struct Scanner<'a, 's> {
    lines: &'s Lines<'a>,
    zone: &'s Zone,
    /// Whether an instruction interrupts the code at the end of the zone, perhaps within a string.
    goes_on: bool,
    quoted: &'s [bool],
    units: &'s mut Vec<Unit<'a>>,
}

impl<'a> Scanner<'a, '_> {
    fn zone(&mut self, from: usize) {
        self.range(from..self.zone.lines.end, None, 0);
    }

    /// What follows an instruction in the middle of a definition belongs to that definition, as far as it is indented
    /// more deeply. Returns where that ends.
    fn rest(&mut self, was_open: bool) -> usize {
        let start = self.zone.lines.start;
        let filled = |unit: &Unit<'_>| unit.lines.clone().any(|at| !self.lines.is_blank(at));
        let counts = |unit: &Unit<'_>| unit.role != Role::Fixed && filled(unit);
        let Some(before) = self.units.iter().rposition(counts) else { return start };
        let unit = &self.units[before];
        if unit.role != Role::Definition {
            return start;
        }
        let (indent, name, parent) = (self.lines.indent(unit.signature.start), unit.name, unit.parent);
        let inner = |at: &usize| self.lines.is_blank(*at) || self.quoted[*at] || self.lines.indent(*at) > indent;
        let mut end = (start..self.zone.lines.end).find(|at| !inner(at)).unwrap_or(self.zone.lines.end);
        let closes = |at: usize| self.lines.trimmed(at).starts_with(['}', ')', ']']);
        if end < self.zone.lines.end && closes(end) {
            end += 1;
        }
        if (start..end).all(|at| self.lines.is_blank(at)) && !was_open {
            return start;
        }
        self.push(Role::Definition, start..end, start..start, name, parent);
        if let Some(rest) = self.units.last_mut() {
            rest.continues = Some(before);
        }
        end
    }

    /// Divides `range`, whose definitions belong to the class `parent`.
    fn range(&mut self, range: Range<usize>, parent: Option<usize>, depth: usize) {
        let (mut at, mut loose) = (range.start, range.start);
        while at < range.end {
            if self.lines.is_blank(at) || self.quoted(at) {
                at += 1;
                continue;
            }
            let Some(header) = self.header(at, range.end) else {
                at = self.plain(at, &mut loose, &range, parent, depth);
                continue;
            };
            let signature_end = self.signature_end(at, range.end, header.shape);
            let end = self.block_end(at, signature_end, range.end);
            let start = self.attached(at, loose);
            self.pieces(loose..start, parent);
            let whole = self.definition_end(at, end, header.shape);
            self.definition(start..whole, at..signature_end, header, parent, depth);
            if whole < end {
                self.stray(whole..end, parent);
            }
            (at, loose) = (end, end);
        }
        self.pieces(loose..range.end, parent);
    }

    /// Lines after a definition that may yet belong to it.
    fn stray(&mut self, lines: Range<usize>, parent: Option<usize>) {
        let before = self.units.len() - 1;
        self.push(Role::Piece, lines.clone(), lines.start..lines.start, "", parent);
        if let Some(stray) = self.units.last_mut() {
            stray.continues = Some(before);
        }
    }

    /// A line that is no header. The block that it opens is looked into when it is long: a guard around a whole module.
    fn plain(
        &mut self,
        at: usize,
        loose: &mut usize,
        range: &Range<usize>,
        parent: Option<usize>,
        depth: usize,
    ) -> usize {
        if !self.lines.trimmed(at).ends_with(['{', ':', '(', '[']) {
            return at + 1;
        }
        let end = self.block_end(at, at + 1, range.end);
        if depth >= DEPTH || end - at < BLOCK_LINES {
            return end;
        }
        self.pieces(*loose..at + 1, parent);
        self.range(at + 1..end, parent, depth + 1);
        *loose = end;
        end
    }

    fn definition(
        &mut self,
        whole: Range<usize>,
        signature: Range<usize>,
        header: headers::Header<'a>,
        parent: Option<usize>,
        depth: usize,
    ) {
        if header.shape != Shape::Container || depth >= DEPTH || whole.end <= signature.end + 1 {
            let role = if header.shape == Shape::Import { Role::Import } else { Role::Definition };
            self.push(role, whole, signature, header.name, parent);
            return;
        }
        let opening = self.units.len();
        let inner = self.opening_end(signature.end, whole.end);
        self.push(Role::Opening, whole.start..inner, signature.clone(), header.name, parent);
        let line = self.lines.trimmed(signature.start);
        let extends = ["impl", "unsafe impl", "extension "].iter().any(|word| line.starts_with(word));
        self.units[opening].extends = extends;
        let closing = self.closing(inner, whole.end);
        self.range(inner..closing, Some(opening), depth + 1);
        if closing < whole.end {
            self.push(Role::Closing, closing..whole.end, closing..closing, "", Some(opening));
        }
    }

    fn header(&self, at: usize, end: usize) -> Option<headers::Header<'a>> {
        let lines = self.lines;
        let mut follows = (at + 1..end).map(|next| lines.trimmed(next));
        headers::header(lines.trimmed(at), lines.marks(at), self.zone.language, &mut follows)
    }

    fn quoted(&self, at: usize) -> bool {
        self.quoted[at]
    }

    /// Lines without a definition, cut at blank lines.
    fn pieces(&mut self, range: Range<usize>, parent: Option<usize>) {
        let mut start = range.start;
        let (mut bytes, mut cut) = (0, None);
        for at in range.clone() {
            bytes += self.lines.trimmed(at).len();
            if self.lines.is_blank(at) {
                cut = Some(at + 1);
            }
            if bytes > PIECE_BYTES
                && let Some(end) = cut.filter(|end| *end > start && *end < range.end)
            {
                self.push(Role::Piece, start..end, start..start, "", parent);
                bytes = (end..=at).map(|line| self.lines.trimmed(line).len()).sum();
                (start, cut) = (end, None);
            }
        }
        if start < range.end {
            self.push(Role::Piece, start..range.end, start..start, "", parent);
        }
    }

    fn push(&mut self, role: Role, lines: Range<usize>, signature: Range<usize>, name: &'a str, parent: Option<usize>) {
        let Zone { file, language, .. } = *self.zone;
        self.units.push(Unit { role, lines, signature, name, parent, continues: None, extends: false, file, language });
    }
}

/// Says of each line of a zone whether it begins inside a string or comment of several lines; `before` are lines that the
/// zone goes on from. Returns whether the zone begins inside one.
fn strings(lines: &Lines<'_>, zone: &Zone, before: Range<usize>, inside: &mut [bool]) -> bool {
    let mut quoted = Quoted::new(zone.language);
    for at in before {
        quoted.read(lines.trimmed(at), lines.indent(at), lines.marks(at));
    }
    let was_open = quoted.is_open();
    for at in zone.lines.clone() {
        inside[at] = quoted.read(lines.trimmed(at), lines.indent(at), lines.marks(at));
    }
    if quoted.is_open() {
        // What never closes was misread: the last stretch counts as open to nobody's harm but ours.
        zone.lines.clone().rev().take_while(|at| std::mem::take(&mut inside[*at])).for_each(drop);
    }
    was_open
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smart::zones::divide;
    use crate::tokens::Estimate;

    fn units(language: Language, text: &str) -> Vec<(Role, String, usize, usize)> {
        let lines = Lines::new(text, &Estimate);
        let zones = divide(&lines, Some(language));
        scan(&lines, &zones.zones)
            .units
            .into_iter()
            .map(|unit| (unit.role, unit.name.to_owned(), unit.lines.start, unit.lines.end))
            .collect()
    }

    #[test]
    fn python() {
        let text = "import os\n\n# Makes a.\n@cached\ndef a(\n    x,\n):\n    '''\nat margin\n'''\n    return x\n\n\nclass B(C):\n    \
                    limit = 3\n\n    def c(self):\n        pass\n\nprint(a(1))\n";
        let found = units(Language::Python, text);
        let expected = [
            (Role::Import, "", 0, 1),
            (Role::Piece, "", 1, 2),
            (Role::Definition, "a", 2, 11),
            (Role::Piece, "", 11, 13),
            (Role::Opening, "B", 13, 14),
            (Role::Piece, "", 14, 16),
            (Role::Definition, "c", 16, 18),
            (Role::Piece, "", 18, 20),
        ];
        assert_eq!(found, expected.map(|(role, name, from, to)| (role, name.to_owned(), from, to)));
    }

    #[test]
    fn rust_and_c() {
        let rust = "/// Doc.\n#[must_use]\npub fn a(\n    x: u8,\n) -> u8 {\n    x\n}\n\nimpl B {\n    fn c(&self) {\n    }\n}\n";
        let names: Vec<_> = units(Language::Rust, rust).into_iter().map(|unit| (unit.0, unit.2, unit.3)).collect();
        let expected = [
            (Role::Definition, 0, 7),
            (Role::Piece, 7, 8),
            (Role::Opening, 8, 9),
            (Role::Definition, 9, 11),
            (Role::Closing, 11, 12),
        ];
        assert_eq!(names, expected);
        let c = "static int\ngo(int a,\n   int b)\n{\n  if (a) {\n    b = 1;\n  }\n#ifdef X\n  b++;\n#endif\nout:\n  return b;\n}\nint d;\n";
        let found = units(Language::C, c);
        assert_eq!(found[0], (Role::Definition, "go".to_owned(), 0, 13), "{found:?}");
    }

    #[test]
    fn what_is_indented_for_no_reason_is_no_part_of_a_function() {
        let text = "def a(x):\n    y = x\n\n    return y\n\n            z = 3\n            return z\n";
        let found: Vec<_> = units(Language::Python, text).into_iter().map(|unit| (unit.0, unit.2, unit.3)).collect();
        assert_eq!(found, [(Role::Definition, 0, 4), (Role::Piece, 4, 7)]);
    }

    #[test]
    fn parameters_of_types_may_stand_one_a_line() {
        let text = "pub fn a<\n    T,\n    U,\n>(\n    x: T,\n) -> U\nwhere\n    T: Into<U>,\n{\n    x.into()\n}\n\nfn b() {}\n";
        let found: Vec<_> = units(Language::Rust, text).into_iter().map(|unit| (unit.0, unit.2, unit.3)).collect();
        assert_eq!(found, [(Role::Definition, 0, 11), (Role::Piece, 11, 12), (Role::Definition, 12, 13)]);
    }

    #[test]
    fn a_container_may_have_conditions() {
        let text = "impl<R> Lines<R>\nwhere\n    R: Read,\n{\n    fn next(&self) {\n        x\n    }\n}\n";
        let found: Vec<_> = units(Language::Rust, text).into_iter().map(|unit| (unit.0, unit.2, unit.3)).collect();
        assert_eq!(found, [(Role::Opening, 0, 4), (Role::Definition, 4, 7), (Role::Closing, 7, 8)]);
    }

    #[test]
    fn an_instruction_in_the_middle_cuts_no_definition() {
        let text = "def a(x):\n    y = x\n\n# INSTRUCTION: make it faster.\n\n    return y\n\ndef b():\n    pass\n";
        let lines = Lines::new(text, &Estimate);
        let zones = divide(&lines, Some(Language::Python));
        let found = scan(&lines, &zones.zones).units;
        let rest = found.iter().find(|unit| unit.continues.is_some()).expect("goes on");
        assert_eq!((rest.name, rest.lines.clone()), ("a", 5..7));
        assert_eq!(found.last().map(|unit| unit.name), Some("b"));
    }

    #[test]
    fn every_line_is_in_one_unit() {
        let text = include_str!("units.rs");
        let lines = Lines::new(text, &Estimate);
        let zones = divide(&lines, Some(Language::Rust));
        let mut next = 0;
        for unit in scan(&lines, &zones.zones).units {
            assert_eq!(unit.lines.start, next, "{unit:?}");
            next = unit.lines.end;
        }
        assert_eq!(next, lines.len());
    }
}
