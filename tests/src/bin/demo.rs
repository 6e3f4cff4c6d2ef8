//! `make demo`: both real programs on this machine, one prompt through them, and what there is to see.
//!
//! Everything it makes (identities, keys, settings) lives in a temporary folder and goes with it.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use cerebrum_tests::client::{Client, first_page};
use cerebrum_tests::stack::Site;
use serde_json::{Value, json};

/// Tokens of the demonstration's answer.
const TOKENS: u32 = 64;

fn main() -> ExitCode {
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")
        .and_then(|runtime| runtime.block_on(demonstrate()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("\nThe demonstration failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// A reader that went away (`make demo | head`) is no failure.
fn say(line: &str) {
    show(&format!("{line}\n"));
}

fn show(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

fn step(title: &str) {
    say(&format!("\n== {title}"));
}

async fn demonstrate() -> anyhow::Result<()> {
    step("Making throw-away TLS identities and keys");
    let site = Site::new()?;
    say(&format!("   in {}", site.folder().display()));

    step("Starting cerebrum-server (llama.cpp) with the bundled model");
    let server = site.start_server("")?;
    say(&format!("   https://{}, mutual TLS, process {}", site.server, server.pid()));

    step("Starting cerebrumd, the appliance, with a simulated board");
    let appliance = site.start_appliance("[board]\nbackend = \"sim\"")?;
    say(&format!("   http://{}, process {}", site.appliance, appliance.pid()));

    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    // The splash stays for a moment; what is worth seeing comes after it.
    first_page(&lan).await?;
    let prompt = prompt();
    step(&format!("Sending a prompt of {} characters to /v1/complete/stream", prompt.chars().count()));
    let done = stream(&lan, &prompt).await?;
    report(&done);
    draw(&lan).await?;
    farewell(&site).await?;
    drop((appliance, server));
    Ok(())
}

/// A module that repeats itself, as pasted code does, and what is asked of it.
fn prompt() -> String {
    let section: String = (0..)
        .map(|n| format!("def step_{n}(values):\n    return [value * {n} for value in values]\n\n"))
        .flat_map(|unit| unit.chars().collect::<Vec<_>>())
        .take(849)
        .chain(['\n'])
        .collect();
    format!("{}# REFACTOR: turn the step functions into one with a factor", section.repeat(10))
}

async fn stream(lan: &Client, prompt: &str) -> anyhow::Result<Value> {
    let request = json!({"prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "progress": true});
    let mut stream = lan.stream("/v1/complete/stream", &request).await?;
    let mut tokens = 0;
    say("   The model's answer, token by token (it is a 4 MB toy: real work needs a real model, see README):\n");
    while let Some(event) = stream.next().await? {
        if let Some(token) = event["token"].as_str() {
            show(token);
            tokens += 1;
            if tokens == TOKENS / 2 {
                say("\n");
                draw(lan).await?;
            }
        }
        if event["error"].is_string() {
            anyhow::bail!("the answer broke: {}", event["message"]);
        }
        if event["done"] == true {
            return Ok(event);
        }
    }
    anyhow::bail!("the stream ended without its last event")
}

fn report(done: &Value) {
    let prepared = &done["prepared"];
    step("What preparation did");
    say(&format!(
        "   {} -> {} characters ({}): {} blocks, {} of them different, {} sent",
        prepared["original_chars"],
        prepared["final_chars"],
        prepared["outcome"].as_str().unwrap_or_default(),
        prepared["chunks_total"],
        prepared["chunks_unique"],
        prepared["chunks_kept"],
    ));
    say(&format!(
        "   {} prompt tokens read, {} tokens written in {:.2} s by {}",
        done["prompt_tokens"],
        done["total_tokens"],
        done["inference_time"].as_f64().unwrap_or_default(),
        done["model"].as_str().unwrap_or_default(),
    ));
}

async fn draw(lan: &Client) -> anyhow::Result<()> {
    let display = lan.get("/display.txt").await?;
    say(&String::from_utf8_lossy(&display.body));
    Ok(())
}

async fn farewell(site: &Site) -> anyhow::Result<()> {
    let address = site.appliance;
    step("Now yours");
    say(&format!("   Status page:  http://{address}/"));
    say(&format!(
        "   curl -N http://{address}/v1/complete/stream -H 'X-API-Key: {}' -d '{{\"prompt\":\"def fibonacci(n):\",\"max_tokens\":40}}'",
        site.client_key.expose()
    ));
    if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        say("\n   Running until Ctrl-C.");
        tokio::signal::ctrl_c().await?;
        say("\n   Stopped.");
    }
    Ok(())
}
