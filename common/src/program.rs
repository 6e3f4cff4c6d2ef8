//! How a daemon begins and ends: arguments, settings, log, work; and the exit code that says which of them failed.
//!
//! The exit codes are systemd's and sysexits.h's: 0 for success, 1 for a failure at work, 64 for arguments or settings
//! that are wrong, which starting again cannot mend.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use crate::settings::SettingsError;
use crate::telemetry;
use crate::tls::{TlsError, TlsFiles};

/// Exit code for wrong arguments or settings (EX_USAGE).
pub const WRONG_USE: u8 = 64;

/// The settings of a daemon.
pub trait Settings: Sized {
    /// Reads the file.
    ///
    /// # Errors
    /// Everything wrong, together.
    fn read(path: &Path) -> Result<Self, SettingsError>;

    /// The log's filter.
    fn log(&self) -> &str;

    /// Certificates and keys it names, read as they will be when they are used; one result each.
    fn tls_files(&self) -> Vec<Result<(), TlsError>>;
}

/// Whether TLS files can be used.
///
/// # Errors
/// [`TlsError`].
pub fn usable(files: &impl TlsFiles) -> Result<(), TlsError> {
    files.build().map(drop)
}

/// The program's arguments.
///
/// # Errors
/// The exit code, after help, version or a complaint has been printed.
pub fn arguments<A: clap::Parser>() -> Result<A, ExitCode> {
    A::try_parse().map_err(|error| {
        // Whoever closed the other end of the pipe has seen enough.
        drop(error.print());
        if error.use_stderr() { ExitCode::from(WRONG_USE) } else { ExitCode::SUCCESS }
    })
}

/// Reads the settings at `config`; then, unless they are only to be checked, does the work on one thread: it serves
/// everybody, since a request costs microseconds of it, and what takes longer goes to threads of its own.
pub fn serve<S, W, E>(name: &str, config: &Path, only_check: bool, work: impl FnOnce(S) -> W) -> ExitCode
where
    S: Settings,
    W: Future<Output = Result<(), E>>,
    E: Display + From<std::io::Error>,
{
    let settings = match S::read(config) {
        Ok(settings) => settings,
        Err(error) => return complain(name, WRONG_USE, &error),
    };
    let unusable: Vec<_> = settings.tls_files().into_iter().filter_map(Result::err).collect();
    if !unusable.is_empty() {
        let sentences: Vec<_> = unusable.iter().map(|error| format!("\n  {error}")).collect();
        return complain(name, WRONG_USE, &format_args!("{}:{}", config.display(), sentences.concat()));
    }
    if let Err(error) = telemetry::start(settings.log()) {
        return complain(name, WRONG_USE, &error);
    }
    if only_check {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(E::from);
    raise_open_files();
    match runtime.and_then(|runtime| runtime.block_on(work(settings))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Lets the program hold as many open files as the system permits: the usual first limit of 1,024 is less than the
/// connections it may have.
pub fn raise_open_files() {
    if let Err(error) = rlimit::increase_nofile_limit(OPEN_FILES) {
        tracing::debug!(%error, "the limit of open files stays");
    }
}

/// More than connections may be configured.
const OPEN_FILES: u64 = 1 << 17;

/// Says on standard error what is wrong, where no log runs yet.
#[expect(clippy::print_stderr, reason = "the log does not run here")]
pub fn complain(name: &str, code: u8, error: &dyn Display) -> ExitCode {
    eprintln!("{name}: {error}");
    ExitCode::from(code)
}
