//! `make bench-engine`: cerebrum-server beside llama.cpp's own server, the same file, the same threads, one question each in turn.
//!
//! Medians over pairs, because the machine has other work too: what disturbs one of a pair probably disturbs the other.

mod gguf;
mod random;
mod side;
mod tasks;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use side::{Setup, Side};
use tasks::{Figures, Part};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a model with random weights.
    Model {
        #[arg(long)]
        shape: gguf::Shape,
        #[arg(long)]
        weights: gguf::Weights,
        #[arg(long, default_value = "0.5b")]
        scale: gguf::Scale,
        /// Default: as many as such a model has.
        #[arg(long)]
        layers: Option<u32>,
        file: PathBuf,
    },
    /// Compare.
    Run(Run),
}

#[derive(Args)]
struct Run {
    /// A GGUF file that `model` wrote, inside the chroot.
    #[arg(long)]
    model: PathBuf,
    /// cerebrum-server.
    #[arg(long)]
    server: PathBuf,
    /// Folder with a system that has llama-server. Without it there is nothing to compare with, only our own figures.
    #[arg(long)]
    chroot: Option<PathBuf>,
    /// Further arguments for llama-server.
    #[arg(long, value_delimiter = ' ')]
    llama_arguments: Vec<String>,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// What to measure.
    #[arg(long, value_delimiter = ',', default_values = ["decode", "prefix", "edit"])]
    parts: Vec<Part>,
    /// Tokens of the shared prefix.
    #[arg(long, default_value_t = 2048)]
    prefix: usize,
    /// Lines of the edited file.
    #[arg(long, default_value_t = 150)]
    lines: usize,
    /// Further settings of ours, as TOML.
    #[arg(long, default_value = "")]
    settings: String,
}

fn main() -> ExitCode {
    match carry_out(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

fn carry_out(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Model { shape, weights, scale, layers, file } => {
            gguf::write(&file, shape, scale, weights, layers.unwrap_or(scale.layers()))
        }
        Command::Run(run) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
            runtime.block_on(compare(&run))
        }
    }
}

async fn compare(run: &Run) -> anyhow::Result<()> {
    let setup = Setup {
        model: &run.model,
        threads: run.threads,
        slots: 4,
        context: 4096,
        prefix_cache: 256,
        settings: &run.settings,
    };
    let ours = Side::ours("cerebrum", &run.server, &setup).await?;
    let theirs = match &run.chroot {
        Some(chroot) => Some(Side::llama(chroot, &run.llama_arguments, &setup).await?),
        None => None,
    };
    let mut figures = Figures::default();
    let sides: Vec<_> = [Some(&ours), theirs.as_ref()].into_iter().flatten().collect();
    for part in &run.parts {
        match part {
            Part::Decode => tasks::decode(&sides, run.pairs, &mut figures).await?,
            Part::Prefix => tasks::prefix(&sides, run.pairs, run.prefix, &mut figures).await?,
            Part::Edit => {
                let settings = format!("{}\ndraft_tokens = 0", run.settings);
                let plain = Side::ours("without drafts", &run.server, &Setup { settings: &settings, ..setup }).await?;
                let sides: Vec<_> = [Some(&ours), Some(&plain), theirs.as_ref()].into_iter().flatten().collect();
                tasks::edit(&sides, run.pairs, run.lines, &mut figures).await?;
            }
        }
    }
    for side in sides {
        figures.memory(side)?;
    }
    figures.report();
    Ok(())
}
