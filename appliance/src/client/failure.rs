//! Every way in which the client fails: one sentence for a person, one exit code for a script.

use std::io;

use cerebrum_common::keys::KeyFileError;
use cerebrum_common::settings::SettingsError;
use cerebrum_common::tls::TlsError;
use http::StatusCode;
use rustls::CertificateError;

/// Exit code for wrong arguments or settings (EX_USAGE).
pub const USAGE: u8 = cerebrum_common::program::WRONG_USE;

/// Exit code after Ctrl-C, as shells give it.
pub const INTERRUPTED: u8 = 130;

/// Why there is no (complete) answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Arguments that make no sense, alone or together.
    #[error("{0}")]
    Usage(String),
    /// The client's own settings file.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The CA file.
    #[error(transparent)]
    Ca(#[from] TlsError),
    /// The file of API keys.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The image's settings could not be made.
    #[error(transparent)]
    Provision(#[from] crate::provision::ProvisionError),
    /// What a command should work on is not there.
    #[error("{0}")]
    Missing(String),
    /// A file or standard input.
    #[error("{what}: {source}")]
    Input {
        /// The file, or `standard input`.
        what: String,
        /// The system's complaint.
        source: io::Error,
    },
    /// Standard output was closed by whoever read it: no fault of anybody.
    #[error("standard output is closed")]
    OutputClosed,
    /// Standard output cannot be written.
    #[error("standard output: {0}")]
    Output(#[source] io::Error),
    /// The appliance gave no key.
    #[error("not paired: {0}")]
    NotPaired(&'static str),
    /// The line editor.
    #[error("the terminal: {0}")]
    Terminal(String),
    /// The program's own machinery did not start.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
    /// No address for the host's name.
    #[error("cannot find the host {host:?} ({source}): check the name in --url")]
    Lookup {
        /// The name.
        host: String,
        /// The resolver's complaint.
        source: io::Error,
    },
    /// Nobody listens there.
    #[error("nothing listens at {authority} (connection refused): check --url, and that the appliance is running")]
    Refused {
        /// Host and port.
        authority: String,
    },
    /// No connection for another reason.
    #[error("cannot connect to {authority}: {source}")]
    Connect {
        /// Host and port.
        authority: String,
        /// The system's complaint.
        source: io::Error,
    },
    /// TLS was spoken to a plain port.
    #[error("{authority} does not speak TLS on this port: use http:// in --url")]
    PlainPort {
        /// Host and port.
        authority: String,
    },
    /// The certificate is not trusted.
    #[error("the certificate of {authority} {distrust}: {}", distrust.cure())]
    Certificate {
        /// Host and port.
        authority: String,
        /// What is wrong with it.
        distrust: Distrust,
    },
    /// The TLS handshake failed otherwise.
    #[error("no TLS connection to {authority}: {source}; if the port is a plain one, use http:// in --url")]
    Tls {
        /// Host and port.
        authority: String,
        /// The complaint.
        source: io::Error,
    },
    /// Something answers that is not HTTP, as a TLS port does when HTTP is spoken to it.
    #[error("{authority} does not answer with HTTP: if the port speaks TLS, use https:// in --url and give --ca")]
    NotHttp {
        /// Host and port.
        authority: String,
    },
    /// The connection broke before the answer began.
    #[error("the connection to {authority} broke before an answer came: {reason}")]
    Broken {
        /// Host and port.
        authority: String,
        /// The transport's words.
        reason: String,
    },
    /// HTTP, but nothing a Cerebrum appliance would say.
    #[error("{authority} answers, but not as a Cerebrum appliance does ({found}): check --url")]
    NotCerebrum {
        /// Host and port.
        authority: String,
        /// What came instead.
        found: String,
    },
    /// The appliance says no.
    #[error("{}", refusal(*status, message, *retry_after))]
    Refusal {
        /// Its status.
        status: StatusCode,
        /// Its sentence.
        message: String,
        /// When to come back, in seconds.
        retry_after: Option<u64>,
    },
    /// The generation failed in mid-stream.
    #[error("the generation failed: {message} ({error})")]
    Generation {
        /// Short name.
        error: String,
        /// The appliance's sentence.
        message: String,
    },
    /// The stream ended without its last event.
    #[error("the answer is incomplete: the stream ended after {tokens} tokens without its last event ({reason})")]
    Incomplete {
        /// Tokens received.
        tokens: u32,
        /// The transport's words.
        reason: String,
    },
    /// Ctrl-C.
    #[error("stopped")]
    Interrupted,
}

/// Why a certificate is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Its time is over.
    #[error("has expired")]
    Expired,
    /// Its time has not begun, or so this machine's clock says.
    #[error("is not valid yet")]
    NotYet,
    /// It was made for other names.
    #[error("is for another name")]
    Name,
    /// Another authority than the one that is known here signed it.
    #[error("was signed by another CA")]
    Issuer,
    /// Whatever else rustls says.
    #[error("is not to be trusted ({0})")]
    Other(String),
}

impl Distrust {
    /// What rustls says.
    pub fn of(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYet,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::Name,
            // Two authorities of ours have the same name, and other keys.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Issuer,
            other => Self::Other(other.to_string()),
        }
    }

    /// What a client's user can do about it.
    fn cure(&self) -> &'static str {
        match self {
            Self::Expired => "renew it there, or set this machine's clock (`timedatectl`) if that is wrong",
            Self::NotYet => "set this machine's clock (`timedatectl`), or the clock of where it was made",
            Self::Name => "use the name it was made for in --url, or make it anew for this one",
            Self::Issuer => "give the CA that signed it with --ca",
            Self::Other(_) => "check --ca and the name in --url",
        }
    }
}

impl Failure {
    /// 64 for wrong usage, 130 for Ctrl-C, 0 for a reader that had enough, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Settings(_) | Self::Ca(_) => USAGE,
            Self::Interrupted => INTERRUPTED,
            Self::OutputClosed => 0,
            _ => 1,
        }
    }

    /// Whether a sentence is due: who pressed Ctrl-C or closed the output knows already.
    pub fn is_worth_telling(&self) -> bool {
        !matches!(self, Self::OutputClosed | Self::Interrupted)
    }
}

fn refusal(status: StatusCode, message: &str, retry_after: Option<u64>) -> String {
    let hint = match status {
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
            "; give a key with --key-file, CEREBRUM_API_KEY or the settings file"
        }
        _ => "",
    };
    let worth_retrying = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
    let retry = retry_after.filter(|_| worth_retrying);
    let retry = retry.map(|seconds| format!("; retry in {seconds} s")).unwrap_or_default();
    format!("the appliance refused ({}): {message}{hint}{retry}", status.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_tell_message_key_and_retry() {
        let sentence = refusal(StatusCode::SERVICE_UNAVAILABLE, "Too many requests", Some(3));
        assert_eq!(sentence, "the appliance refused (503): Too many requests; retry in 3 s");
        assert_eq!(refusal(StatusCode::BAD_REQUEST, "wrong", Some(3)), "the appliance refused (400): wrong");
        assert!(refusal(StatusCode::FORBIDDEN, "no key", None).contains("CEREBRUM_API_KEY"));
    }

    #[test]
    fn exit_codes_are_the_documented_ones() {
        assert_eq!(Failure::Usage(String::new()).exit_code(), 64);
        assert_eq!(Failure::Interrupted.exit_code(), 130);
        assert_eq!(Failure::OutputClosed.exit_code(), 0);
        assert_eq!(Failure::Incomplete { tokens: 0, reason: String::new() }.exit_code(), 1);
    }
}
