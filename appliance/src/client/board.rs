//! `cerebrum board`: the appliance's panel and lamps in a terminal, live; or one look at them into a file.

use std::process::ExitCode;

use cerebrum_board::{Frame, Lamps, beside};
use serde::Deserialize;

use super::cli::Board;
use super::console::Console;
use super::failure::Failure;
use super::interrupt::unless_interrupted;
use super::server::Server;

/// What is to be seen, as an event tells it: the whole, or the lamps alone.
#[derive(Deserialize)]
struct News {
    frame: Option<String>,
    light: Option<String>,
    lamps: [u8; 4],
}

/// Panel and lamps as they were last told.
#[derive(Default)]
struct Seen {
    frame: Option<Frame>,
    asleep: bool,
}

impl Seen {
    fn take(&mut self, news: &News) -> String {
        self.frame = news.frame.as_deref().and_then(Frame::from_hex).or(self.frame.take());
        self.asleep = news.light.as_ref().map_or(self.asleep, |light| light == "off");
        let dark = Frame::dark();
        let panel = self.frame.as_ref().filter(|_| !self.asleep).unwrap_or(&dark).to_terminal();
        let [ready, activity, upstream, error] = news.lamps;
        beside(&panel, &Lamps { ready, activity, upstream, error }.to_terminal())
    }
}

/// Runs the command until Ctrl-C; `--once`, or an output that is no terminal, gets one picture.
pub(super) async fn run(arguments: &Board, server: &Server, console: &mut Console) -> Result<ExitCode, Failure> {
    let once = arguments.once || !console.shows_answers();
    let mut events = unless_interrupted(server.watch("/v1/events")).await?;
    let (mut seen, mut drawn) = (Seen::default(), 0);
    while let Some(event) = unless_interrupted(events.next()).await? {
        if event.name == "health" && drawn == 0 {
            // Health follows the first picture: where none has come by then, there is no board.
            return Err(Failure::Missing("this appliance has no board: [board] backend is \"off\"".to_owned()));
        }
        if !["display", "lamps"].contains(&event.name.as_str()) {
            continue;
        }
        let Ok(news) = serde_json::from_str::<News>(&event.data) else { continue };
        let picture = seen.take(&news);
        if once {
            console.line(&picture)?;
            return Ok(ExitCode::SUCCESS);
        }
        console.redraw(&picture, drawn)?;
        drawn = picture.lines().count();
    }
    console.note("the appliance has ended the stream");
    Ok(ExitCode::FAILURE)
}

#[cfg(test)]
mod tests {
    use cerebrum_board::{Page, Snapshot, render};

    use super::*;

    #[test]
    fn lamps_change_beside_the_last_picture() {
        let picture = render(&Snapshot::default(), Page::Splash);
        let mut seen = Seen::default();
        let first = seen.take(&News { frame: Some(picture.to_hex()), light: Some("dim".to_owned()), lamps: [0; 4] });
        assert_eq!(first, beside(&picture.to_terminal(), &Lamps::default().to_terminal()));
        let lit = seen.take(&News { frame: None, light: None, lamps: [255; 4] });
        assert_eq!(lit, beside(&picture.to_terminal(), &Lamps::ALL.to_terminal()));
        // As the panel itself, which is off then.
        let asleep = News { frame: Some(picture.to_hex()), light: Some("off".to_owned()), lamps: [0; 4] };
        assert_eq!(seen.take(&asleep), beside(&Frame::dark().to_terminal(), &Lamps::default().to_terminal()));
    }
}
