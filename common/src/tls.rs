//! rustls as both programs use it: TLS 1.3 (and 1.2 for old LAN clients), ALPN, session resumption, mutual TLS between
//! appliance and server, certificates read anew when their files change.
//!
//! The Raspberry Pi CM4's processor has no AES instructions: there ChaCha20-Poly1305 goes first, and a server on it
//! insists on its own order.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{CipherSuite, ClientConfig, RootCertStore, ServerConfig};

use crate::settings::Section;

/// ALPN names, preferred first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// TLS sessions a server remembers for clients that resume by id (TLS 1.2); tickets need no memory.
const SESSIONS: usize = 256;

/// The files of one end's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// PEM: the certificate, then any intermediates.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
}

/// TLS material that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as what it should be.
    #[error("{}: found {found}, expected {expected}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
        /// What should be in it.
        expected: &'static str,
    },
    /// The parts do not make a configuration: key and certificate of different pairs, say.
    #[error("{}: {source}", path.display())]
    Unfit {
        /// The certificate's file.
        path: PathBuf,
        /// rustls' complaint.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The cryptography in use: ring, with ChaCha20 first where the processor has no AES.
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    if !has_aes() {
        // A stable sort: everything else keeps rustls' order.
        provider.cipher_suites.sort_by_key(|suite| !is_chacha(suite.suite()));
    }
    Arc::new(provider)
}

fn is_chacha(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
fn has_aes() -> bool {
    false
}

/// What a listening program presents, and whom it lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// Its own identity.
    pub identity: IdentityFiles,
    /// With a CA, only clients with a certificate from it are let in.
    pub client_ca: Option<PathBuf>,
}

/// What a connecting program presents, and whom it trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// The CA of the server's certificate.
    pub ca: PathBuf,
    /// Its own identity, where the server wants one.
    pub identity: Option<IdentityFiles>,
}

/// Files that make a TLS configuration.
pub trait TlsFiles {
    /// rustls' configuration for this side.
    type Config: Send + Sync;

    /// The files to watch for changes.
    fn paths(&self) -> Vec<&Path>;

    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] naming the file.
    fn build(&self) -> Result<Arc<Self::Config>, TlsError>;
}

impl ServerFiles {
    /// What the settings' `[tls]` says of them.
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let (certificate, key) = (section.required("certificate"), section.required("key"));
        let client_ca = section.take("client_ca");
        Some(Self { identity: IdentityFiles { certificate: certificate?, key: key? }, client_ca })
    }
}

impl TlsFiles for ServerFiles {
    type Config = ServerConfig;

    fn paths(&self) -> Vec<&Path> {
        let own = [self.identity.certificate.as_path(), &self.identity.key];
        own.into_iter().chain(self.client_ca.as_deref()).collect()
    }

    fn build(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let unfit = |source| TlsError::Unfit { path: self.identity.certificate.clone(), source };
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| unfit(error.into()))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider)
                    .build()
                    .map_err(|error| TlsError::Unfit { path: ca.clone(), source: error.into() })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let (chain, key) = identity(&self.identity)?;
        let mut config = builder.with_single_cert(chain, key).map_err(|error| unfit(error.into()))?;
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        config.ignore_client_order = !has_aes();
        config.session_storage = rustls::server::ServerSessionMemoryCache::new(SESSIONS);
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(|error| unfit(error.into()))?;
        Ok(Arc::new(config))
    }
}

impl TlsFiles for ClientFiles {
    type Config = ClientConfig;

    fn paths(&self) -> Vec<&Path> {
        let own = self.identity.iter().flat_map(|files| [files.certificate.as_path(), &files.key]);
        own.chain([self.ca.as_path()]).collect()
    }

    fn build(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let unfit = |source| TlsError::Unfit { path: self.ca.clone(), source };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| unfit(error.into()))?
            .with_root_certificates(roots(&self.ca)?);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let (chain, key) = identity(files)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| TlsError::Unfit { path: files.certificate.clone(), source: error.into() })?
            }
        };
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        Ok(Arc::new(config))
    }
}

/// A client's configuration without an identity of its own, for services that are not ours: `ca`, or the system's roots.
///
/// # Errors
/// A CA that cannot be used, or a system without roots.
pub fn client_roots(ca: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let path = ca.unwrap_or(Path::new("the system's certificates"));
    let roots = match ca {
        Some(ca) => roots(ca)?,
        None => {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            store
        }
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Unfit { path: path.into(), source: error.into() })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::Unfit { path: path.into(), source: error.into() })?;
    }
    Ok(roots)
}

fn identity(files: &IdentityFiles) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| TlsError::File {
        path: files.key.clone(),
        found: error.to_string(),
        expected: "a private key in PEM",
    })?;
    Ok((certificates(&files.certificate)?, key))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |found: String| TlsError::File { path: path.into(), found, expected: "certificates in PEM" };
    let list = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(error.to_string()))?;
    if list.is_empty() { Err(wrong("no certificate".to_owned())) } else { Ok(list) }
}

/// A configuration that follows its files: [`Self::refresh`] after a renewal, and new connections use the new one.
pub struct Reloading<F: TlsFiles> {
    files: F,
    current: RwLock<Loaded<F::Config>>,
}

struct Loaded<C> {
    config: Arc<C>,
    stamps: Vec<Option<SystemTime>>,
}

impl<F: TlsFiles> Reloading<F> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(files: F) -> Result<Self, TlsError> {
        let stamps = stamps(&files);
        let config = files.build()?;
        Ok(Self { files, current: RwLock::new(Loaded { config, stamps }) })
    }

    /// The configuration for a new connection.
    pub fn current(&self) -> Arc<F::Config> {
        let current = self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        current.config.clone()
    }

    /// Reads the files again if one of them changed; true when the configuration was replaced.
    ///
    /// # Errors
    /// [`TlsError`] once for each change that cannot be used; the configuration in use stays.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let stamps = stamps(&self.files);
        let unchanged = |current: &Loaded<F::Config>| current.stamps == stamps;
        if unchanged(&self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner)) {
            return Ok(false);
        }
        let built = self.files.build();
        let mut current = self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        current.stamps = stamps;
        current.config = built?;
        Ok(true)
    }
}

impl<F: TlsFiles + fmt::Debug> fmt::Debug for Reloading<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reloading").field(&self.files).finish()
    }
}

fn stamps<F: TlsFiles>(files: &F) -> Vec<Option<SystemTime>> {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    files.paths().into_iter().map(modified).collect()
}

/// How often certificate files are looked at.
pub const REFRESH: std::time::Duration = std::time::Duration::from_secs(5);

/// Refreshes `config` every [`REFRESH`] until the program stops.
pub async fn keep_fresh<F>(config: Arc<Reloading<F>>, tasks: crate::lifecycle::Tasks)
where
    F: TlsFiles + fmt::Debug + Send + Sync,
{
    while tasks.until_stopping(tokio::time::sleep(REFRESH)).await.is_some() {
        match config.refresh() {
            Ok(true) => tracing::info!(?config, "certificates read anew"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "new certificates cannot be used, the old ones stay"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Authority, Role};
    use std::io::{Read, Write};

    struct Pair {
        folder: tempfile::TempDir,
        authority: Authority,
    }

    impl Pair {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let authority = Authority::new().unwrap();
            std::fs::write(folder.path().join("ca.pem"), authority.certificate_pem()).unwrap();
            let pair = Self { folder, authority };
            pair.issue("server", Role::Server);
            pair.issue("client", Role::Client);
            pair
        }

        fn issue(&self, name: &str, role: Role) {
            let identity = self.authority.issue(name, role, &["localhost".into()], 30).unwrap();
            std::fs::write(self.folder.path().join(format!("{name}.pem")), identity.certificate_pem).unwrap();
            std::fs::write(self.folder.path().join(format!("{name}.key")), identity.key_pem).unwrap();
        }

        fn files(&self, name: &str) -> IdentityFiles {
            let at = |end: &str| self.folder.path().join(format!("{name}.{end}"));
            IdentityFiles { certificate: at("pem"), key: at("key") }
        }

        fn server(&self) -> ServerFiles {
            ServerFiles { identity: self.files("server"), client_ca: Some(self.folder.path().join("ca.pem")) }
        }

        fn client(&self) -> ClientFiles {
            ClientFiles { ca: self.folder.path().join("ca.pem"), identity: Some(self.files("client")) }
        }
    }

    /// One connection in memory: handshake, one byte each way (the server's also carries the session tickets).
    fn connect(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> rustls::HandshakeKind {
        let mut client = rustls::ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap();
        let mut server = rustls::ServerConnection::new(server).unwrap();
        let pipe = |client: &mut rustls::ClientConnection, server: &mut rustls::ServerConnection| {
            for _ in 0..8 {
                let mut bytes = Vec::new();
                client.write_tls(&mut bytes).unwrap();
                server.read_tls(&mut &bytes[..]).unwrap();
                server.process_new_packets().unwrap();
                bytes.clear();
                server.write_tls(&mut bytes).unwrap();
                client.read_tls(&mut &bytes[..]).unwrap();
                client.process_new_packets().unwrap();
            }
        };
        pipe(&mut client, &mut server);
        server.writer().write_all(b"x").unwrap();
        pipe(&mut client, &mut server);
        client.reader().read_exact(&mut [0]).unwrap();
        assert_eq!(client.alpn_protocol(), Some(&b"h2"[..]));
        client.handshake_kind().unwrap()
    }

    #[test]
    fn mutual_tls_with_alpn_and_resumption() {
        let pair = Pair::new();
        let (server, client) = (pair.server().build().unwrap(), pair.client().build().unwrap());
        assert_ne!(connect(server.clone(), client.clone()), rustls::HandshakeKind::Resumed);
        assert_eq!(connect(server, client), rustls::HandshakeKind::Resumed);
    }

    #[test]
    fn changed_files_are_read_anew_and_bad_ones_change_nothing() {
        let pair = Pair::new();
        let reloading = Reloading::new(pair.server()).unwrap();
        assert!(!reloading.refresh().unwrap());
        let before = reloading.current();

        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        let touch = |file: &Path| std::fs::File::options().write(true).open(file).unwrap().set_modified(later).unwrap();
        pair.issue("server", Role::Server);
        touch(&pair.files("server").key);
        assert!(reloading.refresh().unwrap());
        let renewed = reloading.current();
        assert!(!Arc::ptr_eq(&before, &renewed));

        std::fs::write(pair.files("server").certificate, "rubbish").unwrap();
        let error = reloading.refresh().unwrap_err().to_string();
        assert!(error.contains("server.pem") && error.contains("expected certificates in PEM"), "{error}");
        assert!(Arc::ptr_eq(&renewed, &reloading.current()));
        assert!(!reloading.refresh().unwrap(), "a bad change is told once");
    }

    #[test]
    fn a_key_of_another_pair_is_refused() {
        let pair = Pair::new();
        let mut files = pair.server();
        files.identity.key = pair.files("client").key;
        assert!(matches!(files.build().unwrap_err(), TlsError::Unfit { .. }));
    }

    #[test]
    fn chacha_goes_first_only_without_aes() {
        let first = provider().cipher_suites[0].suite();
        assert_eq!(is_chacha(first), !has_aes(), "{first:?}");
    }
}
