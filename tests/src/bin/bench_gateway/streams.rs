//! Many token streams at a time: does any of them stall, and what memory does it take?

use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use cerebrum_tests::scripted::Script;
use tokio::task::LocalSet;

use super::caller::{Caller, Tokens};
use super::latency::small_prompt;
use super::process::Memory;
use super::report::Quantiles;
use super::sides::{Running, Side, Site};
use super::upstream::Upstream;

/// Tokens of each stream and the pause between them: ten tokens a second, for five seconds.
const TOKENS: u32 = 50;
const GAP: Duration = Duration::from_millis(100);

/// A pause this long between two tokens due every [`GAP`] is a stall: a reader would see it.
const STALL: Duration = Duration::from_millis(500);

/// Figures of all sides.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Streams {
    /// Streams at a time.
    pub(crate) streams: usize,
    /// Straight to the upstream.
    pub(crate) direct: Outcome,
    /// Through nginx.
    pub(crate) nginx: Outcome,
    /// Through the appliance.
    pub(crate) appliance: Outcome,
    /// Of nginx, after its streams.
    pub(crate) nginx_memory: Memory,
    /// Of the appliance, after its streams.
    pub(crate) appliance_memory: Memory,
}

/// What became of one side's streams.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Outcome {
    /// Streams that brought every token, none of them later than [`STALL`] after the one before.
    pub(crate) stall_free: usize,
    /// Longest pause between two tokens of one stream, in milliseconds: median over streams.
    pub pause_p50_ms: f64,
    /// The longest of all.
    pub(crate) pause_max_ms: f64,
    /// A token's way from the upstream to the client in microseconds, median over all tokens.
    pub token_p50_us: f64,
    /// Its 99th percentile.
    pub token_p99_us: f64,
}

/// Runs `streams` streams through each side, one side after another.
pub(crate) async fn measure(site: &Site, upstream: &Upstream, streams: usize) -> anyhow::Result<Streams> {
    upstream
        .follow(&Script { tokens: TOKENS, gap: GAP, stamped: true, read_requests: false, ..Script::default() })
        .await?;
    let running = site.run(Some(streams)).await?;
    let direct = through(Side::Direct, &running, site, streams).await?;
    let nginx = through(Side::Nginx, &running, site, streams).await?;
    let appliance = through(Side::Appliance, &running, site, streams).await?;
    let (nginx_memory, appliance_memory) = (running.nginx.memory()?, running.appliance.memory()?);
    Ok(Streams { streams, direct, nginx, appliance, nginx_memory, appliance_memory })
}

async fn through(side: Side, running: &Running, site: &Site, streams: usize) -> anyhow::Result<Outcome> {
    let key: Rc<str> = site.key.expose().into();
    let address = running.address(side);
    let tasks = LocalSet::new();
    let readers: Vec<_> = (0..streams)
        .map(|_| {
            let key = key.clone();
            tasks.spawn_local(async move {
                let mut caller = Caller::connect(address, &key).await?;
                let tokens = caller.stream(&small_prompt()).await?;
                read(tokens).await
            })
        })
        .collect();
    tasks.await;
    let mut outcomes = Vec::new();
    for reader in readers {
        outcomes.push(reader.await?.with_context(|| format!("a stream through {}", side.name()))?);
    }
    Ok(summary(outcomes))
}

/// One stream's tokens: how many, the longest pause, their ways in microseconds.
struct Read {
    tokens: usize,
    pause: Duration,
    ways: Vec<f64>,
}

async fn read(mut tokens: Tokens) -> anyhow::Result<Read> {
    let mut read = Read { tokens: 0, pause: Duration::ZERO, ways: Vec::new() };
    let mut last = None;
    while let Some(token) = tokens.next().await? {
        read.tokens += 1;
        read.ways.push(token.way.as_secs_f64() * 1e6);
        read.pause = last.map_or(read.pause, |last| read.pause.max(token.read - last));
        last = Some(token.read);
    }
    Ok(read)
}

fn summary(outcomes: Vec<Read>) -> Outcome {
    let (mut pauses, mut ways) = (Quantiles::default(), Quantiles::default());
    let stall_free = outcomes.iter().filter(|read| read.tokens == TOKENS as usize && read.pause < STALL).count();
    for read in outcomes {
        pauses.push(read.pause.as_secs_f64() * 1e3);
        read.ways.into_iter().for_each(|way| ways.push(way));
    }
    Outcome {
        stall_free,
        pause_p50_ms: pauses.at(0.5),
        pause_max_ms: pauses.at(1.0),
        token_p50_us: ways.at(0.5),
        token_p99_us: ways.at(0.99),
    }
}
