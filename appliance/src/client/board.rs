//! `cerebrum board`: the appliance's panel and lamps in a terminal, live; or one look at them into a file.

use std::process::ExitCode;

use serde::Deserialize;

use super::cli::Board;
use super::console::Console;
use super::failure::Failure;
use super::interrupt::unless_interrupted;
use super::server::Server;

#[derive(Deserialize)]
struct Display {
    text: String,
}

/// Runs the command until Ctrl-C; `--once`, or an output that is no terminal, gets one picture.
pub(super) async fn run(arguments: &Board, server: &Server, console: &mut Console) -> Result<ExitCode, Failure> {
    let once = arguments.once || !console.shows_answers();
    let mut events = unless_interrupted(server.watch("/v1/events")).await?;
    let mut drawn = 0;
    while let Some(event) = unless_interrupted(events.next()).await? {
        if event.name == "health" && drawn == 0 {
            // Health follows the first picture: where none has come by then, there is no board.
            return Err(Failure::Missing("this appliance has no board: [board] backend is \"off\"".to_owned()));
        }
        if event.name != "display" {
            continue;
        }
        let Ok(display) = serde_json::from_str::<Display>(&event.data) else { continue };
        if once {
            console.line(&display.text)?;
            return Ok(ExitCode::SUCCESS);
        }
        console.redraw(&display.text, drawn)?;
        drawn = display.text.lines().count();
    }
    console.note("the appliance has ended the stream");
    Ok(ExitCode::FAILURE)
}
