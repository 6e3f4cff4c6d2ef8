//! Making TLS identities: a private certificate authority and the certificates of both ends, so that nobody needs
//! OpenSSL incantations to run mutual TLS.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use crate::settings::write_private;

/// Lifetime of the authority in days: the certificates below it are renewed, it is not.
const AUTHORITY_DAYS: i64 = 20 * 365;

/// Lifetime of an identity in days, unless said otherwise.
pub const IDENTITY_DAYS: i64 = 5 * 365;

/// Certificates start this long ago, in hours: a board without a battery clock may be a little behind.
const BACKDATED_HOURS: i64 = 24;

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The listening end.
    Server,
    /// The connecting end.
    Client,
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: String,
}

/// What cannot be made or written.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// Making or reading a certificate failed.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's complaint.
        source: std::io::Error,
    },
}

/// A certificate authority.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Shows nothing: it holds a private key.
impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// [`PkiError::Certificate`].
    pub fn new() -> Result<Self, PkiError> {
        let mut params = params("Cerebrum private CA", AUTHORITY_DAYS);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate: Certificate = params.self_signed(&key)?;
        Ok(Self { certificate_pem: certificate.pem(), issuer: Issuer::new(params, key) })
    }

    /// The authority kept in `folder` as `ca.pem` and `ca.key`; made there when missing.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn open(folder: &Path) -> Result<Self, PkiError> {
        let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
        if !certificate.exists() && !key.exists() {
            let authority = Self::new()?;
            save(&key, &authority.issuer.key().serialize_pem())?;
            save(&certificate, &authority.certificate_pem)?;
            return Ok(authority);
        }
        let certificate_pem = load(&certificate)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, KeyPair::from_pem(&load(&key)?)?)?;
        Ok(Self { certificate_pem, issuer })
    }

    /// Its certificate, for those who shall trust it.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A certificate for `name`, valid for the given host names and addresses from a day ago for `days` days (a negative
    /// number makes an expired one, for tests).
    ///
    /// # Errors
    /// [`PkiError::Certificate`] when a host name cannot be in a certificate.
    pub fn issue(&self, name: &str, role: Role, hosts: &[String], days: i64) -> Result<Identity, PkiError> {
        let mut params = params(name, days);
        params.subject_alt_names = CertificateParams::new(hosts)?.subject_alt_names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match role {
            Role::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Role::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

impl Identity {
    /// Writes `<name>.pem` and `<name>.key` into `folder`, readable by their owner only.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub fn save(&self, folder: &Path, name: &str) -> Result<(), PkiError> {
        save(&folder.join(format!("{name}.key")), &self.key_pem)?;
        save(&folder.join(format!("{name}.pem")), &self.certificate_pem)
    }
}

fn params(name: &str, days: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = std::time::SystemTime::now();
    let shift = |hours: i64| {
        let length = std::time::Duration::from_secs(hours.unsigned_abs() * 3600);
        if hours < 0 { now - length } else { now + length }
    };
    params.not_before = shift(-BACKDATED_HOURS + days.min(0) * 24).into();
    params.not_after = shift(days * 24).into();
    params
}

fn save(path: &Path, pem: &str) -> Result<(), PkiError> {
    write_private(path, pem.as_bytes()).map_err(|source| PkiError::Io { path: path.into(), source })
}

fn load(path: &Path) -> Result<String, PkiError> {
    std::fs::read_to_string(path).map_err(|source| PkiError::Io { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_made_once_and_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::open(folder.path()).unwrap();
        let second = Authority::open(folder.path()).unwrap();
        assert_eq!(first.certificate_pem(), second.certificate_pem());
        second.issue("x", Role::Server, &["127.0.0.1".into(), "vps.example".into()], 1).unwrap();
    }

    #[test]
    fn half_an_authority_is_an_error_not_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        Authority::open(folder.path()).unwrap();
        std::fs::remove_file(folder.path().join("ca.key")).unwrap();
        assert!(matches!(Authority::open(folder.path()), Err(PkiError::Io { .. })));
    }
}
