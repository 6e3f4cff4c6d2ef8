//! Which upstream: the first in order of priority whose breaker lets the request through, those known to be available
//! before those that are not.

use std::sync::Arc;
use std::time::Duration;

use cerebrum_common::serve::Refusal;
use cerebrum_common::wire::{Failure, FailureCode};

use super::prepare::Prepared;
use crate::upstream::{Pass, Upstream, spread};

/// A request with somewhere to go.
#[derive(Debug)]
pub(super) struct Routed {
    pub(super) prepared: Prepared,
    pub(super) upstream: Arc<Upstream>,
    pub(super) pass: Pass,
}

/// Chooses the upstream.
///
/// # Errors
/// As [`next`].
pub(super) fn route(upstreams: &[Arc<Upstream>], prepared: Prepared) -> Result<Routed, Refusal> {
    next(upstreams, prepared, &[]).map_err(|refused| refused.1)
}

/// Chooses an upstream other than those `tried`.
///
/// # Errors
/// The request back, with [`FailureCode::UnknownModel`] when no upstream serves its model, or [`FailureCode::Overloaded`] with
/// `Retry-After` when every breaker is open.
pub(super) fn next(
    upstreams: &[Arc<Upstream>],
    prepared: Prepared,
    tried: &[usize],
) -> Result<Routed, Box<(Prepared, Refusal)>> {
    let mut shortest = Duration::MAX;
    let model = &prepared.ready.call.request.model;
    let upstreams = spread::in_turn(upstreams);
    let serving = upstreams.iter().filter(|upstream| upstream.model(model).is_some());
    let (mut up, down): (Vec<_>, Vec<_>) = serving.partition(|upstream| upstream.way.is_up());
    // Among equals, the one whose cache has the conversation.
    let had = prepared.ready.turn.as_ref().and_then(|turn| turn.before()?.upstream);
    if let Some(at) = up.iter().position(|upstream| Some(upstream.index) == had)
        && spread::rank(up[at]) == spread::rank(up[0])
    {
        up[..=at].rotate_right(1);
    }
    if up.is_empty() && down.is_empty() {
        let refusal = unknown(model);
        return Err(Box::new((prepared, refusal)));
    }
    for upstream in up.into_iter().chain(down).filter(|upstream| !tried.contains(&upstream.index)) {
        match upstream.admit() {
            Ok(pass) => return Ok(Routed { prepared, upstream: upstream.clone(), pass }),
            Err(wait) => shortest = shortest.min(wait),
        }
    }
    Err(Box::new((prepared, unavailable(shortest))))
}

/// The upstream that will probably get a request for `model`.
pub(super) fn likely<'u>(upstreams: &'u [Arc<Upstream>], model: &str) -> Option<&'u Arc<Upstream>> {
    let serving = || upstreams.iter().filter(|upstream| upstream.model(model).is_some());
    serving().find(|upstream| upstream.way.is_up()).or_else(|| serving().next())
}

pub(super) fn unknown(model: &str) -> Refusal {
    let message = format!("model: found {model:?}, which no upstream serves (see [[upstream]] models in the settings)");
    Refusal::Failed(Failure { code: FailureCode::UnknownModel, message, retry_after_ms: None })
}

pub(super) fn unavailable(wait: Duration) -> Refusal {
    Refusal::Failed(Failure {
        code: FailureCode::Overloaded,
        message: format!(
            "no inference server takes requests now: it failed, and the next attempt is in {:.1} s (see /health, and its log)",
            wait.as_secs_f64()
        ),
        retry_after_ms: Some(u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)),
    })
}
