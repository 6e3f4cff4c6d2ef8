//! `cerebrum complete`: one prompt, one answer.

use std::process::ExitCode;

use serde_json::Value;
use tokio::runtime::Runtime;

use super::answer::Whole;
use super::cli::Complete;
use super::console::Console;
use super::failure::Failure;
use super::input;
use super::interrupt::unless_interrupted;
use super::server::Server;
use super::view::{Form, View};

/// Runs the command. The prompt is read before anything is connected, so that a slow pipe occupies no place there.
pub(super) fn run(
    arguments: &Complete,
    server: &Server,
    console: &mut Console,
    runtime: &Runtime,
) -> Result<ExitCode, Failure> {
    let prompt = input::prompt(arguments.prompt.as_deref(), arguments.file.as_deref())?;
    runtime.block_on(unless_interrupted(answer(arguments, prompt, server, console)))?;
    Ok(ExitCode::SUCCESS)
}

async fn answer(arguments: &Complete, prompt: String, server: &Server, console: &mut Console) -> Result<(), Failure> {
    if arguments.json {
        return document(arguments, prompt, server, console).await;
    }
    if arguments.no_stream {
        return whole(arguments, prompt, server, console).await;
    }
    let form = if arguments.json_lines { Form::JsonLines } else { Form::Text };
    let mut view = View::new(console, form, arguments.progress);
    let request = arguments.parameters.request(prompt, view.wants_progress());
    let summary = view.stream(server, &request).await?;
    view.conclude(&summary)
}

/// The appliance's answer as it is, less its layout.
async fn document(arguments: &Complete, prompt: String, server: &Server, console: &mut Console) -> Result<(), Failure> {
    let request = arguments.parameters.request(prompt, false);
    let answer: Value = View::new(console, Form::Text, false).waiting(server.complete(&request)).await?;
    console.line(&format!("{answer:#}"))
}

async fn whole(arguments: &Complete, prompt: String, server: &Server, console: &mut Console) -> Result<(), Failure> {
    let request = arguments.parameters.request(prompt, false);
    let mut view = View::new(console, Form::Text, false);
    let answer: Whole = view.waiting(server.complete(&request)).await?;
    view.print(&answer.result)?;
    view.conclude(&answer.summary)
}
