//! Which web pages of other origins may call (CORS, as the Fetch standard has it): none unless the settings name them.
//!
//! Keys travel in headers and nothing here knows cookies, so that credentials are never allowed.

use std::path::Path;

use cerebrum_common::serve::{Answer, empty};
use cerebrum_common::settings::Setting;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};

/// Origins whose pages may call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// None.
    #[default]
    Nobody,
    /// These, each `scheme://host[:port]`.
    Listed(Vec<HeaderValue>),
    /// Every page there is.
    All,
}

/// For how many seconds a browser need not ask again.
const MAX_AGE_S: &str = "600";

/// What a page may read beside what every page may.
const EXPOSED: &str = "x-request-id, x-cerebrum-cache, idempotent-replayed, retry-after";

const PRIVATE_NETWORK_ASKED: HeaderName = HeaderName::from_static("access-control-request-private-network");
const PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

impl Setting for Origins {
    const EXPECTED: &'static str =
        "\"*\", or a list of origins such as \"https://app.example\" (lower case, without a path)";

    fn read(value: &toml::Value, _: &Path) -> Option<Self> {
        match value {
            toml::Value::String(all) if all == "*" => Some(Self::All),
            toml::Value::Array(list) => {
                let origins = list.iter().map(|origin| Self::parse(origin.as_str()?)).collect::<Option<Vec<_>>>()?;
                Some(if origins.is_empty() { Self::Nobody } else { Self::Listed(origins) })
            }
            _ => None,
        }
    }
}

impl Origins {
    /// `scheme://host[:port]`, as a browser writes it.
    pub fn parse(text: &str) -> Option<HeaderValue> {
        let (scheme, host) = text.split_once("://")?;
        let lower = |text: &str| !text.is_empty() && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'?' | b'#' | b'@' | b'*');
        let named = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let fits = named && lower(scheme) && lower(host) && host.bytes().all(plain);
        fits.then(|| HeaderValue::from_str(text).ok()).flatten()
    }

    /// The word for the origin that a request names, where its pages may call.
    pub(super) fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        match self {
            Self::Nobody => None,
            Self::Listed(origins) => origins.contains(origin).then(|| origin.clone()),
            Self::All => Some(HeaderValue::from_static("*")),
        }
    }

    /// The answer to a browser's question before its request, where the origin may call.
    pub(super) fn preflight<B>(&self, request: &Request<B>) -> Option<Response<Answer>> {
        let asked = request.headers();
        if request.method() != Method::OPTIONS || !asked.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        self.allowed(asked)?;
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_S));
        // Any header: a wildcard would leave out `Authorization`.
        if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        if asked.contains_key(PRIVATE_NETWORK_ASKED) {
            headers.insert(PRIVATE_NETWORK, HeaderValue::from_static("true"));
        }
        Some(response)
    }

    /// Tells the browser that the page may read an answer, and caches that another page may not.
    pub(super) fn mark(&self, allowed: Option<HeaderValue>, headers: &mut HeaderMap) {
        if matches!(self, Self::Listed(_)) {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = allowed {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        for right in ["https://a.example", "http://localhost:3000", "http://[::1]:80", "vscode-webview://1a-2b"] {
            assert!(Origins::parse(right).is_some(), "{right}");
        }
        for wrong in ["a.example", "https://", "https://a/", "https://A", "://a", "https://*.a", "https://a b", "null"]
        {
            assert!(Origins::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn only_listed_origins_are_answered() {
        let ask = |origin: &'static str| {
            let request = Request::options("/v1/models").header("origin", origin);
            let request = request.header("access-control-request-method", "GET");
            request.header("access-control-request-headers", "authorization").body(()).unwrap()
        };
        let listed = Origins::Listed(vec![Origins::parse("https://a").unwrap()]);
        let answer = listed.preflight(&ask("https://a")).unwrap();
        assert_eq!(
            (answer.status(), &answer.headers()["access-control-allow-headers"]),
            (StatusCode::NO_CONTENT, &HeaderValue::from_static("authorization"))
        );
        assert!(listed.preflight(&ask("https://b")).is_none());
        assert!(Origins::Nobody.preflight(&ask("https://a")).is_none());
        assert!(Origins::All.preflight(&ask("https://b")).is_some());
        let mut headers = HeaderMap::new();
        listed.mark(listed.allowed(ask("https://b").headers()), &mut headers);
        assert_eq!((headers.get("access-control-allow-origin"), headers.get("vary").is_some()), (None, true));
        listed.mark(listed.allowed(ask("https://a").headers()), &mut headers);
        assert_eq!(headers["access-control-allow-origin"], "https://a");
    }
}
