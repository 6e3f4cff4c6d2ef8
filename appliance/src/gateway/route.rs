//! Which upstream: the first in order of priority whose breaker lets the request through, those known to be available
//! before those that are not.

use std::sync::Arc;
use std::time::Duration;

use cerebrum_common::serve::Refusal;
use cerebrum_common::wire::{Failure, FailureCode};

use super::prepare::Prepared;
use crate::upstream::{Pass, Upstream};

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
/// [`FailureCode::LinkLost`] as 503 with `Retry-After` when every breaker is open.
pub(super) fn route(upstreams: &[Arc<Upstream>], prepared: Prepared) -> Result<Routed, Refusal> {
    let mut shortest = Duration::MAX;
    let (up, down): (Vec<_>, Vec<_>) = upstreams.iter().partition(|upstream| upstream.link.is_up());
    for upstream in up.into_iter().chain(down) {
        match upstream.admit() {
            Ok(pass) => return Ok(Routed { prepared, upstream: upstream.clone(), pass }),
            Err(wait) => shortest = shortest.min(wait),
        }
    }
    Err(unavailable(shortest))
}

fn unavailable(wait: Duration) -> Refusal {
    Refusal::Failed(Failure {
        code: FailureCode::Overloaded,
        message: format!(
            "no inference server takes requests now: it failed, and the next attempt is in {:.1} s (see /health, and its log)",
            wait.as_secs_f64()
        ),
        retry_after_ms: Some(u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)),
    })
}
