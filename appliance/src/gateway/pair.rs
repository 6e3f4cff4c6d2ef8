//! `/v1/pair`: a client without a key asks for one; `/v1/pair/{id}`: it fetches what a person at the board decided.

use std::net::IpAddr;
use std::time::Duration;

use cerebrum_common::keys::Secret;
use cerebrum_common::serve::{Answer, Limits, Refusal, collect, json};
use cerebrum_common::wire::json;
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Gateway, press};
use crate::pairing::{Begun, DECIDE, Standing, TooMany};

/// The header that fetches the key.
const CLAIM: &str = "x-pairing-claim";

/// Largest question, in bytes: a name.
const ASK_BYTES: usize = 4 << 10;

/// How long one question waits for a decision.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
struct Ask {
    #[serde(default)]
    name: String,
}

#[derive(Serialize)]
struct Answered<'a> {
    id: u64,
    code: &'a str,
    claim: &'a str,
    expires_in_seconds: u64,
}

#[derive(Serialize)]
struct Decision<'a> {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

/// A client asks.
///
/// # Errors
/// Where nobody could decide, and when there are too many attempts.
pub(super) async fn begin(
    gateway: &Gateway,
    head: &Parts,
    body: &mut Incoming,
    from: IpAddr,
) -> Result<Response<Answer>, Refusal> {
    // No web page is to make codes appear on the panel.
    press::from_here(&head.headers, press::host(head))?;
    // Nobody has shown a key yet.
    let limits = Limits { body_bytes: ASK_BYTES, ..*gateway.bodies.limits() };
    let bytes = collect(body, &limits).await?;
    let ask: Ask = json::parse(&bytes)?;
    let Some(panel) = &gateway.panel else {
        return Err(Refusal::BadRequest {
            field: None,
            message: "this appliance has no board to decide at: make a key there with `cerebrum key add NAME`".into(),
        });
    };
    if gateway.keys.count().is_none() {
        return Err(Refusal::BadRequest {
            field: None,
            message: "this appliance asks nobody for a key (auth = \"open\"): connect without one".into(),
        });
    }
    if let Some(sentence) = undecidable(&panel.shown().missing) {
        return Err(Refusal::BadRequest { field: None, message: sentence });
    }
    let begun = gateway.pairing.attempts().begin(&ask.name, from, Instant::now());
    let Begun { id, code, claim } = begun.map_err(refusal)?;
    tracing::info!(id, %from, "a client asks for a key");
    let answer = Answered { id, code: &code, claim: &claim, expires_in_seconds: DECIDE.as_secs() };
    Ok(json(StatusCode::CREATED, &answer))
}

/// Why nobody can see the code or press, where that is so.
fn undecidable(missing: &[&str]) -> Option<String> {
    let missing: Vec<&str> = missing.iter().copied().filter(|part| *part != "lamps").collect();
    (!missing.is_empty()).then(|| {
        format!(
            "the appliance's {} cannot be reached, and without nobody can decide: see to the wiring, or make a key there with \
             `cerebrum key add NAME`",
            missing.join(" and ")
        )
    })
}

fn refusal(error: TooMany) -> Refusal {
    let (message, retry_after) = match error {
        TooMany::Another(wait) => ("another client is being paired; try again when it is done", wait),
        TooMany::JustNow(wait) => ("another client was paired or refused just now; try again in a moment", wait),
        TooMany::Lately(wait) => ("too many attempts to pair lately; try again later", wait),
    };
    Refusal::TooMany { message, retry_after }
}

/// A client waits for the decision.
///
/// # Errors
/// An attempt that is not known, or another's.
pub(super) async fn wait(gateway: &Gateway, headers: &HeaderMap, path: &str) -> Result<Response<Answer>, Refusal> {
    let id = path.rsplit('/').next().and_then(|id| id.parse().ok()).unwrap_or_default();
    let claim = headers.get(CLAIM).and_then(|claim| claim.to_str().ok()).unwrap_or_default();
    let unknown = || Refusal::NotFound { path: format!("an attempt to pair with this {CLAIM}: ask anew") };
    let standing = gateway.pairing.wait(id, claim, PATIENCE).await.ok_or_else(unknown)?;
    let (state, key) = match standing {
        Standing::Waiting => ("waiting", None),
        Standing::Allowed(client) => match grant(gateway, client).await {
            Some(key) => ("granted", Some(key)),
            None => ("failed", None),
        },
        Standing::Refused => ("refused", None),
        Standing::Expired => ("expired", None),
    };
    Ok(json(StatusCode::OK, &Decision { state, key: key.as_ref().map(Secret::expose) }))
}

/// Makes the key now that its client is there to take it; away from requests, since it waits for the disk.
async fn grant(gateway: &Gateway, client: String) -> Option<Secret> {
    let keys = gateway.keys.clone();
    let granted = tokio::task::spawn_blocking(move || keys.grant(&client)).await;
    let error = match granted {
        Ok(Some(Ok(key))) => return Some(key),
        Ok(Some(Err(error))) => error.to_string(),
        Ok(None) => "no file of keys is named".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::error!(%error, "no key could be made for a client that was allowed one");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_unless_it_does_not_matter() {
        assert_eq!(undecidable(&[]).or(undecidable(&["lamps"])), None);
        let sentence = undecidable(&["panel", "lamps", "buttons"]).unwrap();
        assert!(sentence.starts_with("the appliance's panel and buttons cannot be reached"), "{sentence}");
    }
}
