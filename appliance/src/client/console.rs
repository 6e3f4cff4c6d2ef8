//! The only writer to standard output and standard error. Standard output gets answers and nothing else; whatever is
//! said beside them goes to standard error, and a status line only to a terminal.

use std::io::{self, IsTerminal, Write};

use super::failure::Failure;

/// Returns to the line's start and empties it.
const CLEAR_LINE: &str = "\r\x1b[K";

/// Empties the screen and its scroll-back, and goes to the top.
const CLEAR_SCREEN: &str = "\x1b[H\x1b[2J\x1b[3J";

/// Where things are shown.
pub(super) struct Console {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    out_is_terminal: bool,
    err_is_terminal: bool,
    mid_line: bool,
    status_shown: bool,
}

impl Console {
    /// The process's own output and error.
    pub(super) fn standard() -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        let (out_is_terminal, err_is_terminal) = (out.is_terminal(), err.is_terminal());
        Self {
            out: Box::new(out),
            err: Box::new(err),
            out_is_terminal,
            err_is_terminal,
            mid_line: false,
            status_shown: false,
        }
    }

    /// Whether somebody watches the status line.
    pub(super) fn is_watched(&self) -> bool {
        self.err_is_terminal
    }

    /// Whether answers appear on a terminal.
    pub(super) fn shows_answers(&self) -> bool {
        self.out_is_terminal
    }

    /// Part of an answer, at once. Control characters could rewrite a terminal; into a file they go as they are.
    pub(super) fn answer(&mut self, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        self.clear_status();
        self.mid_line = !text.ends_with('\n');
        let written =
            if self.out_is_terminal { write_harmless(&mut self.out, text) } else { write(&mut self.out, text) };
        written.and_then(|()| self.out.flush()).map_err(output)
    }

    /// A whole line of output.
    pub(super) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.answer(&format!("{text}\n"))
    }

    /// Ends an answer: a terminal needs a line's end before the next thing.
    pub(super) fn end_answer(&mut self) -> Result<(), Failure> {
        if self.out_is_terminal { self.end_line() } else { Ok(()) }
    }

    /// As [`Self::end_answer`], also into a file: there the next answer begins a line of its own.
    pub(super) fn end_line(&mut self) -> Result<(), Failure> {
        if self.mid_line { self.answer("\n") } else { Ok(()) }
    }

    /// Something beside the answer. Nobody can be told when this fails.
    pub(super) fn note(&mut self, text: &str) {
        self.clear_status();
        drop(writeln!(self.err, "{text}"));
    }

    /// As [`Self::note`], where somebody watches.
    pub(super) fn remark(&mut self, text: &str) {
        if self.err_is_terminal {
            self.note(text);
        }
    }

    /// Replaces the status line.
    pub(super) fn status(&mut self, text: &str) {
        if self.err_is_terminal {
            self.status_shown = true;
            drop(write!(self.err, "{CLEAR_LINE}{text}").and_then(|()| self.err.flush()));
        }
    }

    /// Lines that bring their own colours, and nothing else that a terminal obeys.
    pub(super) fn coloured(&mut self, text: &str) -> Result<(), Failure> {
        write(&mut self.out, text).and_then(|()| self.out.flush()).map_err(output)
    }

    /// Replaces a picture of so many lines; on no terminal it follows the last one.
    pub(super) fn redraw(&mut self, picture: &str, lines: usize) -> Result<(), Failure> {
        let back = if self.out_is_terminal && lines > 0 { format!("\x1b[{lines}A") } else { String::new() };
        let picture: String = picture.lines().map(|line| format!("{line}\x1b[K\n")).collect();
        write(&mut self.out, &format!("{back}{picture}")).and_then(|()| self.out.flush()).map_err(output)
    }

    /// Empties the screen.
    pub(super) fn clear_screen(&mut self) -> Result<(), Failure> {
        if !self.out_is_terminal {
            return Ok(());
        }
        write(&mut self.out, CLEAR_SCREEN).and_then(|()| self.out.flush()).map_err(output)
    }

    /// The program's last word.
    pub(super) fn finish(&mut self, failure: &Failure) {
        // A second failure while telling the first changes nothing.
        drop(self.end_answer());
        if failure.is_worth_telling() {
            self.note(&format!("cerebrum: {failure}"));
        }
    }

    fn clear_status(&mut self) {
        if std::mem::take(&mut self.status_shown) {
            drop(write!(self.err, "{CLEAR_LINE}").and_then(|()| self.err.flush()));
        }
    }
}

fn write(to: &mut dyn Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())
}

fn write_harmless(to: &mut dyn Write, text: &str) -> io::Result<()> {
    let harmful = |c: char| c.is_control() && !matches!(c, '\n' | '\t' | '\r');
    for part in text.split_inclusive(harmful) {
        let shown = part.trim_end_matches(harmful);
        write(to, shown)?;
        if shown.len() < part.len() {
            write(to, "\u{fffd}")?;
        }
    }
    Ok(())
}

fn output(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::Output(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_rewritten_by_an_answer() {
        let mut out = Vec::new();
        write_harmless(&mut out, "a\tb\r\n\u{1b}[2Jc\u{7}").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a\tb\r\n\u{fffd}[2Jc\u{fffd}");
    }
}
