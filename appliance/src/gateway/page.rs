//! The status page: a few files that come with the program, nothing to build. It loads nothing from elsewhere and runs no
//! script that is not among them.

use bytes::Bytes;
use cerebrum_common::serve::Answer;
use http::{HeaderName, HeaderValue, Response};

use super::info;

/// The page's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asset {
    /// What a browser opens.
    Index,
    /// How it looks.
    Style,
    /// Puts what comes into its place.
    App,
    /// Draws display, lamps and plots.
    Draw,
    /// Brings events, with the key in a header.
    Stream,
    /// Says figures as people do.
    Words,
    /// For the browser's tab.
    Icon,
}

/// Nothing from elsewhere, nothing inline, in nobody's frame, and no form that is sent by the browser itself: a key would
/// stand in the address.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One of them.
pub(super) fn file(asset: Asset) -> Response<Answer> {
    let (kind, content): (_, &'static str) = match asset {
        Asset::Index => ("text/html; charset=utf-8", include_str!("page/index.html")),
        Asset::Style => ("text/css; charset=utf-8", include_str!("page/style.css")),
        Asset::App => ("text/javascript; charset=utf-8", include_str!("page/app.js")),
        Asset::Draw => ("text/javascript; charset=utf-8", include_str!("page/draw.js")),
        Asset::Stream => ("text/javascript; charset=utf-8", include_str!("page/stream.js")),
        Asset::Words => ("text/javascript; charset=utf-8", include_str!("page/words.js")),
        Asset::Icon => ("image/svg+xml", include_str!("page/icon.svg")),
    };
    let mut response = info::file(kind, Bytes::from_static(content.as_bytes()));
    let headers = response.headers_mut();
    for (name, value) in
        [("content-security-policy", POLICY), ("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")]
    {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_that_its_policy_forbids() {
        let page = include_str!("page/index.html");
        for forbidden in ["<style", "style=", "onclick", "http://", "https://", "javascript:"] {
            assert!(!page.contains(forbidden), "{forbidden} in the page");
        }
        let scripts = page.matches("<script").count();
        assert_eq!(page.matches("<script type=\"module\" src=\"/page/").count(), scripts);
        let policy = file(Asset::Index).headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    }

    #[test]
    fn a_key_never_gets_into_an_address() {
        // A field without a name is not sent, whatever the browser does with the form.
        let page = include_str!("page/index.html");
        let input = page.split("<input").skip(1).map(|rest| rest.split('>').next().unwrap_or_default());
        let inputs: Vec<_> = input.collect();
        assert!(inputs.len() > 1);
        assert!(inputs.iter().all(|input| !input.contains(" name=")), "{inputs:?}");
    }
}
