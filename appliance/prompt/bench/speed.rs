//! How long preparing takes and how much memory at its peak, beside the `classic` profile and the chunks of `text-splitter`,
//! by size of the prompt and for texts that are made to be slow.

use std::time::Instant;

use cerebrum_prompt::tokens::Estimate;
use cerebrum_prompt::{Profile, Request, Settings, TokenCount, prepare_request};
use text_splitter::TextSplitter;

use crate::case::Random;
use crate::traps::{INSTRUCTION, traps};
use crate::tree::Group;
use crate::{AsExact, PEAK};

/// Time that this thread spent on a processor, where the system tells it (Linux), so that neighbours count less; else time
/// on the wall.
struct Clock {
    wall: Instant,
    on_cpu_ns: Option<u64>,
}

impl Clock {
    fn start() -> Self {
        Self { on_cpu_ns: Self::on_cpu_ns(), wall: Instant::now() }
    }

    fn on_cpu_ns() -> Option<u64> {
        std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
    }

    fn elapsed_ms(&self) -> f64 {
        let wall = self.wall.elapsed().as_secs_f64() * 1000.0;
        match self.on_cpu_ns.zip(Self::on_cpu_ns()) {
            Some((before, after)) if after > before => (after - before) as f64 / 1e6,
            _ => wall,
        }
    }
}

/// Milliseconds for a prompt of some size: the median of several batches.
pub(crate) struct Speed {
    pub(crate) label: &'static str,
    pub(crate) median_ms: f64,
}

/// Prints all of it.
pub(crate) fn run(groups: &[Group], random: &mut Random) -> Vec<Speed> {
    let all: String =
        groups.iter().flat_map(|group| &group.files).map(|file| format!("// {}\n{}\n", file.path, file.text)).collect();
    println!("{:<22} {:>10} {:>10} {:>14} {:>10}", "ms, medians", "smart", "classic", "text-splitter", "peak MiB");
    // Batches and runs in each: the clock of a running thread moves in steps of some milliseconds.
    let sizes = [
        ("1k", 1 << 10, 21, 40),
        ("8k", 8 << 10, 21, 20),
        ("100k", 100 << 10, 21, 3),
        ("1m", 1 << 20, 15, 1),
        ("4m", 4 << 20, 3, 1),
    ];
    let speeds = sizes.map(|(label, bytes, batches, runs)| {
        let prompts: Vec<String> = (0..runs).map(|_| prompt_of(&all, bytes, random)).collect();
        compare(label, &prompts, batches)
    });
    for (label, text) in traps(1 << 20) {
        compare(label, &[format!("{INSTRUCTION}\n\n{text}\n")], 5);
    }
    speeds.into_iter().collect()
}

fn compare(label: &'static str, prompts: &[String], batches: usize) -> Speed {
    let mut peak = 0f32;
    let median_ms = median(prompts, batches, |prompt| {
        PEAK.reset_peak_usage();
        let before = PEAK.current_usage_as_mb();
        let request = Request { room: Some(Estimate.count(prompt) / 5), tokens: &AsExact, ..Request::new(prompt) };
        drop(prepare_request(&request, &Settings { profile: Profile::Smart }));
        peak = peak.max(PEAK.peak_usage_as_mb() - before);
    });
    let few = batches.min(3);
    let classic = median(prompts, few, |prompt| {
        drop(prepare_request(&Request::new(prompt), &Settings { profile: Profile::Classic }));
    });
    let splitter = median(prompts, few, |prompt| drop(TextSplitter::new(1000).chunks(prompt).collect::<Vec<_>>()));
    println!("speed {label:<22} {median_ms:>10.3} {classic:>10.3} {splitter:>10.3} {peak:>10.1}");
    Speed { label, median_ms }
}

fn median(prompts: &[String], batches: usize, mut work: impl FnMut(&str)) -> f64 {
    let mut times: Vec<f64> = (0..batches)
        .map(|_| {
            let clock = Clock::start();
            prompts.iter().for_each(|prompt| work(prompt));
            clock.elapsed_ms() / prompts.len() as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn prompt_of(all: &str, bytes: usize, random: &mut Random) -> String {
    let mut code = String::new();
    while code.len() < bytes {
        let start = all.floor_char_boundary(random.below(all.len().saturating_sub(bytes)));
        code.push_str(&all[start..all.floor_char_boundary((start + bytes - code.len()).min(all.len()))]);
        code.push('\n');
    }
    format!("{INSTRUCTION}\n\n{code}")
}
