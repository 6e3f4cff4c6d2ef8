//! Logs: one line an event on standard error, with the request's id. Prompts and answers never appear: their types
//! ([`crate::wire::Text`]) print lengths.

use tracing_subscriber::EnvFilter;

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
        .finish();
    // A second start (tests of one process) keeps the first subscriber.
    tracing::subscriber::set_global_default(subscriber).unwrap_or_default();
    Ok(())
}
