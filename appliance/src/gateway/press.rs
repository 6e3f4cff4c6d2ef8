//! `/v1/board/press`: presses a button of the simulated board, which has no other way of being pressed. A page from elsewhere
//! that is open in somebody's browser may not: with `auth = "open"` there is no key that would keep it out.

use std::time::Duration;

use cerebrum_board::{Backend, Button};
use cerebrum_common::serve::{Answer, Refusal, json};
use cerebrum_common::wire::json;
use http::request::Parts;
use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::Deserialize;

use super::Gateway;

/// A short press, in milliseconds.
const SHORT: u64 = 100;

/// Longest press taken: longer than any that means something.
const LONGEST: u64 = 30_000;

#[derive(Deserialize)]
struct Press {
    button: Which,
    #[serde(default = "short")]
    held_ms: u64,
}

fn short() -> u64 {
    SHORT
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Which {
    First,
    Second,
    Both,
}

/// Presses.
///
/// # Errors
/// A page from elsewhere, and a board with real buttons: those are for a person's finger.
pub(super) async fn press(gateway: &Gateway, head: &Parts, body: &mut Incoming) -> Result<Response<Answer>, Refusal> {
    from_here(&head.headers, host(head))?;
    is_json(&head.headers)?;
    let (bytes, _room) = gateway.bodies.collect(body).await?;
    let Press { button, held_ms } = json::parse(&bytes)?;
    let panel = gateway.panel.as_ref().filter(|panel| panel.backend() == Backend::Sim);
    let Some(panel) = panel else {
        let message = "only a simulated board (backend = \"sim\") can be pressed from here".to_owned();
        return Err(Refusal::BadRequest { field: None, message });
    };
    let held = Duration::from_millis(held_ms.min(LONGEST));
    match button {
        Which::First => panel.press(Button::First, held),
        Which::Second => panel.press(Button::Second, held),
        Which::Both => panel.press_both(held),
    }
    Ok(json(StatusCode::OK, &serde_json::json!({})))
}

/// By which name the appliance is asked.
pub(super) fn host(head: &Parts) -> Option<&str> {
    head.uri.authority().map(|authority| authority.as_str()).or_else(|| text(&head.headers, &header::HOST))
}

/// Refuses what a browser says comes from another site.
pub(super) fn from_here(headers: &HeaderMap, host: Option<&str>) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::BadRequest { field: None, message });
    if text(headers, &HeaderName::from_static("sec-fetch-site")) == Some("cross-site") {
        return refuse("found a request of another site's page, expected one of the appliance's own".to_owned());
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let own = origin.to_str().ok().and_then(|origin| Some(origin.split_once("://")?.1));
        if own.is_none() || !own.zip(host).is_some_and(|(own, host)| own.eq_ignore_ascii_case(host)) {
            return refuse(format!("found the origin {origin:?}, expected the appliance's own page"));
        }
    }
    Ok(())
}

/// Refuses what a form could send, which browsers let pass to any site.
fn is_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let kind = text(headers, &header::CONTENT_TYPE).unwrap_or("none");
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let message = format!("content-type: found {kind}, expected application/json");
        return Err(Refusal::Unsupported { message });
    }
    Ok(())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_appliances_own_page_and_programs_press() {
        let judge = |headers: &[(&'static str, &str)]| {
            let pairs = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
            let headers = pairs.collect();
            let judged = from_here(&headers, Some("cerebrum.local:7000")).and_then(|()| is_json(&headers));
            judged.map_err(|refusal| refusal.status().as_u16())
        };
        let json = ("content-type", "application/json; charset=utf-8");
        assert_eq!(judge(&[json]), Ok(()));
        assert_eq!(judge(&[json, ("origin", "http://cerebrum.local:7000"), ("sec-fetch-site", "same-origin")]), Ok(()));
        for foreign in ["http://evil.example", "null", "http://cerebrum.local:8000", "http://cerebrum.local"] {
            assert_eq!(judge(&[json, ("origin", foreign)]), Err(400), "{foreign}");
        }
        assert_eq!(judge(&[json, ("sec-fetch-site", "cross-site")]), Err(400));
        assert_eq!(judge(&[]), Err(415));
        assert_eq!(judge(&[("content-type", "text/plain")]), Err(415));
    }
}
