//! BM25F: how much each unit has to do with the query. Whether an identifier speaks of the query is found out once for each
//! distinct one; then the occurrences are counted. Names count more than bodies.

use std::ops::Range;

use super::compounds::Compounds;
use super::lines::Lines;
use super::synonyms;
use super::terms::{self, Kind};
use super::units::{Role, Unit};
use super::vocabulary;
use super::words::{Word, Words};

/// Occurrences in a definition's name count this often.
const NAME_WEIGHT: f32 = 5.0;
/// Occurrences in the signature and the comments before it.
const SIGNATURE_WEIGHT: f32 = 1.5;
/// An identifier that is named as a whole says more than its parts.
const WHOLE_WEIGHT: f32 = 2.5;
const K1: f32 = 1.6;
const B: f32 = 0.75;
/// Occurrences in comments and documentation: sentences share words with any instruction.
const COMMENT_WEIGHT: f32 = 0.25;
/// What the share of a name that the query speaks of adds, over its occurrences.
const NAMED_BONUS: f32 = 1.5;
/// What a part of the name adds that stands for a word of the query.
const ALIKE_BONUS: f32 = 0.5;
/// What a query word within a word of the name adds ...
const ONE_WORD_BONUS: f32 = 1.0;
/// ... one in the name of the class around ...
const CLASS_BONUS: f32 = 0.8;
/// ... and one in the path of the file.
const PATH_BONUS: f32 = 0.4;
/// Words that only say what is to be done count this much.
const TASK_WEIGHT: f32 = 0.3;
/// What an occurrence within a longer word counts.
const WITHIN_WEIGHT: f32 = 0.5;
/// Query tokens that are used; an instruction with more is a document.
const QUERY_TERMS: usize = 256;
/// Tests and generated code, when the query does not speak of them.
const DEMOTION: f32 = 0.6;

/// The query: its distinct tokens.
pub(super) struct Query {
    /// Sorted fingerprints with weights.
    terms: Vec<(u32, f32)>,
    /// Bit set over the low bits of the fingerprints: most tokens of a text are turned away here.
    filter: [u64; 64],
    compounds: Compounds,
    /// Sorted fingerprints of what names may have in place of those.
    alike: Vec<u32>,
    mentions_tests: bool,
}

impl Query {
    /// The tokens of some texts; stop words do not count.
    pub(super) fn new<'t>(texts: impl Iterator<Item = &'t str>) -> Self {
        let mut query = Self {
            terms: Vec::new(),
            filter: [0; 64],
            compounds: Compounds::default(),
            alike: Vec::new(),
            mentions_tests: false,
        };
        for text in texts {
            query.mentions_tests |= text.contains("test") || text.contains("Test");
            let task = task_phrase(text);
            terms::tokens(text, |kind, term, identifier| {
                let at = identifier.as_ptr() as usize - text.as_ptr() as usize;
                let asked = task.contains(&at);
                query.add(kind, term, identifier, if asked { TASK_WEIGHT } else { 1.0 });
                if kind == Kind::Part && !asked && query.alike.len() < QUERY_TERMS {
                    query.alike.extend(synonyms::of(term));
                }
            });
        }
        query.terms.sort_unstable_by_key(|(term, _)| *term);
        query.alike.sort_unstable();
        query.alike.dedup();
        let Self { terms, alike, .. } = &mut query;
        alike.retain(|name| terms.binary_search_by_key(name, |(term, _)| *term).is_err());
        let mut compounds = std::mem::take(&mut query.compounds);
        compounds.number(|term| query.find(term));
        Self { compounds, ..query }
    }

    fn add(&mut self, kind: Kind, term: u32, identifier: &str, share: f32) {
        let known = self.terms.iter().any(|(known, _)| *known == term);
        if known || self.terms.len() >= QUERY_TERMS || vocabulary::is_stop_word(&identifier.to_ascii_lowercase()) {
            return;
        }
        let weight = if kind == Kind::Whole { WHOLE_WEIGHT } else { 1.0 };
        self.terms.push((term, weight * share));
        if kind == Kind::Part {
            self.compounds.add(term, identifier);
        }
        self.filter[(term as usize >> 6) & 63] |= 1 << (term & 63);
    }

    #[inline]
    fn find(&self, term: u32) -> Option<usize> {
        if self.filter[(term as usize >> 6) & 63] & (1 << (term & 63)) == 0 {
            return None;
        }
        self.terms.binary_search_by_key(&term, |(known, _)| *known).ok()
    }
}

/// What is ranked.
pub(super) struct Corpus<'c, 'a> {
    pub(super) lines: &'c Lines<'a>,
    pub(super) words: &'c Words<'a>,
    pub(super) units: &'c [Unit<'a>],
    /// For each line, whether it begins inside a string or comment of several lines.
    pub(super) quoted: &'c [bool],
    pub(super) files: &'c [&'a str],
}

/// "error handling" in "Fix the error handling of ..": what is to be done, not where. Bytes of the text.
fn task_phrase(text: &str) -> Range<usize> {
    /// Words that such a phrase has at most, with its verb and preposition.
    const WORDS: usize = 6;
    let start = text.len() - text.trim_start_matches(|c: char| !c.is_alphabetic()).len();
    let mut at = start;
    for (number, word) in text[start..].split(' ').take(WORDS).enumerate() {
        if number == 0 && !vocabulary::is_task(&word.to_ascii_lowercase()) {
            break;
        }
        if matches!(word, "of" | "to" | "for" | "in") {
            return start..at;
        }
        at += word.len() + 1;
    }
    start..start
}

/// A score per unit; 0 for those that cannot be chosen.
pub(super) fn score(corpus: &Corpus<'_, '_>, query: &Query) -> Vec<f32> {
    let hits = Hits::new(corpus.words, query);
    let counts = Counts::collect(corpus, query, &hits);
    let idf = counts.idf(query);
    let mut scores: Vec<f32> = (0..corpus.units.len()).map(|unit| counts.score(unit, &idf, query)).collect();
    let context = Context::new(corpus, query);
    let alike = alike(corpus, query);
    for ((score, unit), alike) in scores.iter_mut().zip(corpus.units).zip(alike) {
        let within = corpus.words.find(unit.name).map_or(&[][..], |word| hits.within(word));
        let within: f32 = within.iter().map(|term| idf[*term as usize]).sum();
        let named = NAMED_BONUS * named(unit, &idf, query) + ONE_WORD_BONUS * within + ALIKE_BONUS * alike;
        if *score + named > 0.0 {
            let around = context.score(corpus, unit, &hits, &idf);
            *score = (*score + named + around) * prior(unit, corpus, query);
        }
    }
    scores
}

/// Per unit: what its name has in place of words of the query, by how rare that is among names.
fn alike(corpus: &Corpus<'_, '_>, query: &Query) -> Vec<f32> {
    let mut spread = vec![0f32; query.alike.len()];
    let mut hits: Vec<(u32, u32)> = Vec::new();
    let mut named = 0f32;
    for (number, unit) in corpus.units.iter().enumerate().filter(|(_, unit)| !unit.name.is_empty()) {
        named += 1.0;
        terms::parts(unit.name, |part| {
            if let Ok(term) = query.alike.binary_search(&part) {
                spread[term] += 1.0;
                hits.push((number as u32, term as u32));
            }
        });
    }
    let mut alike = vec![0f32; corpus.units.len()];
    for (unit, term) in hits {
        alike[unit as usize] += (1.0 + (named - spread[term as usize] + 0.5) / (spread[term as usize] + 0.5)).ln();
    }
    alike
}

/// What the place of a unit says: the class around it, and its file.
struct Context {
    /// By file: the query's terms in its path.
    paths: Vec<Vec<usize>>,
}

impl Context {
    fn new(corpus: &Corpus<'_, '_>, query: &Query) -> Self {
        let terms = |path: &&str| {
            let mut found = Vec::new();
            terms::tokens(path, |_, term, _| found.extend(query.find(term).filter(|term| !found.contains(term))));
            found
        };
        Self { paths: corpus.files.iter().map(terms).collect() }
    }

    fn score(&self, corpus: &Corpus<'_, '_>, unit: &Unit<'_>, hits: &Hits, idf: &[f32]) -> f32 {
        let parent = unit.parent.and_then(|parent| corpus.words.find(corpus.units[parent].name));
        let parent = parent.map_or(&[][..], |word| hits.of(word));
        let class: f32 = parent.iter().map(|term| idf[*term as usize]).sum();
        let path = unit.file.map_or(&[][..], |file| &self.paths[file]);
        let path: f32 = path.iter().filter(|term| !parent.contains(&(**term as u32))).map(|term| idf[*term]).sum();
        CLASS_BONUS * class + PATH_BONUS * path
    }
}

/// For each distinct word of the text, the query's terms that it speaks of.
struct Hits {
    /// By word: where its terms begin in `terms`, and where those begin that are only within it.
    spans: Vec<(u32, u32)>,
    terms: Vec<u32>,
}

impl Hits {
    fn new(words: &Words<'_>, query: &Query) -> Self {
        let mut hits = Self { spans: Vec::with_capacity(words.distinct() + 1), terms: Vec::new() };
        for text in words.texts() {
            let start = hits.terms.len() as u32;
            terms::tokens(text, |_, term, _| hits.terms.extend(query.find(term).map(|term| term as u32)));
            let within = hits.terms.len() as u32;
            query.compounds.find(text, start as usize, &mut hits.terms);
            hits.spans.push((start, within));
        }
        let end = hits.terms.len() as u32;
        hits.spans.push((end, end));
        hits
    }

    /// Terms that are the word, or a part of it.
    #[inline]
    fn of(&self, word: Word) -> &[u32] {
        let (start, within) = self.spans[word.number()];
        &self.terms[start as usize..within as usize]
    }

    /// Whether a word speaks of the query at all: hardly any does.
    #[inline]
    fn any(&self, word: Word) -> bool {
        self.spans[word.number()].0 < self.spans[word.number() + 1].0
    }

    /// Terms that are within a part of the word.
    #[inline]
    fn within(&self, word: Word) -> &[u32] {
        let (_, within) = self.spans[word.number()];
        let (end, _) = self.spans[word.number() + 1];
        &self.terms[within as usize..end as usize]
    }
}

/// Weighted occurrences, unit by unit.
struct Counts {
    /// Unit, term and weighted occurrences, in order of the units.
    hits: Vec<(u32, u32, f32)>,
    /// Where each unit's hits begin in `hits`.
    starts: Vec<usize>,
    lengths: Vec<f32>,
    average: f32,
    /// Units with each term.
    spread: Vec<u32>,
}

impl Counts {
    fn collect(corpus: &Corpus<'_, '_>, query: &Query, hits: &Hits) -> Self {
        let (lines, units) = (corpus.lines, corpus.units);
        let mut counts = Self {
            hits: Vec::new(),
            starts: Vec::with_capacity(units.len() + 1),
            lengths: Vec::with_capacity(units.len()),
            average: 1.0,
            spread: vec![0; query.terms.len()],
        };
        let mut tally = vec![0f32; query.terms.len()];
        for (number, unit) in units.iter().enumerate() {
            counts.starts.push(counts.hits.len());
            let counted = !matches!(unit.role, Role::Fixed | Role::Header | Role::Closing);
            counts.lengths.push(if counted { lines.tokens(&unit.lines) as f32 } else { 0.0 });
            if counted {
                count(corpus, unit, hits, &mut tally);
                counts.take(number, &mut tally);
            }
        }
        counts.starts.push(counts.hits.len());
        let counted = counts.lengths.iter().filter(|length| **length > 0.0).count().max(1);
        counts.average = (counts.lengths.iter().sum::<f32>() / counted as f32).max(1.0);
        counts
    }

    fn take(&mut self, unit: usize, tally: &mut [f32]) {
        for (term, hits) in tally.iter_mut().enumerate().filter(|(_, hits)| **hits > 0.0) {
            self.hits.push((unit as u32, term as u32, *hits));
            self.spread[term] += 1;
            *hits = 0.0;
        }
    }

    fn idf(&self, query: &Query) -> Vec<f32> {
        let all = self.lengths.iter().filter(|length| **length > 0.0).count() as f32;
        let idf = |(units, (_, weight)): (&u32, &(u32, f32))| {
            weight * (1.0 + (all - *units as f32 + 0.5) / (*units as f32 + 0.5)).ln()
        };
        self.spread.iter().zip(&query.terms).map(idf).collect()
    }

    fn score(&self, unit: usize, idf: &[f32], query: &Query) -> f32 {
        let length = 1.0 - B + B * self.lengths[unit] / self.average;
        let hits = &self.hits[self.starts[unit]..self.starts[unit + 1]];
        let sum: f32 =
            hits.iter().map(|(_, term, hits)| idf[*term as usize] * hits * (K1 + 1.0) / (hits + K1 * length)).sum();
        // Many of the query's words at once say more than one of them many times.
        let coverage = hits.len() as f32 / query.terms.len().max(1) as f32;
        sum * (0.5 + coverage)
    }
}

fn count(corpus: &Corpus<'_, '_>, unit: &Unit<'_>, hits: &Hits, tally: &mut [f32]) {
    let mut add = |words: &[Word], weight: f32| {
        for word in words.iter().filter(|word| hits.any(**word)) {
            hits.of(*word).iter().for_each(|term| tally[*term as usize] += weight);
            hits.within(*word).iter().for_each(|term| tally[*term as usize] += weight * WITHIN_WEIGHT);
        }
    };
    if let Some(name) = corpus.words.find(unit.name) {
        add(&[name], NAME_WEIGHT);
    }
    for at in unit.lines.clone() {
        let words = corpus.words.of(&(at..at + 1));
        if !words.iter().any(|word| hits.any(*word)) {
            continue;
        }
        let weight = match (is_comment(corpus, at), unit.signature.contains(&at)) {
            (true, _) => COMMENT_WEIGHT,
            (_, true) => SIGNATURE_WEIGHT,
            _ => 1.0,
        };
        add(words, weight);
    }
}

fn is_comment(corpus: &Corpus<'_, '_>, at: usize) -> bool {
    let line = corpus.lines.trimmed(at);
    corpus.quoted[at] || line.starts_with(['#', '*', '"', '\'']) || line.starts_with("//") || line.starts_with("/*")
}

/// How much of a unit's name the query speaks of: the inverse frequencies of the parts found, by their share.
fn named(unit: &Unit<'_>, idf: &[f32], query: &Query) -> f32 {
    let (mut all, mut found, mut sum) = (0u8, 0u8, 0.0);
    terms::parts(unit.name, |part| {
        all = all.saturating_add(1);
        if let Some(term) = query.find(part) {
            found = found.saturating_add(1);
            sum += idf[term];
        }
    });
    sum * f32::from(found) / f32::from(all.max(1))
}

fn prior(unit: &Unit<'_>, corpus: &Corpus<'_, '_>, query: &Query) -> f32 {
    let path = unit.file.map_or("", |file| corpus.files[file]);
    let generated = ["_pb2", ".min.", "generated", "vendor/"].iter().any(|mark| path.contains(mark));
    let module = unit.parent.map_or("", |parent| corpus.units[parent].name);
    let test = unit.name.starts_with("test") || path.contains("test") || matches!(module, "test" | "tests");
    let role = if unit.role == Role::Piece { 0.6 } else { 1.0 };
    if generated || (test && !query.mentions_tests) { role * DEMOTION } else { role }
}
