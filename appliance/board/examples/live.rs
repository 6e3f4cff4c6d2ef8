//! The simulated board in a terminal, with made-up values: walks through the pages by pressing its own button.

use std::{io, io::Write, thread, time::Duration};

use cerebrum_board::{Backend, Board, Button, Command, Wiring, samples};

/// Long enough to read a page.
const PER_PAGE: Duration = Duration::from_secs(2);

fn main() -> io::Result<()> {
    let wiring = Wiring { backend: Backend::Sim, ..Wiring::default() };
    let snapshot = cerebrum_board::Snapshot { pairing: None, ..samples::everything() };
    let board = Board::start(&wiring, move || snapshot.clone(), |_: Command| {})?;
    let mut out = io::stdout().lock();
    for _ in 0..7 {
        thread::sleep(PER_PAGE);
        write!(out, "\x1b[2J\x1b[H{}", board.shown().to_terminal())?;
        out.flush()?;
        board.press(Button::First, Duration::from_millis(100));
    }
    board.stop();
    Ok(())
}
