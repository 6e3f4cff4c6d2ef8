//! Time of a preparation by size of the prompt, and for texts that are made to be slow, beside the `classic` profile and the
//! chunks of `text-splitter`. The prompts are cut from this workspace's own source.

use std::path::Path;
use std::time::Duration;

use cerebrum_prompt::tokens::Estimate;
use cerebrum_prompt::{Profile, Request, Settings, TokenCount, prepare_request};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use text_splitter::TextSplitter;

#[path = "../bench/traps.rs"]
mod traps;
use traps::{INSTRUCTION, traps};

fn sizes(criterion: &mut Criterion) {
    let source = source();
    for (label, bytes) in [("1k", 1 << 10), ("8k", 8 << 10), ("100k", 100 << 10), ("1m", 1 << 20)] {
        assert!(source.len() >= bytes, "found {} bytes of source, expected at least {bytes}", source.len());
        // From the middle: a text that begins with a file's head would be the easiest.
        let start = source.floor_char_boundary((source.len() - bytes) / 2);
        let code = &source[start..source.floor_char_boundary(start + bytes)];
        compare(criterion, label, &format!("{INSTRUCTION}\n\n{code}\n"));
    }
}

fn slow_texts(criterion: &mut Criterion) {
    // The chunks of `text-splitter` take minutes for a longer line.
    for (label, text) in traps(1 << 17) {
        compare(criterion, label, &format!("{INSTRUCTION}\n\n{text}\n"));
    }
}

fn compare(criterion: &mut Criterion, label: &str, prompt: &str) {
    let mut group = criterion.benchmark_group(label);
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Bytes(prompt.len() as u64));
    for profile in [Profile::Smart, Profile::Classic] {
        let request = Request { room: Some(Estimate.count(prompt) / 5), ..Request::new(prompt) };
        group.bench_function(BenchmarkId::from_parameter(profile.as_str()), |bencher| {
            bencher.iter(|| prepare_request(&request, &Settings { profile }));
        });
    }
    group.bench_function("text-splitter", |bencher| {
        bencher.iter(|| TextSplitter::new(1000).chunks(prompt).count());
    });
    group.finish();
}

/// All of the workspace's source, file after file.
fn source() -> String {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect()
}

criterion_group!(benches, sizes, slow_texts);
criterion_main!(benches);
