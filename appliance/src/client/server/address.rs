//! Where an appliance is: a URL as people type it.

use std::str::FromStr;

use http::Uri;
use http::uri::Scheme;

/// The appliance's own port, taken where a bare host name is given.
const PORT: u16 = 7000;

/// An appliance's address. A bare name means `http` and port 7000; a whole URL means what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    tls: bool,
    host: String,
    port: u16,
    authority: String,
    prefix: String,
}

impl Address {
    /// Whether TLS is spoken there.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Name or number of the host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Path before every call's own, empty mostly.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("url: found {text:?}, expected an address such as http://cerebrum.local:7000");
        let bare = !text.contains("://");
        let full = if bare { format!("http://{text}") } else { text.to_owned() };
        let uri: Uri = full.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(wrong()),
        };
        let written = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        let usual = if bare {
            PORT
        } else if tls {
            443
        } else {
            80
        };
        // A port that is written but is no number would otherwise silently become the usual one.
        let port = match written.as_str().strip_prefix(written.host()) {
            Some("") => usual,
            _ => written.port_u16().ok_or_else(wrong)?,
        };
        Ok(Self {
            tls,
            host: written.host().trim_matches(['[', ']']).to_owned(),
            port,
            authority: format!("{}:{port}", written.host()),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_type_them() {
        let cases = [
            ("http://127.0.0.1:7000", false, "127.0.0.1:7000", ""),
            ("cerebrum.local", false, "cerebrum.local:7000", ""),
            ("box:81", false, "box:81", ""),
            ("https://box/ai/", true, "box:443", "/ai"),
            ("http://box", false, "box:80", ""),
            ("http://[::1]:7000/", false, "[::1]:7000", ""),
        ];
        for (text, tls, authority, prefix) in cases {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.tls, address.authority(), address.prefix()), (tls, authority, prefix), "{text}");
        }
        assert_eq!("http://[::1]:7000".parse::<Address>().unwrap().host(), "::1");
    }

    #[test]
    fn others_are_refused() {
        for text in ["", "ftp://box", "http://", "http://a b", "http://user@box", "http://box:port", "box:99999"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
