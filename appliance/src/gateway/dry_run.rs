//! `/v1/prepare`: what preparation would make of a request, and which model would answer it. Nothing is sent on, and no place
//! is taken.

use std::collections::BTreeMap;
use std::sync::Arc;

use cerebrum_common::serve::{Answer, Refusal, json};
use cerebrum_common::wire::dialect::Dialect;
use cerebrum_common::wire::json;
use cerebrum_prompt::{Profile, Stage};
use http::{Response, StatusCode};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use super::Gateway;
use super::prepare::Ready;

/// What may stand beside a completion's own fields.
#[derive(Deserialize)]
struct Wish {
    /// Another profile than the settings'.
    profile: Option<String>,
}

/// The account, with the prompt that would be sent.
#[derive(Serialize)]
struct Account<'a> {
    prompt: &'a str,
    model: &'a str,
    /// What decided about it.
    model_source: &'static str,
    max_tokens: u32,
    language: &'a str,
    language_source: String,
    profile: &'static str,
    outcome: &'static str,
    rule: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    marker: Option<&'static str>,
    /// Bytes of the original.
    #[serde(skip_serializing_if = "Option::is_none")]
    instruction: Option<[usize; 2]>,
    original_chars: usize,
    final_chars: usize,
    original_tokens: usize,
    final_tokens: usize,
    /// By the model's own vocabulary; otherwise they are estimated.
    tokens_counted: bool,
    chunks_total: usize,
    chunks_unique: usize,
    chunks_kept: usize,
    duplicate_lines: usize,
    saved_seconds: f32,
    /// Microseconds of each stage, by name; empty where the profile has none.
    stages_us: BTreeMap<&'static str, u64>,
    anchors: &'a [String],
    dropped: &'a [String],
    warnings: &'a [String],
}

/// Prepares and tells.
///
/// # Errors
/// Everything wrong with the body.
pub(super) async fn prepare(
    gateway: &Gateway,
    client: &Arc<str>,
    body: &mut Incoming,
) -> Result<Response<Answer>, Refusal> {
    let (bytes, _room) = gateway.bodies.collect(body).await?;
    let wish: Wish = json::parse(&bytes)?;
    let profile = wish.profile.as_deref().map(profile).transpose()?;
    let ready = gateway.preparation.run(Dialect::Native, bytes, profile, client).await?;
    Ok(json(StatusCode::OK, &account(&ready)))
}

fn profile(name: &str) -> Result<Profile, Refusal> {
    Profile::from_name(name).ok_or_else(|| Refusal::BadRequest {
        field: Some("profile".to_owned()),
        message: format!("profile: found {name:?}, expected \"off\", \"classic\" or \"smart\""),
    })
}

fn account(ready: &Ready) -> Account<'_> {
    let Ready { call, language, report, route, .. } = ready;
    Account {
        prompt: &call.request.prompt,
        model: &route.model,
        model_source: route.why.as_str(),
        max_tokens: call.request.max_tokens,
        language,
        language_source: format!("{:?}", report.language.source).to_lowercase(),
        profile: report.profile.as_str(),
        outcome: report.outcome.as_str(),
        rule: report.rule.as_str(),
        marker: report.marker,
        instruction: report.instruction.as_ref().map(|range| [range.start, range.end]),
        original_chars: report.original_chars,
        final_chars: report.final_chars,
        original_tokens: report.original_tokens,
        final_tokens: report.final_tokens,
        tokens_counted: ready.counted,
        chunks_total: report.chunks_total,
        chunks_unique: report.chunks_unique,
        chunks_kept: report.chunks_kept,
        duplicate_lines: report.duplicate_lines,
        saved_seconds: report.saved_s,
        stages_us: match report.profile {
            Profile::Smart => Stage::ALL.map(|stage| (stage.as_str(), report.stages_us[stage as usize])).into(),
            Profile::Off | Profile::Classic => BTreeMap::new(),
        },
        anchors: &report.anchors,
        dropped: &report.dropped,
        warnings: &call.warnings,
    }
}
