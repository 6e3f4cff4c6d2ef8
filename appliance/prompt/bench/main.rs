//! `make bench-prep`: how much of what is needed survives preparation, at which size, beside other ways of shortening.
//!
//! Reads source trees, makes cases with a seed, prepares them, and prints one table and a `RESULT` line. Gold comes from
//! tree-sitter, never from the selector. Nothing here is part of the product.
#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]

mod baseline;
mod case;
mod gold;
mod hostile;
mod replay;
mod session;
mod speed;
mod traps;
mod tree;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use case::{Case, Random};
use cerebrum_prompt::tokens::Estimate;
use cerebrum_prompt::{Mode, Prepared, Profile, Request, Settings, TokenCount, prepare_request};
use gold::Grammar;
use peak_alloc::PeakAlloc;
use tree::Group;

#[global_allocator]
static PEAK: PeakAlloc = PeakAlloc;

/// The estimate taken as exact, so that every method is held to the same count.
struct AsExact;

impl TokenCount for AsExact {
    fn count(&self, text: &str) -> usize {
        Estimate.count(text)
    }

    fn is_exact(&self) -> bool {
        true
    }
}

struct Options {
    trees: Vec<PathBuf>,
    /// Git repositories, for family D.
    histories: Vec<PathBuf>,
    cases: usize,
    seed: u64,
    json: Option<PathBuf>,
    show: Option<char>,
    /// Where prompts that lost something are written to, beside what was sent.
    keep: Option<PathBuf>,
    /// Families to make cases of.
    only: String,
    baselines: bool,
    /// Neither speeds nor sessions.
    quick: bool,
}

/// Sums for one row of the table.
#[derive(Default)]
struct Row {
    cases: usize,
    intact: usize,
    needed: usize,
    found: usize,
    wrong: usize,
    kept_tokens: usize,
    all_tokens: usize,
}

type Table = BTreeMap<(String, char, String), Row>;

fn main() -> std::process::ExitCode {
    let options = options();
    let groups = tree::load(&options.trees);
    if groups.is_empty() {
        println!("no source files found; give trees with --repo DIR");
        return std::process::ExitCode::FAILURE;
    }
    for group in &groups {
        println!("tree {} ({} files)", group.name, group.files.len());
    }
    let mut random = Random(options.seed);
    let cases = cases(&groups, &options, &mut random);
    let mut table = Table::new();
    for case in &cases {
        measure(case, &options, &mut table);
    }
    print(&table);
    by_group(&cases);
    if options.quick {
        return std::process::ExitCode::SUCCESS;
    }
    let speeds = speed::run(&groups, &mut random);
    let sticky = session::run(&groups, &mut random);
    let result = result(&table, &speeds, sticky);
    if let Some(path) = options.json {
        let rows: Vec<String> = table.iter().map(json).collect();
        let text = format!("{{\"rows\":[{}],\"result\":\"{result}\"}}\n", rows.join(",\n"));
        if let Err(error) = std::fs::write(&path, text) {
            println!("cannot write {}: {error}", path.display());
        }
    }
    println!("{result}");
    std::process::ExitCode::SUCCESS
}

fn options() -> Options {
    let mut options = Options {
        trees: Vec::new(),
        histories: Vec::new(),
        cases: 60,
        seed: 7,
        json: None,
        show: None,
        keep: None,
        only: "ABCDEFGH".to_owned(),
        baselines: true,
        quick: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_default();
        match word.as_str() {
            "--repo" => options.trees.push(value().into()),
            "--cases" => options.cases = value().parse().unwrap_or(options.cases),
            "--seed" => options.seed = value().parse().unwrap_or(options.seed),
            "--json" => options.json = Some(value().into()),
            "--show" => options.show = value().chars().next(),
            "--keep" => options.keep = Some(value().into()),
            "--only" => options.only = value(),
            "--ours" => options.baselines = false,
            "--quick" => options.quick = true,
            _ => println!("unknown option {word}"),
        }
    }
    if options.trees.is_empty() {
        options.trees = default_trees();
        // The repository that this is started in: its history is the only one that is sure to be there.
        options.histories.extend(std::env::current_dir());
    }
    options.histories.extend(options.trees.iter().cloned());
    options.histories.retain(|tree| tree.join(".git").exists());
    options
}

/// Crates that cargo has fetched and a part of the Python standard library: what is on every machine that builds this,
/// less the trees that anything was tuned on.
fn default_trees() -> Vec<PathBuf> {
    const CRATES: [&str; 11] = [
        "rustyline-",
        "proptest-1",
        "similar-2",
        "uuid-1",
        "tracing-subscriber-0",
        "embedded-graphics-0",
        "sysinfo-0",
        "tokio-util-0",
        "http-1.5",
        "tree-sitter-0",
        "llama-cpp-sys-2",
    ];
    let mut trees = Vec::new();
    let home = std::env::home_dir().unwrap_or_default();
    for registry in std::fs::read_dir(home.join(".cargo/registry/src")).into_iter().flatten().flatten() {
        for entry in std::fs::read_dir(registry.path()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if CRATES.iter().any(|known| name.starts_with(known)) {
                trees.push(entry.path());
            }
        }
    }
    trees.sort();
    let python = (9..16).map(|minor| PathBuf::from(format!("/usr/lib/python3.{minor}")));
    let folders = ["logging", "http", "json", "urllib", "concurrent", "ctypes"];
    trees.extend(python.flat_map(|path| folders.map(|folder| path.join(folder))).filter(|path| path.exists()));
    trees
}

fn cases(groups: &[Group], options: &Options, random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for family in ['A', 'B', 'C', 'E', 'F', 'G'].into_iter().filter(|family| options.only.contains(*family)) {
        let mut made = 0;
        for attempt in 0..options.cases * 30 {
            let size = [8, 32, 120][attempt % 3] << 10;
            let group = &groups[random.below(groups.len())];
            if let Some(case) = case::make(family, group, size, random) {
                cases.push(case);
                made += 1;
            }
            if made >= options.cases {
                break;
            }
        }
    }
    if options.only.contains('D') {
        for tree in &options.histories {
            cases.extend(replay::cases(tree, random, options.cases));
        }
    }
    if options.only.contains('H') {
        cases.extend(hostile::cases(groups, random, options.cases / 2));
    }
    cases
}

const BUDGETS: [(&str, usize); 7] =
    [("10%", 10), ("20%", 20), ("35%", 35), ("50%", 50), ("1k", 1000), ("2k", 2000), ("3k", 3000)];

fn measure(case: &Case, options: &Options, table: &mut Table) {
    let all = Estimate.count(&case.prompt);
    // Family G needs both versions.
    let versions = if case.family == 'G' { 2 } else { 1 };
    let target: usize = case.gold.iter().map(|line| Estimate.count(line) + 2).sum();
    let gold = target * versions + Estimate.count(&case.instruction);
    for (label, size) in BUDGETS {
        let budget = if size <= 50 { all * size / 100 } else { size };
        // A budget that the target alone would fill decides nothing about choosing.
        if gold * 5 > budget * 4 || budget >= all {
            continue;
        }
        let sent = ours(case, Some(budget)).prompt;
        let intact = record(case, "smart", label, &sent, table);
        if !intact && options.show == Some(case.family) && matches!(label, "20%" | "50%") {
            println!("LOST at {label} in {}: {}\n  {:?}", case.group, case.instruction, lost(&case.gold, &sent));
            keep(options, case, label.trim_end_matches('%'), &sent);
        }
        let unsigned = lost(&case.signatures, &sent);
        if options.show == Some('s') && label == "20%" && !unsigned.is_empty() {
            let sizes = (gold, Estimate.count(&sent), budget, case.signatures.len());
            println!("UNSIGNED in {} {} {sizes:?}: {}\n  {unsigned:?}", case.family, case.group, case.instruction);
        }
        if options.baselines && label == "20%" && !case.completion && case.family != 'H' {
            let grammar = Grammar::ALL.into_iter().find(|grammar| case.group.ends_with(grammar.tag()));
            for name in baseline::NAMES {
                let sent = baseline::run(name, case, budget, grammar.unwrap_or(Grammar::Python));
                record(case, name, label, &sent, table);
            }
        }
    }
    let sent = ours(case, None);
    let intact = record(case, "smart", "auto", &sent.prompt, table);
    if !intact && options.show == Some(case.family) {
        keep(options, case, "auto", &sent.prompt);
        println!(
            "WRONG in {} ({:?}): {}\n  {:?}",
            case.group,
            sent.report.outcome,
            case.instruction,
            lost(&case.gold, &sent.prompt)
        );
    }
}

fn keep(options: &Options, case: &Case, label: &str, sent: &str) {
    let Some(folder) = &options.keep else { return };
    let name: String = case.instruction.chars().filter(|c| c.is_alphanumeric() || "_ ".contains(*c)).take(60).collect();
    for (kind, text) in [("prompt", case.prompt.as_str()), ("sent", sent)] {
        let path = folder.join(format!("{}-{name}-{label}.{kind}", case.family).replace(' ', "_"));
        if let Err(error) = std::fs::write(&path, text) {
            println!("cannot write {}: {error}", path.display());
        }
    }
}

fn ours(case: &Case, room: Option<usize>) -> Prepared {
    let settings = Settings { profile: Profile::Smart };
    let mode = if case.completion { Mode::Completion } else { Mode::Instruct };
    let request = Request { mode, room, tokens: &AsExact, ..Request::new(&case.prompt) };
    prepare_request(&request, &settings)
}

/// Counts one outcome; says whether all gold is there.
fn record(case: &Case, method: &str, budget: &str, sent: &str, table: &mut Table) -> bool {
    let present: HashSet<&str> = sent.lines().map(str::trim).collect();
    let row = table.entry((method.to_owned(), case.family, budget.to_owned())).or_default();
    let promised = sent.len() <= case.prompt.len() && (method != "smart" || sent.contains(case.instruction.trim()));
    let intact = promised && case.gold.iter().all(|line| present.contains(line.as_str()));
    row.cases += 1;
    row.intact += usize::from(intact);
    row.wrong += usize::from(!intact);
    row.needed += case.signatures.len();
    row.found += case.signatures.iter().filter(|line| present.contains(line.as_str())).count();
    row.all_tokens += Estimate.count(&case.prompt);
    row.kept_tokens += Estimate.count(sent);
    intact
}

fn lost<'c>(gold: &'c [String], sent: &str) -> Vec<&'c str> {
    let present: HashSet<&str> = sent.lines().map(str::trim).collect();
    gold.iter().map(String::as_str).filter(|line| !present.contains(line)).take(3).collect()
}

fn share(part: usize, all: usize) -> f64 {
    if all == 0 { f64::NAN } else { part as f64 / all as f64 }
}

fn print(table: &Table) {
    println!(
        "{:<15} {:>6} {:>6} {:>5} {:>7} {:>7} {:>6}",
        "method", "family", "budget", "n", "intact", "signat.", "kept"
    );
    for ((method, family, budget), row) in table {
        println!(
            "{method:<15} {family:>6} {budget:>6} {:>5} {:>7.3} {:>7.3} {:>6.2}",
            row.cases,
            share(row.intact, row.cases),
            share(row.found, row.needed),
            share(row.kept_tokens, row.all_tokens)
        );
    }
}

/// Intact rate of families A to C at a fifth, tree by tree: one bad tree must not hide in the mean.
fn by_group(cases: &[Case]) {
    let mut groups: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for case in cases.iter().filter(|case| "ABC".contains(case.family)) {
        let mut scratch = Table::new();
        let budget = Estimate.count(&case.prompt) / 5;
        let gold: usize = case.gold.iter().map(|line| Estimate.count(line) + 2).sum();
        if gold * 5 <= budget * 4 {
            let intact = record(case, "smart", "20%", &ours(case, Some(budget)).prompt, &mut scratch);
            let entry = groups.entry(&case.group).or_default();
            *entry = (entry.0 + usize::from(intact), entry.1 + 1);
        }
    }
    for (group, (intact, all)) in groups {
        println!("at 20% {group}: {intact} of {all} intact");
    }
}

fn result(table: &Table, speeds: &[speed::Speed], sticky: f64) -> String {
    let row = |family: char, budget: &str| table.get(&("smart".to_owned(), family, budget.to_owned()));
    let intact = |family| row(family, "20%").map_or(f64::NAN, |row| share(row.intact, row.cases));
    let signatures: Vec<&Row> = ['A', 'B', 'C'].iter().filter_map(|family| row(*family, "20%")).collect();
    let sum = |part: fn(&Row) -> usize| signatures.iter().map(|row| part(row)).sum::<usize>();
    let wrong = |family| row(family, "auto").map_or(0, |row| row.wrong) + row(family, "50%").map_or(0, |row| row.wrong);
    let ms = |label: &str| speeds.iter().find(|speed| speed.label == label).map_or(f64::NAN, |speed| speed.median_ms);
    format!(
        "RESULT a_intact20={:.3} b_intact20={:.3} c_intact20={:.3} d_intact20={:.3} signatures20={:.3} g_wrong={} h_wrong={} ms_8k={:.3} ms_1m={:.2} sticky_prefill_ratio={:.3}",
        intact('A'),
        intact('B'),
        intact('C'),
        intact('D'),
        share(sum(|row| row.found), sum(|row| row.needed)),
        wrong('G'),
        wrong('H'),
        ms("8k"),
        ms("1m"),
        sticky
    )
}

fn json(((method, family, budget), row): (&(String, char, String), &Row)) -> String {
    let Row { cases, intact, needed, found, kept_tokens, all_tokens, .. } = row;
    format!(
        "{{\"method\":\"{method}\",\"family\":\"{family}\",\"budget\":\"{budget}\",\"cases\":{cases},\"intact\":{intact},\
         \"signatures_needed\":{needed},\"signatures_found\":{found},\"tokens_kept\":{kept_tokens},\"tokens\":{all_tokens}}}"
    )
}
