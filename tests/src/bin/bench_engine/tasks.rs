//! What is measured, and what is made of it.

use std::collections::BTreeMap;
use std::time::Instant;

use clap::ValueEnum;

use crate::gguf::{WORDS, word};
use crate::random::Random;
use crate::say;
use crate::side::{Ask, Side, Took};

/// A part of the comparison.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Part {
    /// Tokens per second of 1 and 4 streams.
    Decode,
    /// Prompt tokens per second, and the first token where a prefix is known.
    Prefix,
    /// A file with one name changed throughout.
    Edit,
}

/// Samples by what was measured and on which side.
#[derive(Default)]
pub(crate) struct Figures(BTreeMap<(&'static str, &'static str), Vec<f64>>);

impl Figures {
    fn add(&mut self, what: &'static str, side: &Side, value: f64) {
        say(&format!("  {what} {}: {value:.4}", side.name));
        self.0.entry((what, side.name)).or_default().push(value);
    }

    pub(crate) fn memory(&mut self, side: &Side) -> anyhow::Result<()> {
        self.add("peak_rss_mib", side, side.peak_rss()? as f64 / f64::from(1 << 20));
        Ok(())
    }

    fn median(&self, what: &'static str, side: &'static str) -> Option<f64> {
        self.0.get(&(what, side)).map(|values| median(values))
    }

    // Of each pair the first over the second, and of those the median.
    fn ratio(&self, what: &'static str, one: &'static str, other: &'static str) -> String {
        let pairs = self.0.get(&(what, one)).zip(self.0.get(&(what, other)));
        let ratios = pairs.map(|(ones, others)| ones.iter().zip(others).map(|(a, b)| a / b).collect::<Vec<_>>());
        ratios.map_or_else(|| "-".to_owned(), |ratios| format!("{:.2}", median(&ratios)))
    }

    /// Medians, and the line that scripts read: ours over theirs, above 1 is better for speeds, below 1 for memory.
    pub(crate) fn report(&self) {
        say("medians:");
        for (what, side) in self.0.keys() {
            let values = &self.0[&(*what, *side)];
            say(&format!("  {what:20} {side:16} {:10.3}  of {}", self.median(what, side).unwrap_or(0.0), values.len()));
        }
        let of = |what| self.ratio(what, "cerebrum", "llama-server");
        say(&format!(
            "RESULT decode1_ratio={} decode4_ratio={} prefill_ratio={} ttft_same_slot_ratio={} ttft_other_slot_ratio={} \
             edit_vs_plain={} edit_vs_llama_server={} rss_ratio={}",
            of("decode1_tps"),
            of("decode4_tps"),
            of("prefill_tps"),
            of("same_slot_per_s"),
            of("other_slot_per_s"),
            self.ratio("edit_tps", "cerebrum", "without drafts"),
            of("edit_tps"),
            of("peak_rss_mib"),
        ));
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

fn words(random: &mut Random, count: usize) -> String {
    (0..count).map(|_| format!(" {}", word(random.below(WORDS)))).collect()
}

// Each goes first every other time.
fn in_turn<'a>(sides: &[&'a Side], round: usize) -> Vec<&'a Side> {
    let mut sides = sides.to_vec();
    if round % 2 == 1 {
        sides.reverse();
    }
    sides
}

const DECODE_TOKENS: u32 = 96;

pub(crate) async fn decode(sides: &[&Side], pairs: usize, figures: &mut Figures) -> anyhow::Result<()> {
    let mut random = Random::new(2);
    for round in 0..pairs {
        let prompts: Vec<_> = (0..4).map(|_| words(&mut random, 32)).collect();
        let ask = |n: usize| Ask {
            prompt: prompts[n].clone(),
            max_tokens: DECODE_TOKENS,
            seed: Some((round * 4 + n) as u64),
            grammar: None,
        };
        for side in in_turn(sides, round) {
            let alone = side.ask(&ask(0)).await?;
            figures.add("decode1_tps", side, alone.decode_rate());
        }
        for side in in_turn(sides, round) {
            figures.add("decode4_tps", side, four(side, [ask(0), ask(1), ask(2), ask(3)]).await?);
        }
    }
    Ok(())
}

// All tokens of four streams over the time from when all had begun to the end of the last.
async fn four(side: &Side, asks: [Ask; 4]) -> anyhow::Result<f64> {
    let [a, b, c, d] = &asks;
    let (a, b, c, d) = tokio::try_join!(side.open(a), side.open(b), side.open(c), side.open(d))?;
    let begun = Instant::now();
    let (a, b, c, d) = tokio::try_join!(a.finish(), b.finish(), c.finish(), d.finish())?;
    let tokens: u64 = [a, b, c, d].iter().map(|took| took.tokens.saturating_sub(1)).sum();
    Ok(tokens as f64 / begun.elapsed().as_secs_f64())
}

pub(crate) async fn prefix(sides: &[&Side], pairs: usize, length: usize, figures: &mut Figures) -> anyhow::Result<()> {
    let mut random = Random::new(3);
    for round in 0..pairs {
        let shared = words(&mut random, length);
        let question = words(&mut random, 16);
        for side in in_turn(sides, round) {
            // Another question about the same prefix each time.
            let ask = |n: u32, max_tokens| Ask {
                prompt: format!("{shared} {}{question}", word(n)),
                max_tokens,
                seed: Some(1),
                grammar: None,
            };
            let fresh = side.ask(&ask(0, 1)).await?;
            figures.add("prefill_tps", side, fresh.prompt_tokens as f64 / fresh.first.as_secs_f64());
            let same = side.ask(&ask(1, 1)).await?;
            figures.add("same_slot_per_s", side, 1.0 / same.first.as_secs_f64());
            // A generation on that prefix is at work; the next question has to go elsewhere.
            let busy = side.open(&ask(2, 1000)).await?;
            let other = side.ask(&ask(3, 1)).await?;
            figures.add("other_slot_per_s", side, 1.0 / other.first.as_secs_f64());
            say(&format!("    cached {} {} {} of {}", fresh.cached, same.cached, other.cached, other.prompt_tokens));
            drop(busy);
        }
    }
    Ok(())
}

pub(crate) async fn edit(sides: &[&Side], pairs: usize, lines: usize, figures: &mut Figures) -> anyhow::Result<()> {
    let mut random = Random::new(4);
    for round in 0..pairs {
        let (old, new) = (words(&mut random, 1), words(&mut random, 1));
        let line = |n: usize, random: &mut Random| match n % 3 {
            0 => format!("{}{old}{}\n", words(random, 1), words(random, 1)),
            _ => format!("{}\n", words(random, 3)),
        };
        let file: String = (0..lines).map(|n| line(n, &mut random)).collect();
        let edited = file.replace(&old, &new);
        let ask = Ask {
            prompt: format!("{file}{}\n", words(&mut random, 8)),
            max_tokens: 4 * lines as u32 + 8,
            seed: None,
            grammar: Some(format!("root ::= \"{}\"", edited.replace('\n', "\\n"))),
        };
        for side in in_turn(sides, round) {
            let took: Took = side.ask(&ask).await?;
            anyhow::ensure!(took.text == edited, "{} did not write the edited file: {took:?}", side.name);
            figures.add("edit_tps", side, took.decode_rate());
        }
    }
    Ok(())
}
