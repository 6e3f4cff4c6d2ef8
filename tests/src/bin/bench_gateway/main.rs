//! `make bench-gateway`: what the appliance adds to a request, beside nginx as a plain reverse proxy, over one scripted
//! upstream in a process of its own. Everything is measured in one run, in alternating rounds, so that a noisy machine
//! disturbs all sides alike; figures are medians over rounds.

mod caller;
mod latency;
mod process;
mod report;
mod sides;
mod streams;
mod upstream;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Measures the appliance's gateway beside nginx.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 21)]
    rounds: usize,
    /// Requests of each side in a round.
    #[arg(long, default_value_t = 300)]
    requests: usize,
    /// Streams at a time.
    #[arg(long, default_value_t = 512)]
    streams: usize,
    /// Starts of each program.
    #[arg(long, default_value_t = 11)]
    starts: usize,
    /// Also write the figures as JSON here.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Role {
    /// The scripted upstream, in its own process: prints its address and serves until its standard input ends.
    Upstream,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match arguments.role {
        Some(Role::Upstream) => runtime.block_on(upstream::serve()),
        None => runtime.block_on(measure(&arguments)),
    }
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let upstream = upstream::Upstream::start()?;
    let site = sides::Site::new(&upstream)?;
    let ready = sides::ready(&site, arguments.starts).await?;
    let latency = latency::measure(&site, &upstream, arguments.rounds, arguments.requests).await?;
    let streams = streams::measure(&site, &upstream, arguments.streams).await?;
    let report = report::Report { ready, latency, streams };
    report.print();
    if let Some(path) = &arguments.json {
        report.write(path)?;
    }
    report.print_result();
    Ok(())
}
