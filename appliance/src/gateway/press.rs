//! `/v1/board/press`: presses a button of the simulated board, which has no other way of being pressed.

use std::time::Duration;

use cerebrum_board::{Backend, Button};
use cerebrum_common::serve::{Answer, Refusal, collect, json};
use cerebrum_common::wire::json;
use http::{Response, StatusCode};
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
/// A board with real buttons: those are for a person's finger.
pub(super) async fn press(gateway: &Gateway, body: &mut Incoming) -> Result<Response<Answer>, Refusal> {
    let bytes = collect(body, &gateway.limits).await?;
    let Press { button, held_ms } = json::parse(&bytes)?;
    let panel = gateway.panel.as_ref().filter(|panel| panel.backend() == Backend::Sim);
    let Some(panel) = panel else {
        let message = "only a simulated board (backend = \"sim\") can be pressed from here".to_owned();
        return Err(Refusal::BadRequest { field: None, message });
    };
    let held = Duration::from_millis(held_ms.min(LONGEST));
    let buttons: &[Button] = match button {
        Which::First => &[Button::First],
        Which::Second => &[Button::Second],
        Which::Both => &[Button::First, Button::Second],
    };
    for button in buttons {
        panel.press(*button, held);
    }
    Ok(json(StatusCode::OK, &serde_json::json!({})))
}
