//! Which appliance is meant: arguments before environment before settings file before defaults. Owns the order of
//! precedence; reads the environment through the common settings only, and never writes a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cerebrum_common::keys::Secret;
use cerebrum_common::settings::{Section, environment, read_file};
use cerebrum_common::tls::{ClientFiles, TlsFiles};
use rustls::ClientConfig;

use super::cli::Connection;
use super::failure::Failure;
use super::server::{Address, Server};

/// Where an appliance is looked for when nothing is said: the machine itself.
const DEFAULT_URL: &str = "http://127.0.0.1:7000";

/// What `client.toml` may hold.
#[derive(Debug, Default)]
struct Settings {
    url: Option<String>,
    key: Option<String>,
    key_file: Option<PathBuf>,
    ca: Option<PathBuf>,
}

/// The appliance that is meant.
///
/// # Errors
/// A settings file, URL, key or CA file that cannot be used.
pub fn server(connection: &Connection) -> Result<Server, Failure> {
    let settings = settings(connection.config.as_deref())?;
    let url = connection.url.clone().or_else(|| environment("CEREBRUM_URL")).or(settings.url.clone());
    let address: Address = url.as_deref().unwrap_or(DEFAULT_URL).parse().map_err(Failure::Usage)?;
    let key = key(connection, &settings)?;
    let ca = connection.ca.clone().or(settings.ca);
    let tls = address.is_tls().then(|| tls(ca)).transpose()?;
    Server::new(address, key.as_ref(), tls)
}

fn settings(explicit: Option<&Path>) -> Result<Settings, Failure> {
    let usual = || Some(home("XDG_CONFIG_HOME", ".config")?.join("client.toml")).filter(|file| file.exists());
    match explicit.map(Path::to_owned).or_else(usual) {
        Some(file) => Ok(read_file(&file, convert)?),
        None => Ok(Settings::default()),
    }
}

fn convert(root: &mut Section<'_>) -> Option<Settings> {
    let settings =
        Settings { url: root.take("url"), key: root.take("key"), key_file: root.take("key_file"), ca: root.take("ca") };
    if settings.key.is_some() && settings.key_file.is_some() {
        root.problem("key", "found beside key_file, expected one of the two".to_owned());
    }
    Some(settings)
}

/// Cerebrum's folder below `variable`, or below the home folder's `usual` one.
pub(super) fn home(variable: &str, usual: &str) -> Option<PathBuf> {
    let base = environment(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(PathBuf::from(environment("HOME")?).join(usual)))?;
    Some(base.join("cerebrum"))
}

fn key(connection: &Connection, settings: &Settings) -> Result<Option<Secret>, Failure> {
    if let Some(file) = &connection.key_file {
        return read_key(file).map(Some);
    }
    if let Some(key) = environment("CEREBRUM_API_KEY") {
        return Ok(Some(Secret::new(key.trim())));
    }
    match &settings.key_file {
        Some(file) => read_key(file).map(Some),
        None => Ok(settings.key.as_deref().map(Secret::new)),
    }
}

fn read_key(file: &Path) -> Result<Secret, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::Usage(format!("{}: found {error}, expected a key", file.display())))?;
    match text.trim() {
        "" => Err(Failure::Usage(format!("{}: found nothing, expected a key", file.display()))),
        key => Ok(Secret::new(key)),
    }
}

fn tls(ca: Option<PathBuf>) -> Result<Arc<ClientConfig>, Failure> {
    let ca = ca.ok_or_else(|| {
        Failure::Usage(
            "https:// needs the CA of the appliance's certificate: give --ca FILE, or `ca` in the settings file \
             (the system's own list of authorities is not used)"
                .to_owned(),
        )
    })?;
    Ok(over_http1(&ClientFiles { ca, identity: None }.build()?))
}

/// The same for connections that speak HTTP/1.1.
pub(super) fn over_http1(tls: &Arc<ClientConfig>) -> Arc<ClientConfig> {
    let mut config = (**tls).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(text: &str) -> (tempfile::TempDir, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("client.toml");
        std::fs::write(&config, text).unwrap();
        (folder, Connection { config: Some(config), ..Connection::default() })
    }

    #[test]
    fn arguments_go_before_the_file() {
        let (_folder, mut connection) = connection("url = \"http://box:7001\"\nkey = \"from-file\"\n");
        assert_eq!(server(&connection).unwrap().authority(), "box:7001");
        connection.url = Some("other:1".into());
        assert_eq!(server(&connection).unwrap().authority(), "other:1");
    }

    #[test]
    fn problems_are_told_by_key() {
        let (_folder, connection) = connection("urll = \"x\"\nkey = \"a\"\nkey_file = \"b\"\n");
        let error = server(&connection).unwrap_err();
        let sentence = error.to_string();
        assert!(sentence.contains("urll: found an unknown key, expected \"url\" perhaps"), "{sentence}");
        assert!(sentence.contains("key: found beside key_file"), "{sentence}");
        assert_eq!(error.exit_code(), 64);
    }

    #[test]
    fn https_without_a_ca_says_what_is_missing() {
        let (_folder, connection) = connection("url = \"https://box:7000\"\n");
        assert!(server(&connection).unwrap_err().to_string().contains("--ca FILE"));
    }
}
