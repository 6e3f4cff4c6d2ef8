//! Who does not trust whom, where a TLS connection fails for that.
//!
//! Owns the reading of rustls' errors. With TLS 1.3 a server refuses a client's certificate only after the client's handshake is
//! over, so the refusal comes with the first read, and h2 keeps no more of it than its text: [`Noting`] sees it on its way.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use rustls::{AlertDescription as Alert, CertificateError, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::problem::Trouble;

/// What became of the trust in a connection; set at most once.
pub(super) type Noted = Arc<OnceLock<Trouble>>;

/// The trouble behind an error, if it is one of trust.
pub(super) fn trouble(error: &io::Error) -> Option<Trouble> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            Some(Trouble::ClockBehind)
        }
        Error::InvalidCertificate(_) => Some(Trouble::TheirCertificate),
        Error::AlertReceived(alert) if is_about_certificates(*alert) => Some(Trouble::OurCertificate),
        _ => None,
    }
}

fn is_about_certificates(alert: Alert) -> bool {
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
    )
}

/// A stream that notes why it broke.
pub(super) struct Noting<I> {
    io: I,
    noted: Noted,
}

impl<I> Noting<I> {
    pub(super) fn new(io: I, noted: Noted) -> Self {
        Self { io, noted }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Noting<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, into));
        if let Some(trouble) = read.as_ref().err().and_then(trouble) {
            // The first one says it all.
            self.noted.get_or_init(|| trouble);
        }
        Poll::Ready(read)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Noting<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_trust_are_told_apart_from_others() {
        let cases = [
            (Error::InvalidCertificate(CertificateError::NotValidYet), Some(Trouble::ClockBehind)),
            (Error::InvalidCertificate(CertificateError::Expired), Some(Trouble::TheirCertificate)),
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), Some(Trouble::TheirCertificate)),
            (Error::AlertReceived(Alert::CertificateRequired), Some(Trouble::OurCertificate)),
            (Error::AlertReceived(Alert::UnknownCA), Some(Trouble::OurCertificate)),
            (Error::AlertReceived(Alert::InternalError), None),
            (Error::HandshakeNotComplete, None),
        ];
        for (error, wanted) in cases {
            let text = error.to_string();
            assert_eq!(trouble(&io::Error::new(io::ErrorKind::InvalidData, error)), wanted, "{text}");
        }
        assert_eq!(trouble(&io::ErrorKind::ConnectionRefused.into()), None);
    }
}
