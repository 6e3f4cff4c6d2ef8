//! Other ways to come down to a budget, for the same table. All are handed the instruction for nothing; most would have
//! to find it first.

use std::collections::{HashMap, HashSet};

use cerebrum_prompt::tokens::Estimate;
use cerebrum_prompt::{Profile, TokenCount, prepare};
use text_splitter::{ChunkConfig, CodeSplitter};

use crate::case::Case;
use crate::gold::Grammar;

pub(crate) const NAMES: [&str; 6] = ["head", "tail", "classic", "classic-rank", "recursive+bm25", "splitter+bm25"];

/// What the baseline sends of a case within `budget` tokens.
pub(crate) fn run(name: &str, case: &Case, budget: usize, grammar: Grammar) -> String {
    let text = &case.prompt;
    match name {
        "head" => within(text.lines(), budget),
        "tail" => {
            let mut kept: Vec<&str> = within_lines(text.lines().rev(), budget);
            kept.reverse();
            kept.join("\n")
        }
        "classic" => prepare(&format!("{text}\n# INSTRUCTION: {}", case.instruction), Profile::Classic).prompt,
        "classic-rank" => ranked(&windows(text), &case.instruction, budget, overlap),
        "recursive+bm25" => ranked(&recursive(text), &case.instruction, budget, bm25),
        _ => {
            let splitter = CodeSplitter::new(grammar.language(), ChunkConfig::new(1000)).ok();
            let chunks: Vec<&str> = splitter.as_ref().map_or_else(Vec::new, |splitter| splitter.chunks(text).collect());
            ranked(&chunks, &case.instruction, budget, bm25)
        }
    }
}

fn within<'t>(lines: impl Iterator<Item = &'t str>, budget: usize) -> String {
    within_lines(lines, budget).join("\n")
}

fn within_lines<'t>(lines: impl Iterator<Item = &'t str>, budget: usize) -> Vec<&'t str> {
    let mut left = budget;
    lines
        .take_while(|line| {
            let cost = Estimate.count(line) + 1;
            let fits = cost <= left;
            left = left.saturating_sub(cost);
            fits
        })
        .collect()
}

fn windows(text: &str) -> Vec<&str> {
    let mut chunks = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let from = text.floor_char_boundary(start);
        chunks.push(&text[from..text.floor_char_boundary(start + 1000)]);
        start += 850;
    }
    chunks
}

/// Paragraphs gathered up to 1,000 characters, and lines where a paragraph is longer.
fn recursive(text: &str) -> Vec<&str> {
    let mut chunks = Vec::new();
    let (mut start, mut end) = (0, 0);
    let pieces = text.split_inclusive("\n\n").flat_map(|paragraph| {
        let long = paragraph.len() > 1000;
        let lines = if long { paragraph.split_inclusive('\n').collect::<Vec<_>>() } else { vec![paragraph] };
        lines.into_iter()
    });
    for piece in pieces {
        if end - start + piece.len() > 1000 && end > start {
            chunks.push(&text[start..end]);
            start = end;
        }
        end += piece.len();
    }
    chunks.push(&text[start..end]);
    chunks
}

type Ranker = fn(&[&str], &str) -> Vec<f64>;

fn ranked(chunks: &[&str], query: &str, budget: usize, ranker: Ranker) -> String {
    let scores = ranker(chunks, query);
    let mut order: Vec<usize> = (0..chunks.len()).collect();
    order.sort_by(|one, two| scores[*two].total_cmp(&scores[*one]));
    let mut left = budget;
    let mut kept: Vec<usize> = Vec::new();
    for chunk in order {
        let cost = Estimate.count(chunks[chunk]);
        if cost <= left {
            left -= cost;
            kept.push(chunk);
        }
    }
    kept.sort_unstable();
    kept.into_iter().map(|chunk| chunks[chunk]).collect::<Vec<_>>().join("\n")
}

fn overlap(chunks: &[&str], query: &str) -> Vec<f64> {
    let words = |text: &str| text.to_lowercase().split_whitespace().map(str::to_owned).collect::<HashSet<_>>();
    let query = words(query);
    chunks.iter().map(|chunk| words(chunk).intersection(&query).count() as f64).collect()
}

/// Plain BM25 over code tokens: identifiers and their parts.
fn bm25(chunks: &[&str], query: &str) -> Vec<f64> {
    let documents: Vec<Vec<String>> = chunks.iter().map(|chunk| tokens(chunk)).collect();
    let mut spread: HashMap<&str, f64> = HashMap::new();
    for document in &documents {
        for token in document.iter().map(String::as_str).collect::<HashSet<_>>() {
            *spread.entry(token).or_default() += 1.0;
        }
    }
    let query: HashSet<String> = tokens(query).into_iter().collect();
    let all = documents.len() as f64;
    let average = documents.iter().map(Vec::len).sum::<usize>() as f64 / all.max(1.0);
    let score = |document: &Vec<String>| {
        let length = 0.25 + 0.75 * document.len() as f64 / average.max(1.0);
        let term = |term: &String| {
            let hits = document.iter().filter(|token| *token == term).count() as f64;
            let units = spread.get(term.as_str()).copied().unwrap_or_default();
            (1.0 + (all - units + 0.5) / (units + 0.5)).ln() * hits * 2.2 / (hits + 1.2 * length)
        };
        query.iter().map(term).sum()
    };
    documents.iter().map(score).collect()
}

fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    for word in text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| word.len() > 1) {
        tokens.push(word.to_lowercase());
        let spaced: String = word
            .chars()
            .flat_map(|c| {
                if c.is_uppercase() {
                    vec![' ', c.to_ascii_lowercase()]
                } else if c == '_' {
                    vec![' ']
                } else {
                    vec![c]
                }
            })
            .collect();
        let parts: Vec<&str> = spaced.split_whitespace().collect();
        if parts.len() > 1 {
            tokens.extend(parts.into_iter().map(str::to_owned));
        }
    }
    tokens
}
