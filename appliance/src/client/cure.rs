//! What to do where an inference server was asked as the daemon asks it. The client's own sentences name the client's options;
//! here the daemon's settings are what can be changed, and the server itself.

use http::StatusCode;

use super::failure::{Distrust, Failure};

/// What was found, and what to do about it on the appliance or there.
pub(super) fn of_server(failure: &Failure) -> String {
    match failure {
        Failure::Lookup { host, source } => {
            format!(
                "cannot find the host {host:?} ({source}): check its `url` in the settings, and this machine's name server"
            )
        }
        Failure::Refused { authority } => format!(
            "nothing listens at {authority} (connection refused): check its `url` in the settings, and that cerebrum-server \
             runs there (`systemctl status cerebrum-server`)"
        ),
        Failure::Connect { authority, source } => format!(
            "cannot connect to {authority} ({source}): is the machine on, and does its firewall let this port through?"
        ),
        Failure::PlainPort { authority } => format!(
            "{authority} does not speak TLS: give cerebrum-server its [tls], or write http:// in `url` (for a tunnel)"
        ),
        Failure::Tls { authority, source } => {
            format!("no TLS connection to {authority} ({source}): does cerebrum-server have [tls] in its settings?")
        }
        Failure::Certificate { authority, distrust } => {
            format!("its certificate at {authority} {distrust}: {}", renewal(distrust))
        }
        // With TLS 1.3 the server judges our certificate when the handshake is over.
        Failure::Broken { reason, .. } if reason.contains(ALERT) => format!(
            "it refuses the appliance's certificate ({reason}): {RENEW}, and copy appliance.pem and appliance.key from there"
        ),
        Failure::NotHttp { authority } => not_plain(authority),
        Failure::Refusal { status: StatusCode::BAD_REQUEST, message, .. } if message.contains("TLS") => {
            not_plain("its port")
        }
        Failure::Refusal { status: StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED, .. } => {
            "it does not know the key in `key_file`: `cerebrum-server key add NAME` there prints a new one".to_owned()
        }
        Failure::NotCerebrum { authority, found } => {
            format!(
                "{authority} answers, but not as cerebrum-server does ({found}): check `url`, or set kind = \"openai\""
            )
        }
        other => other.to_string(),
    }
}

/// How rustls says that the other side refused something.
const ALERT: &str = "received fatal alert";

const RENEW: &str = "`cerebrum-server pki FOLDER --host NAME --renew` on the server makes new ones";

fn not_plain(what: &str) -> String {
    format!("{what} speaks TLS: write https:// in its `url`, with `ca`, `certificate` and `key`")
}

fn renewal(distrust: &Distrust) -> String {
    match distrust {
        Distrust::Expired => format!("{RENEW}; if it has not, set this machine's clock (`timedatectl`)"),
        Distrust::NotYet => "set this machine's clock (`timedatectl`), or the server's".to_owned(),
        Distrust::Name => format!("{RENEW}, for the name that stands in `url`"),
        Distrust::Issuer => "copy ca.pem from the server to the file that `ca` names".to_owned(),
        Distrust::Other(_) => "check `ca` and the name in `url`".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn nobody_is_sent_to_the_clients_options() {
        let (authority, status) = (|| "vps:9000".to_owned(), StatusCode::FORBIDDEN);
        let io = || io::Error::other("x");
        let refusal =
            |status, message: &str| Failure::Refusal { status, message: message.to_owned(), retry_after: None };
        let certificate = |distrust| Failure::Certificate { authority: authority(), distrust };
        for (failure, advice) in [
            (Failure::Lookup { host: "vps".into(), source: io() }, "name server"),
            (Failure::Refused { authority: authority() }, "systemctl status cerebrum-server"),
            (Failure::Connect { authority: authority(), source: io() }, "firewall"),
            (Failure::PlainPort { authority: authority() }, "http:// in `url`"),
            (Failure::Tls { authority: authority(), source: io() }, "[tls]"),
            (Failure::NotHttp { authority: authority() }, "https:// in its `url`"),
            (refusal(StatusCode::BAD_REQUEST, "this port speaks TLS"), "https:// in its `url`"),
            (refusal(status, "no"), "cerebrum-server key add"),
            (certificate(Distrust::Expired), "--renew"),
            (certificate(Distrust::NotYet), "timedatectl"),
            (certificate(Distrust::Issuer), "ca.pem"),
            (certificate(Distrust::Name), "--host NAME"),
            (
                Failure::Broken { authority: authority(), reason: "received fatal alert: DecryptError".into() },
                "appliance.pem",
            ),
            (Failure::NotCerebrum { authority: authority(), found: "x".into() }, "kind = \"openai\""),
        ] {
            let told = of_server(&failure);
            assert!(told.contains(advice), "{told}");
            assert!(!told.contains("--url") && !told.contains("--ca") && !told.contains("--key-file"), "{told}");
        }
    }
}
