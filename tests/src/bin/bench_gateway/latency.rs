//! One client, one request after another: what each side adds to an answer in one piece, to a first token, to a token.

use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use cerebrum_tests::scripted::Script;
use http::StatusCode;
use serde_json::json;

use super::caller::Caller;
use super::process::Memory;
use super::report::{Quantiles, Row};
use super::sides::{Running, Side, Site};
use super::upstream::Upstream;

/// Tokens of a stream whose tokens' ways are measured, and the pause between them: far longer than a way, so that no
/// token waits for another.
const TOKENS: u32 = 50;
const TOKEN_GAP: Duration = Duration::from_millis(2);

/// Characters of the larger prompt.
const LARGE: usize = 8 * 1024;

/// All figures of this part.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Latency {
    /// Small prompt, small answer, in one piece.
    pub(crate) small: Row,
    /// 8 KB prompt, small answer, in one piece.
    pub(crate) large: Row,
    /// Request to first token, small prompt.
    pub(crate) first_token: Row,
    /// The same with an 8 KB prompt.
    pub(crate) first_token_large: Row,
    /// From the upstream's writing of a token to the client's reading.
    pub(crate) token: Row,
    /// Time to the refusal of a request when all places are taken; microseconds, p50 and p99.
    pub(crate) refusal: (f64, f64),
    /// After the start, before the first request.
    pub(crate) idle: Memory,
    /// The same of nginx.
    pub(crate) idle_nginx: Memory,
}

/// What is measured.
#[derive(Clone, Copy)]
enum Kind {
    Whole,
    FirstToken,
    Token,
}

/// Measures everything over `rounds` rounds of `requests` requests a side.
pub(crate) async fn measure(
    site: &Site,
    upstream: &Upstream,
    rounds: usize,
    requests: usize,
) -> anyhow::Result<Latency> {
    let running = site.run(None).await?;
    let (idle, idle_nginx) = (running.appliance.memory()?, running.nginx.memory()?);
    let bench = Bench { site, running: &running, rounds, requests };

    upstream.follow(&Script { tokens: 8, read_requests: false, ..Script::default() }).await?;
    let small = bench.row(Kind::Whole, &small_prompt()).await?;
    let large = bench.row(Kind::Whole, &large_prompt()).await?;
    upstream.follow(&Script { tokens: 1, stamped: true, read_requests: false, ..Script::default() }).await?;
    let first_token = bench.row(Kind::FirstToken, &small_prompt()).await?;
    let first_token_large = bench.row(Kind::FirstToken, &large_prompt()).await?;
    upstream
        .follow(&Script { tokens: TOKENS, gap: TOKEN_GAP, stamped: true, read_requests: false, ..Script::default() })
        .await?;
    let token = bench.row(Kind::Token, &small_prompt()).await?;
    upstream
        .follow(&Script { gap: Duration::from_secs(60), stamped: true, read_requests: false, ..Script::default() })
        .await?;
    let refusal = bench.refusal().await?;
    Ok(Latency { small, large, first_token, first_token_large, token, refusal, idle, idle_nginx })
}

struct Bench<'a> {
    site: &'a Site,
    running: &'a Running,
    rounds: usize,
    requests: usize,
}

impl Bench<'_> {
    async fn row(&self, kind: Kind, body: &Bytes) -> anyhow::Result<Row> {
        let mut row = Row::default();
        let mut callers = Vec::new();
        for side in Side::ALL {
            callers.push((side, self.caller(side).await?));
        }
        // The first round warms everything up and is thrown away.
        for round in 0..=self.rounds {
            // Each round begins with another side, so that none always follows the same one.
            callers.rotate_left(1);
            let mut times = [const { Quantiles::new() }; 3];
            for (side, caller) in &mut callers {
                times[*side as usize] = self.samples(kind, caller, body).await?;
            }
            if round > 0 {
                row.add(&mut times);
            }
        }
        Ok(row)
    }

    async fn caller(&self, side: Side) -> anyhow::Result<Caller> {
        Caller::connect(self.running.address(side), self.site.key.expose()).await
    }

    /// Microseconds of each request, or of each token.
    async fn samples(&self, kind: Kind, caller: &mut Caller, body: &Bytes) -> anyhow::Result<Quantiles> {
        let mut times = Quantiles::default();
        while times.len() < self.requests {
            match kind {
                Kind::Whole => {
                    let (status, time) = caller.whole(body).await?;
                    ensure!(status == StatusCode::OK, "status {status}");
                    times.push(microseconds(time));
                }
                Kind::FirstToken => times.push(microseconds(caller.first_token(body).await?)),
                Kind::Token => {
                    let mut tokens = caller.stream(body).await?;
                    while let Some(token) = tokens.next().await? {
                        times.push(microseconds(token.way));
                    }
                }
            }
        }
        Ok(times)
    }

    /// Two streams take the places of the appliance; then more is asked.
    async fn refusal(&self) -> anyhow::Result<(f64, f64)> {
        let body = small_prompt();
        let mut running = Vec::new();
        for _ in 0..2 {
            let mut caller = self.caller(Side::Appliance).await?;
            let tokens = caller.stream(&body).await?;
            running.push((caller, tokens));
        }
        let mut third = self.caller(Side::Appliance).await?;
        let mut times = Quantiles::default();
        while times.len() < self.requests {
            let (status, time) = third.whole(&body).await?;
            ensure!(status == StatusCode::SERVICE_UNAVAILABLE, "the third request got {status}");
            times.push(microseconds(time));
        }
        Ok((times.at(0.5), times.at(0.99)))
    }
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A request as an editor's user types it.
pub(crate) fn small_prompt() -> Bytes {
    body("Write a Rust function that reverses a linked list.")
}

/// Code without repetitions, and an instruction: preparation has to look at all of it.
fn large_prompt() -> Bytes {
    let mut code = String::with_capacity(LARGE + 100);
    for number in 0.. {
        if code.len() > LARGE - 100 {
            break;
        }
        code.push_str(&format!(
            "def step_{number}(values, scale={number}):\n    total = sum(value * scale for value in values)\n    return total % {}\n\n",
            number * 7 + 3
        ));
    }
    body(&format!("{code}# REFACTOR: turn the step functions into one with a factor"))
}

fn body(prompt: &str) -> Bytes {
    json!({"prompt": prompt, "max_tokens": 64, "temperature": 0}).to_string().into()
}
