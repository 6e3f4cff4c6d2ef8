//! Logs: one line an event on standard error, with the request's id. Prompts and answers never appear: their types
//! ([`crate::wire::Text`]) print lengths.

use std::fmt::Write;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::debug_fn;

/// Writes an event's message and its fields, `name=value`. The formatter's own way escapes a line character by character and
/// asks for colours around every piece of it, which takes longer than a request's whole way through the gateway.
fn fields() -> impl for<'w> FormatFields<'w> {
    debug_fn(|out, field, value| match field.name() {
        "message" => write!(Harmless(out), "{value:?}"),
        name => write!(Harmless(out), "{name}={value:?}"),
    })
    .delimited(" ")
}

/// Takes what would move a terminal's cursor, or change its colours, out of a text: some of it comes from peers.
struct Harmless<'o, O>(&'o mut O);

impl<O: Write> Write for Harmless<'_, O> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c.is_control() && !matches!(c, '\n' | '\t')) {
            let (before, harmful) = rest.split_at(at);
            let mut characters = harmful.chars();
            write!(self.0, "{before}{}", characters.next().unwrap_or_default().escape_default())?;
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Starts logging. `filter` is a level or a list such as `info,cerebrum_engine=debug`.
///
/// # Errors
/// A sentence when `filter` cannot be read; nothing is logged then.
pub fn start(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| format!("log: found {filter:?} ({error}), expected a level such as \"info\""))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .compact()
        .fmt_fields(fields())
        .finish();
    // A second start (tests of one process) keeps the first subscriber.
    tracing::subscriber::set_global_default(subscriber).unwrap_or_default();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_message_and_fields_and_no_control_characters() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .compact()
            .fmt_fields(fields())
            .with_writer(move || writer.clone())
            .finish();
        let name = "a \"name\"\u{7}";
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(id = %"7f\u{1b}[31m\u{9b}", name, tokens = 3, "a request\u{8}");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, " INFO a request\\u{8} id=7f\\u{1b}[31m\\u{9b} name=\"a \\\"name\\\"\\u{7}\" tokens=3\n");
    }
}
