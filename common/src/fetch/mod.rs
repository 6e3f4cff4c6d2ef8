//! Files from the web, in as many attempts as it takes.
//!
//! Owns the resuming of a download: what has come is kept when the connection fails, also over the end of the program, and gone
//! on with if the file at the other end is still the same one. Where the bytes go, and whether they are right, is its caller's.

mod exchange;
mod note;

use std::path::Path;
use std::time::Duration;

use http::Uri;

pub use exchange::{Client, Patience};
pub use note::Note;

use exchange::{Answer, Trouble};

/// Where a file's bytes go.
pub trait Sink {
    /// Why they cannot.
    type Error;

    /// Bytes that are there.
    fn bytes(&self) -> u64;

    /// Forgets them: the file there is another one.
    ///
    /// # Errors
    /// As the sink says.
    fn restart(&mut self) -> Result<(), Self::Error>;

    /// Before more comes: by what the rest can be asked for another time, and how many bytes that is, where they are known.
    ///
    /// # Errors
    /// As the sink says; no byte is fetched then.
    fn expect(&mut self, validator: Option<&str>, rest: Option<u64>) -> Result<(), Self::Error>;

    /// Appends.
    ///
    /// # Errors
    /// As the sink says.
    fn write(&mut self, block: &[u8]) -> Result<(), Self::Error>;
}

/// Why a file did not come.
#[derive(Debug)]
pub enum FetchError<E> {
    /// The other end, or the way to it. What came is worth keeping.
    Fetch {
        /// Where it was to come from, without what might be a secret.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The sink.
    Sink(E),
}

impl<E> From<E> for FetchError<E> {
    fn from(error: E) -> Self {
        Self::Sink(error)
    }
}

/// An `http` or `https` URL with a host; `None` for anything else.
pub fn url(text: &str) -> Option<Uri> {
    let url: Uri = text.parse().ok()?;
    let fetchable =
        matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty());
    fetchable.then_some(url)
}

/// Bytes that may still be written to the file system of `folder`; endless where it does not tell, so that it is tried.
pub fn room(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(u64::MAX, |free| free.f_bavail.saturating_mul(free.f_frsize))
}

impl Client {
    /// Fetches what `sink` lacks of a file, which is all of it without a `validator` of an earlier attempt. Returns the SHA-256
    /// of the whole file, in hexadecimal, where the other end says it.
    ///
    /// # Errors
    /// [`FetchError`]: a refusal, more attempts in vain than patience allows, or the sink's.
    pub async fn download<S: Sink>(
        &self,
        url: &Uri,
        mut validator: Option<String>,
        sink: &mut S,
        mut progress: impl FnMut(u64, Option<u64>),
    ) -> Result<Option<String>, FetchError<S::Error>> {
        let mut sha256 = None;
        let mut in_vain = 0;
        loop {
            let before = sink.bytes();
            let trouble = match self.get(url, before, validator.as_deref()).await {
                Err(trouble) => Some(trouble),
                Ok(mut answer) => {
                    if answer.from == 0 {
                        sink.restart()?;
                    }
                    sha256 = answer.sha256.take().or(sha256);
                    validator = answer.validator.take();
                    let rest = answer.total.map(|total| total.saturating_sub(sink.bytes()));
                    sink.expect(validator.as_deref(), rest)?;
                    pour(&mut answer, sink, &mut progress).await?
                }
            };
            match trouble {
                None => return Ok(sha256),
                Some(Trouble::Passing(_)) if sink.bytes() > before => in_vain = 0,
                Some(Trouble::Passing(_)) if in_vain + 1 < self.patience.attempts => in_vain += 1,
                Some(Trouble::Passing(reason) | Trouble::Lasting(reason)) => {
                    return Err(FetchError::Fetch { url: shown(url), reason });
                }
            }
            tokio::time::sleep(self.pause(in_vain)).await;
        }
    }

    fn pause(&self, in_vain: u32) -> Duration {
        match in_vain {
            0 => Duration::ZERO,
            n => self.patience.pause * 2_u32.saturating_pow(n - 1),
        }
    }
}

async fn pour<S: Sink>(
    answer: &mut Answer,
    sink: &mut S,
    progress: &mut impl FnMut(u64, Option<u64>),
) -> Result<Option<Trouble>, S::Error> {
    loop {
        progress(sink.bytes(), answer.total);
        match answer.next().await {
            Ok(Some(block)) => sink.write(&block)?,
            Ok(None) => return Ok(None),
            Err(trouble) => return Ok(Some(trouble)),
        }
    }
}

/// Without what follows the question mark, where some places put a key, and without a password.
fn shown(url: &Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    format!(
        "{}://{}{}",
        url.scheme_str().unwrap_or_default(),
        authority.rsplit('@').next().unwrap_or_default(),
        url.path()
    )
}

#[cfg(test)]
mod tests;
