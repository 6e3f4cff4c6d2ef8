//! What every complete answer tells about itself, whole or streamed: why it ended, what it cost, what preparation did.

use cerebrum_common::wire::Completion;
use cerebrum_prompt::Report;
use serde::Serialize;

use super::prepare::Ready;

/// The part that both deliveries have in common.
#[derive(Serialize)]
pub(super) struct Account<'a> {
    finish_reason: &'static str,
    prompt_tokens: u32,
    cached_tokens: u32,
    prepared: PreparedReport,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<&'a str>,
}

impl<'a> Account<'a> {
    pub(super) fn new(ready: &'a Ready, completion: &'a Completion) -> Self {
        Self {
            finish_reason: completion.finish.as_str(),
            prompt_tokens: completion.usage.prompt_tokens,
            cached_tokens: completion.usage.cached_tokens,
            prepared: (&ready.report).into(),
            warnings: ready.call.warnings.iter().chain(&completion.warnings).map(String::as_str).collect(),
        }
    }
}

/// What preparation did, for the client.
#[derive(Serialize)]
struct PreparedReport {
    profile: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    marker: Option<&'static str>,
    original_chars: usize,
    final_chars: usize,
    chunks_total: usize,
    chunks_unique: usize,
    chunks_kept: usize,
}

impl From<&Report> for PreparedReport {
    fn from(report: &Report) -> Self {
        Self {
            profile: report.profile.as_str(),
            outcome: report.outcome.as_str(),
            marker: report.marker,
            original_chars: report.original_chars,
            final_chars: report.final_chars,
            chunks_total: report.chunks_total,
            chunks_unique: report.chunks_unique,
            chunks_kept: report.chunks_kept,
        }
    }
}
