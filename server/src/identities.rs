//! `cerebrum-server pki`: a private authority and both identities of mutual TLS in one step, and their renewal.
//!
//! Owns the file names and the sentences that say what to do with the files. Certificates are
//! [`cerebrum_common::pki`]'s work.

use std::path::{Path, PathBuf};

use anyhow::bail;
use cerebrum_common::pki::{Authority, IDENTITY_DAYS, Role};
use clap::Args;

/// What to make, and where.
#[derive(Args, Debug)]
pub struct Request {
    /// The folder to write to.
    pub folder: PathBuf,
    /// Name or address by which the appliance reaches this server; may be given several times.
    #[arg(long, required = true, num_args = 1..)]
    pub host: Vec<String>,
    /// Issue new identities from the authority that is in the folder already.
    #[arg(long)]
    pub renew: bool,
}

/// Names of the identities' files, without ending.
const SERVER: &str = "server";
const APPLIANCE: &str = "appliance";

/// Makes the files and says what was written and which settings lines to use.
///
/// # Errors
/// A folder that holds identities already (without `renew`) or no authority (with it), a name that cannot be in a
/// certificate, a file that cannot be written.
pub fn make(request: &Request) -> anyhow::Result<String> {
    let folder = &request.folder;
    check(request)?;
    let authority = Authority::open(folder)?;
    authority.issue(SERVER, Role::Server, &request.host, IDENTITY_DAYS)?.save(folder, SERVER)?;
    authority.issue(APPLIANCE, Role::Client, &[], IDENTITY_DAYS)?.save(folder, APPLIANCE)?;
    let folder = std::path::absolute(folder)?;
    Ok(if request.renew { renewed(&folder) } else { instructions(&folder, &request.host) })
}

/// Identities in use must not be replaced by a slip, and a renewal must not make a second authority.
fn check(request: &Request) -> anyhow::Result<()> {
    let at = |name: &str| request.folder.join(name);
    let authority = at("ca.pem").exists();
    let identity = at(&format!("{SERVER}.pem")).exists() || at(&format!("{APPLIANCE}.pem")).exists();
    match (request.renew, authority, identity) {
        (true, false, _) => {
            bail!("{}: found no ca.pem, expected the authority to renew from", request.folder.display())
        }
        (false, _, true) => bail!(
            "{}: found identities already; add --renew to replace them, signed by the same authority",
            request.folder.display()
        ),
        _ => Ok(()),
    }
}

fn instructions(folder: &Path, hosts: &[String]) -> String {
    let shown = folder.display();
    let host = hosts.first().map_or("localhost", String::as_str);
    format!(
        "Wrote a certificate authority and two identities, valid for {} years, to {shown}.

On this server, put into its settings:

    [tls]
    certificate = \"{shown}/{SERVER}.pem\"
    key = \"{shown}/{SERVER}.key\"
    client_ca = \"{shown}/ca.pem\"

Copy ca.pem, {APPLIANCE}.pem and {APPLIANCE}.key to the appliance, beside its cerebrum.toml, and put there:

    [[upstream]]
    url = \"https://{host}:9000\"
    ca = \"ca.pem\"
    certificate = \"{APPLIANCE}.pem\"
    key = \"{APPLIANCE}.key\"

Only ca.key can make further identities: keep it off both machines once this works.
",
        IDENTITY_DAYS / 365
    )
}

fn renewed(folder: &Path) -> String {
    format!(
        "Renewed both identities in {}, signed by the same authority.
The server takes its new one within seconds; copy {APPLIANCE}.pem and {APPLIANCE}.key to the appliance, which does so too.
",
        folder.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use cerebrum_common::tls::{ClientFiles, IdentityFiles, ServerFiles, TlsFiles};

    fn request(folder: &Path, renew: bool) -> Request {
        Request { folder: folder.join("pki"), host: vec!["vps.example".into(), "127.0.0.1".into()], renew }
    }

    fn read(folder: &Path, name: &str) -> String {
        std::fs::read_to_string(folder.join("pki").join(name)).unwrap()
    }

    #[test]
    fn one_step_gives_both_ends_what_they_need() {
        let folder = tempfile::tempdir().unwrap();
        let text = make(&request(folder.path(), false)).unwrap();
        let at = |name: &str| folder.path().join("pki").join(name);
        let identity =
            |name: &str| IdentityFiles { certificate: at(&format!("{name}.pem")), key: at(&format!("{name}.key")) };
        ServerFiles { identity: identity("server"), client_ca: Some(at("ca.pem")) }.build().unwrap();
        ClientFiles { ca: at("ca.pem"), identity: Some(identity("appliance")) }.build().unwrap();
        assert!(text.contains("url = \"https://vps.example:9000\""), "{text}");
        assert!(text.contains(&format!("client_ca = \"{}\"", at("ca.pem").display())), "{text}");
    }

    #[test]
    fn renewing_keeps_the_authority_and_only_happens_when_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        assert!(make(&request(folder.path(), true)).unwrap_err().to_string().contains("no ca.pem"));
        make(&request(folder.path(), false)).unwrap();
        let (authority, server) = (read(folder.path(), "ca.pem"), read(folder.path(), "server.pem"));
        assert!(make(&request(folder.path(), false)).unwrap_err().to_string().contains("--renew"));
        assert_eq!(read(folder.path(), "server.pem"), server);
        make(&request(folder.path(), true)).unwrap();
        assert_eq!(read(folder.path(), "ca.pem"), authority);
        assert_ne!(read(folder.path(), "server.pem"), server);
    }
}
