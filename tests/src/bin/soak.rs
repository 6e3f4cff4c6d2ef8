//! `make soak`: the real server under mixed requests with random cancellations, for as long as asked.
//!
//! At temperature 0 every complete answer has to be the one that a server at rest gave; every slot has to be there in the end; and
//! memory must not go on growing. A program of its own rather than a test, because what it looks for takes minutes to show.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cerebrum_tests::client::Client;
use cerebrum_tests::random::Random;
use cerebrum_tests::stack::{MODEL, Program, Site, models_folder};
use clap::Parser;
use serde_json::{Value, json};

#[derive(Parser)]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Requests at a time; more than the server has slots, so that some wait.
    #[arg(long, default_value_t = 6)]
    callers: u64,
    /// Where the random choices begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tokens guessed ahead, the server's `draft_tokens`. On x86 they change no text of the bundled model (see
    /// `cerebrum_engine::llama`); elsewhere a near tie may be decided otherwise than by a server at rest.
    #[arg(long, default_value_t = 32)]
    drafts: u64,
}

const SLOTS: usize = 3;
/// Between two looks at the server's memory.
const LOOK: Duration = Duration::from_secs(2);
/// Growth from the second quarter of the time to the last that is still taken for chance.
const GROWTH_MIB: f64 = 8.0;
/// The server has so long to come to rest.
const REST: Duration = Duration::from_secs(60);

/// A request, and what a server at rest answers.
struct Case {
    body: Value,
    text: String,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    whole: u64,
    streamed: u64,
    cancelled: u64,
    busy: u64,
    wrong: u64,
    failed: u64,
}

impl Counts {
    fn plus(self, other: Self) -> Self {
        Self {
            whole: self.whole + other.whole,
            streamed: self.streamed + other.streamed,
            cancelled: self.cancelled + other.cancelled,
            busy: self.busy + other.busy,
            wrong: self.wrong + other.wrong,
            failed: self.failed + other.failed,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(soak(&arguments)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("soak: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    // Whoever closed the other end has seen enough.
    drop(writeln!(std::io::stdout(), "{line}"));
}

async fn soak(arguments: &Arguments) -> anyhow::Result<bool> {
    let site = Site::new()?;
    let server = serving(&site, arguments.drafts)?;
    let client = Client::plain(site.server, Some(site.server_key.expose()));
    let cases = cases(&client).await?;
    say(&format!("soak: {} prompts answered by a server at rest; {} minutes", cases.len(), arguments.minutes));

    let until = Instant::now() + Duration::from_secs_f64(arguments.minutes * 60.0);
    let callers = (0..arguments.callers).map(|caller| call(&client, &cases, arguments.seed * 1000 + caller, until));
    let (counts, memory) = tokio::join!(all(callers), watch(&server, until));
    let counts = counts.into_iter().fold(Counts::default(), Counts::plus);
    let memory = memory?;

    let lost = lost_slots(&client, &cases).await?;
    let (first, last) = (mean(&memory[memory.len() / 4..memory.len() / 2]), mean(&memory[memory.len() * 3 / 4..]));
    let Counts { whole, streamed, cancelled, busy, wrong, failed } = counts;
    let ok = wrong == 0 && failed == 0 && lost == 0 && last - first <= GROWTH_MIB && whole > 0 && cancelled > 0;
    say(&format!(
        "RESULT soak={} minutes={:.1} whole={whole} streamed={streamed} cancelled={cancelled} busy={busy} wrong={wrong} \
         failed={failed} lost_slots={lost} rss_second_quarter_mib={first:.1} rss_last_quarter_mib={last:.1}",
        if ok { "passed" } else { "failed" },
        arguments.minutes,
    ));
    Ok(ok)
}

async fn all<T>(tasks: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut tasks: Vec<_> = tasks.map(Box::pin).collect();
    let mut results: Vec<Option<T>> = tasks.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (task, result) in tasks.iter_mut().zip(&mut results).filter(|(_, result)| result.is_none()) {
            if let std::task::Poll::Ready(value) = task.as_mut().poll(context) {
                *result = Some(value);
            }
        }
        match results.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    results.into_iter().flatten().collect()
}

fn serving(site: &Site, drafts: u64) -> anyhow::Result<Program> {
    let settings = format!(
        "listen = \"{}\"\nkeys_file = \"server-keys.toml\"\nmodels_dir = {:?}\nthreads = 1\nslots = {SLOTS}\nqueue = 2\n\
         prefix_cache_mib = 32\ndraft_tokens = {drafts}\n[guards]\nmax_cpu_percent = 100\nmin_free_ram_mib = 0\n",
        site.server,
        models_folder().display().to_string()
    );
    Program::start("cerebrum-server", &["serve"], &site.write("soak.toml", &settings)?)
}

/// Prompts of many lengths, some with a common beginning, and their answers one after the other.
async fn cases(client: &Client) -> anyhow::Result<Vec<Case>> {
    let block = "def read_lines(path):\n    with open(path) as file:\n        return file.readlines()\n\n";
    let mut cases = Vec::new();
    for n in 0..24_usize {
        let beginning = if n % 3 == 0 { format!("# file {n}\n") } else { "# the same file\nimport os\n".to_owned() };
        let prompt = format!("{beginning}{}def f{n}(a, b):\n    return", block.repeat(n % 8));
        let body = json!({"prompt": prompt, "model": MODEL, "max_tokens": 8 + n * 4, "temperature": 0, "seed": 1});
        let answer = client.post("/v1/inference", &body).await?;
        ensure!(answer.status == 200, "a server at rest answered {}: {:?}", answer.status, answer.body);
        let text = answer.json()?["result"].as_str().context("no result")?.to_owned();
        cases.push(Case { body, text });
    }
    Ok(cases)
}

async fn call(client: &Client, cases: &[Case], seed: u64, until: Instant) -> Counts {
    let mut random = Random::new(seed);
    let mut counts = Counts::default();
    // The first numbers of neighbouring seeds are alike.
    for _ in 0..8 {
        random.below(2);
    }
    while Instant::now() < until {
        let case = &cases[random.below(cases.len() as u64) as usize];
        let outcome = match random.below(4) {
            0 => whole(client, case, &mut counts).await,
            1 => streamed(client, case, u64::MAX, &mut counts).await,
            // Before the first token, after some, or in the middle.
            _ => streamed(client, case, random.below(12), &mut counts).await,
        };
        if let Err(error) = outcome {
            say(&format!("soak: {error:#}"));
            counts.failed += 1;
        }
        tokio::time::sleep(Duration::from_millis(random.below(20))).await;
    }
    counts
}

async fn whole(client: &Client, case: &Case, counts: &mut Counts) -> anyhow::Result<()> {
    let answer = client.post("/v1/inference", &case.body).await?;
    if answer.status == 503 {
        counts.busy += 1;
        return Ok(());
    }
    ensure!(answer.status == 200, "answered {}: {:?}", answer.status, answer.body);
    let text = answer.json()?["result"].as_str().context("no result")?.to_owned();
    counts.whole += 1;
    compare(case, &text, counts);
    Ok(())
}

/// Reads so many events, then goes away; or all of them.
async fn streamed(client: &Client, case: &Case, events: u64, counts: &mut Counts) -> anyhow::Result<()> {
    let mut stream = match client.stream("/v1/inference/stream", &case.body).await {
        Ok(stream) => stream,
        Err(error) if error.to_string().contains("503") => {
            counts.busy += 1;
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    for _ in 0..events {
        let Some(event) = stream.next().await? else { anyhow::bail!("a stream ended without its last event") };
        text += event["token"].as_str().unwrap_or_default();
        if event["done"] == true {
            ensure!(event["error"].is_null(), "a stream ended with {event}");
            counts.streamed += 1;
            compare(case, &text, counts);
            return Ok(());
        }
    }
    counts.cancelled += 1;
    Ok(())
}

fn compare(case: &Case, text: &str, counts: &mut Counts) {
    if text != case.text {
        counts.wrong += 1;
        say(&format!("soak: wrong text for {}\n  expected {:?}\n  found    {text:?}", case.body, case.text));
    }
}

/// The server's memory in MiB, looked at again and again.
async fn watch(server: &Program, until: Instant) -> anyhow::Result<Vec<f64>> {
    let mut memory = vec![];
    while Instant::now() < until || memory.len() < 4 {
        memory.push(server.rss()? as f64 / f64::from(1 << 20));
        tokio::time::sleep(LOOK).await;
    }
    Ok(memory)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Waits until nothing is being generated; then every slot has to take a request at once, which all answer rightly.
async fn lost_slots(client: &Client, cases: &[Case]) -> anyhow::Result<usize> {
    let until = Instant::now() + REST;
    loop {
        let stats = client.get("/v1/stats").await?.json()?;
        let model = &stats["models"][0];
        if model["active"] == 0 && model["queued"] == 0 {
            break;
        }
        if Instant::now() >= until {
            return Ok(model["active"].as_u64().unwrap_or(SLOTS as u64) as usize);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut counts = [Counts::default(); SLOTS];
    let calls = counts.iter_mut().zip(cases).map(|(counts, case)| whole(client, case, counts));
    all(calls).await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    Ok(counts.iter().filter(|counts| counts.whole != 1 || counts.wrong != 0).count())
}
