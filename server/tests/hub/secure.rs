//! TLS in front of a hub, with an authority that nobody trusts unless told to.

#![expect(clippy::disallowed_methods, reason = "ends with the test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cerebrum_common::pki::{Authority, IDENTITY_DAYS, Role};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A way to a hub that needs TLS.
pub(crate) struct Secure {
    /// By which it is reached.
    pub(crate) base: String,
    /// The authority's certificate.
    pub(crate) authority: PathBuf,
}

impl Secure {
    /// Before `hub`, under this name; the authority's certificate goes to `folder`.
    pub(crate) async fn before(hub: &super::Hub, name: &str, folder: &Path) -> Self {
        let authority = Authority::new().unwrap();
        let identity = authority.issue(name, Role::Server, &[name.to_owned()], IDENTITY_DAYS).unwrap();
        let chain = CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()));
        let file = folder.join("authority.pem");
        std::fs::write(&file, authority.certificate_pem()).unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let behind = hub.base.strip_prefix("http://").unwrap().to_owned();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, behind) = (acceptor.clone(), behind.clone());
                // Whoever does not trust us, or is cut off by the hub, ends here too.
                tokio::spawn(async move {
                    let mut outside = acceptor.accept(socket).await?;
                    let mut inside = TcpStream::connect(behind).await?;
                    tokio::io::copy_bidirectional(&mut outside, &mut inside).await
                });
            }
        });
        Self { base, authority: file }
    }
}
