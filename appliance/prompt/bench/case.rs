//! Cases: a prompt made of a target file, files it depends on, distractors and injected copies, and what of it is needed.

use std::collections::{HashMap, HashSet};

use crate::gold::{Definition, line_start};
use crate::tree::{Group, Source};

/// One prompt with what must survive in it.
pub(crate) struct Case {
    pub(crate) family: char,
    pub(crate) group: String,
    pub(crate) prompt: String,
    /// The instruction's own text.
    pub(crate) instruction: String,
    /// Distinctive lines of the target, trimmed.
    pub(crate) gold: Vec<String>,
    /// Signature lines of what the target uses, trimmed.
    pub(crate) signatures: Vec<String>,
    pub(crate) completion: bool,
}

/// A small generator of numbers, so that a seed names a run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// A file as it goes into a prompt.
struct Piece {
    path: String,
    text: String,
}

/// Makes a case of a family, if the group has a target for it.
pub(crate) fn make(family: char, group: &Group, bytes: usize, random: &mut Random) -> Option<Case> {
    let source = &group.files[random.below(group.files.len())];
    let target = pick(family, group, source, random)?;
    let (mut pieces, instruction) = body(family, group, source, target, bytes, random)?;
    let completion = family == 'F';
    if family != 'E' && family != 'F' {
        inject(&mut pieces, random);
    }
    let comment = source.grammar.comment();
    let text = |piece: &Piece| format!("{comment} {}\n{}\n", piece.path, piece.text.trim_end());
    let code: String = if completion {
        pieces.iter().map(text).collect::<String>().trim_end().to_owned() + "\n"
    } else {
        pieces.iter().map(|piece| text(piece) + "\n").collect()
    };
    let names = unique_names(group);
    let gold = if completion { next_needs(group, source, target, &code) } else { gold(family, source, target) };
    if completion && gold.is_empty() {
        return None;
    }
    let signatures = signatures(family, group, &code, target, &names);
    let prompt = match (completion, random.below(3)) {
        (true, _) => code,
        (_, 0) => format!("{instruction}\n\n```{}\n{code}```\n", source.grammar.tag()),
        (_, 1) => format!("```{}\n{code}```\n\n{instruction}\n", source.grammar.tag()),
        _ => format!("{code}\n{comment} INSTRUCTION: {instruction}\n"),
    };
    Some(Case { family, group: group.name.clone(), prompt, instruction, gold, signatures, completion })
}

/// What a commit changed: the files as they were before, and the lines that must be there to make the same change.
pub(crate) struct Change {
    pub(crate) files: Vec<Source>,
    /// The first of the functions that were changed.
    pub(crate) target: Definition,
    pub(crate) gold: Vec<String>,
    pub(crate) subject: String,
}

/// A case of family D: the commit's subject is what is asked for.
pub(crate) fn replay(group: &Group, change: Change, random: &mut Random) -> Case {
    let Change { files, target, gold, subject: instruction } = change;
    let changed = |file: &Piece| files.iter().any(|own| own.path == file.path);
    let mut pieces = others(group, &files[0], &target, [32, 120][random.below(2)] << 10, random);
    pieces.retain(|piece| !changed(piece));
    for file in &files {
        let own = Piece { path: file.path.clone(), text: file.text.clone() };
        pieces.insert(random.below(pieces.len() + 1), own);
    }
    inject(&mut pieces, random);
    let comment = files[0].grammar.comment();
    let text = |piece: &Piece| format!("{comment} {}\n{}\n\n", piece.path, piece.text.trim_end());
    let code: String = pieces.iter().map(text).collect();
    let signatures = signatures('D', group, &code, &target, &unique_names(group));
    let prompt = format!("{code}\n{comment} INSTRUCTION: {instruction}\n");
    Case { family: 'D', group: group.name.clone(), prompt, instruction, gold, signatures, completion: false }
}

fn pick<'g>(family: char, group: &'g Group, source: &'g Source, random: &mut Random) -> Option<&'g Definition> {
    let names = unique_names(group);
    let fits = |definition: &&Definition| {
        definition.function
            && (250..2500).contains(&definition.range.len())
            && names.get(definition.name.as_str()) == Some(&1)
            && definition.name.len() >= 4
            && (family != 'B' || words(&definition.name).split(' ').count() >= 2)
            && (family != 'C' || definition.doc.is_some())
    };
    let fitting: Vec<&Definition> = source.definitions.iter().filter(fits).collect();
    (!fitting.is_empty()).then(|| fitting[random.below(fitting.len())])
}

fn unique_names(group: &Group) -> HashMap<&str, usize> {
    let mut names = HashMap::new();
    for definition in group.files.iter().flat_map(|file| &file.definitions) {
        *names.entry(definition.name.as_str()).or_default() += 1;
    }
    names
}

/// "parse header line" of `parse_header_line` or `parseHeaderLine`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for (at, c) in name.trim_matches('_').char_indices() {
        if c == '_' || (c.is_uppercase() && at > 0 && !words.ends_with(char::is_uppercase)) {
            words.push(' ');
        }
        if c != '_' {
            words.push(c);
        }
    }
    words.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The files of the prompt, and what is asked.
fn body(
    family: char,
    group: &Group,
    source: &Source,
    target: &Definition,
    bytes: usize,
    random: &mut Random,
) -> Option<(Vec<Piece>, String)> {
    const VERBS: [&str; 4] = ["Refactor", "Simplify", "Fix the error handling of", "Add type checks to"];
    let verb = VERBS[random.below(VERBS.len())];
    let mut main = Piece { path: source.path.clone(), text: source.text.clone() };
    let mut extra = None;
    let instruction = match family {
        'A' if random.one_in(2) => format!("{verb} `{}` and keep its behaviour.", target.name),
        'A' => format!("{verb} {}, please.", target.name),
        'B' => format!("{verb} the function that does {}.", words(&target.name)),
        'C' => {
            let (doc, sentence) = target.doc.clone()?;
            main.text.replace_range(doc, "");
            format!("{verb} the code for this: {sentence}")
        }
        'E' => {
            let line = source.text[..target.range.end].matches('\n').count();
            format!(
                "It fails with this, please repair it:\n  File \"{}\", line {line}, in handle\nValueError: wrong value",
                source.path
            )
        }
        'F' => {
            main.text.truncate(cursor(group, source, target)?);
            String::new()
        }
        'G' => {
            extra = Some(Piece { path: format!("old/{}", source.path), text: edited(source, target)? });
            format!("There are two versions of `{}`: why does the second one behave differently?", target.name)
        }
        _ => return None,
    };
    let mut pieces = others(group, source, target, bytes, random);
    pieces.extend(extra);
    let at = if family == 'F' { pieces.len() } else { random.below(pieces.len() + 1) };
    pieces.insert(at, main);
    Some((pieces, instruction))
}

/// Dependencies of the target first, then distractors, up to the size wanted.
fn others(group: &Group, source: &Source, target: &Definition, bytes: usize, random: &mut Random) -> Vec<Piece> {
    let defines = |file: &&Source| file.definitions.iter().any(|definition| target.uses.contains(&definition.name));
    let other = |file: &&Source| file.path != source.path;
    let mut rest: Vec<&Source> = group.files.iter().filter(other).collect();
    for at in (1..rest.len()).rev() {
        rest.swap(at, random.below(at + 1));
    }
    rest.sort_by_key(|file| !defines(file));
    let mut size = source.text.len();
    let mut pieces = Vec::new();
    for file in rest {
        if size + file.text.len() <= bytes * 3 / 4 {
            size += file.text.len();
            pieces.push(Piece { path: file.path.clone(), text: file.text.clone() });
        }
    }
    pieces
}

/// Copies of 15 to 70 lines, some indented, put between the definitions of other files: a quarter of the whole.
fn inject(pieces: &mut [Piece], random: &mut Random) {
    let total: usize = pieces.iter().map(|piece| piece.text.len()).sum();
    let mut added = 0;
    for _ in 0..60 {
        if added * 100 >= total * 28 || pieces.is_empty() {
            return;
        }
        let from = random.below(pieces.len());
        let lines: Vec<&str> = pieces[from].text.lines().collect();
        let start = random.below(lines.len());
        let end = lines.len().min(start + 15 + random.below(55));
        let indent = if random.one_in(4) { "    " } else { "" };
        let copy: String = lines[start..end].iter().map(|line| format!("{indent}{line}\n")).collect();
        added += copy.len();
        // At the end: anywhere else it might fall into the target and change what is asked for.
        let to = random.below(pieces.len());
        pieces[to].text = format!("{}\n\n{copy}", pieces[to].text.trim_end());
    }
}

/// A version of the file with one line of the target changed.
fn edited(source: &Source, target: &Definition) -> Option<String> {
    let body = &source.text[target.range.clone()];
    let line = body.lines().skip(2).filter(|line| line.trim().len() > 12 && line.contains(' ')).last()?;
    let changed = line.replacen(' ', "  ", 1).replace(|c: char| c.is_ascii_digit(), "7") + &edit_mark(source);
    let at = target.range.start + body.find(line)?;
    let mut text = source.text.clone();
    text.replace_range(at..at + line.len(), &changed);
    Some(text)
}

fn edit_mark(source: &Source) -> String {
    format!(" {} changed in this version", source.grammar.comment())
}

/// Where to cut the target so that the next line needs a definition of another file.
fn cursor(group: &Group, source: &Source, target: &Definition) -> Option<usize> {
    let foreign: HashSet<&str> = foreign(group, source);
    let body = &source.text[target.range.clone()];
    let mut at = target.range.start;
    for (number, line) in body.split_inclusive('\n').enumerate() {
        if number >= 3 && foreign.iter().any(|name| contains_word(line, name)) {
            return Some(at);
        }
        at += line.len();
    }
    None
}

/// Signature lines of the definitions of other files that the line at the cursor needs, as far as the prompt has them.
fn next_needs(group: &Group, source: &Source, target: &Definition, code: &str) -> Vec<String> {
    let foreign = foreign(group, source);
    let next = cursor(group, source, target).and_then(|at| source.text[at..].lines().next()).unwrap_or_default();
    let present: HashSet<&str> = code.lines().map(str::trim).collect();
    let others = group.files.iter().filter(|file| file.path != source.path);
    others
        .flat_map(|file| file.definitions.iter().map(move |definition| (file, definition)))
        .filter(|(_, definition)| foreign.contains(definition.name.as_str()) && contains_word(next, &definition.name))
        .map(|(file, definition)| signature_line(file, definition))
        .filter(|line| present.contains(line.as_str()))
        .collect()
}

/// The line that a definition's name is on, trimmed.
fn signature_line(file: &Source, definition: &Definition) -> String {
    file.text[line_start(&file.text, definition.signature.start)..definition.signature.end].trim().to_owned()
}

fn foreign<'g>(group: &'g Group, source: &Source) -> HashSet<&'g str> {
    let names = unique_names(group);
    let files = group.files.iter().filter(|file| file.path != source.path);
    files
        .flat_map(|file| &file.definitions)
        .map(|d| d.name.as_str())
        .filter(|name| names[name] == 1 && name.len() >= 4)
        .collect()
}

fn contains_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|found| found == word)
}

/// Distinctive lines of the target: long enough to be recognised.
fn gold(family: char, source: &Source, target: &Definition) -> Vec<String> {
    let mut lines = distinctive(&source.text[target.range.clone()]);
    if let (true, Some((doc, _))) = (family == 'C', &target.doc) {
        let doc = distinctive(&source.text[doc.clone()]);
        lines.retain(|line| !doc.contains(line));
    }
    if family == 'G'
        && let Some(text) = edited(source, target)
    {
        // The line that differs; a file may have other lines that end with this word.
        let mark = edit_mark(source);
        lines.extend(distinctive(&text).into_iter().filter(|line| line.ends_with(&mark)));
    }
    lines
}

pub(crate) fn distinctive(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| line.len() > 6).map(str::to_owned).collect()
}

/// Signature lines of unique definitions that the target uses and the prompt has.
fn signatures(
    family: char,
    group: &Group,
    code: &str,
    target: &Definition,
    names: &HashMap<&str, usize>,
) -> Vec<String> {
    if family == 'G' {
        return Vec::new();
    }
    let present: HashSet<&str> = code.lines().map(str::trim).collect();
    group
        .files
        .iter()
        .flat_map(|file| file.definitions.iter().map(move |definition| (file, definition)))
        .filter(|(_, definition)| definition.name != target.name)
        .filter(|(_, definition)| {
            definition.name.len() >= 3 && names[definition.name.as_str()] == 1 && target.uses.contains(&definition.name)
        })
        .map(|(file, definition)| signature_line(file, definition))
        .filter(|line| line.len() > 6 && present.contains(line.as_str()))
        .collect()
}
