//! Sends a prepared request to its upstream, or to the next when that one cannot take it.
//!
//! A request is repeated only before its first event, only when the connection broke under it or the upstream was full, and
//! only within a budget: servers in trouble must not get twice the work.

use std::sync::Mutex;

use cerebrum_common::serve::Refusal;
use cerebrum_common::wire::{Failure, FailureCode};

use super::Gateway;
use super::answering::{Source, UpstreamStream};
use super::ask::{self, Asked};
use super::prepare::Prepared;
use super::record::Record;
use super::refused::{accept, link_failure};
use super::route::{self, Routed};
use crate::upstream::hold::Hold;
use crate::upstream::link::LinkError;
use crate::upstream::way::Way;
use crate::upstream::{Pass, Upstream};

/// Repeats are at most this share of requests, saved up to that many.
const RETRY_SHARE: f64 = 0.1;
const RETRY_SAVED: f64 = 10.0;

/// Leave to repeat requests, earned by sending them.
#[derive(Debug)]
pub(super) struct RetryBudget(Mutex<f64>);

impl Default for RetryBudget {
    fn default() -> Self {
        Self(Mutex::new(1.0))
    }
}

impl RetryBudget {
    fn earn(&self) {
        let mut saved = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *saved = (*saved + RETRY_SHARE).min(RETRY_SAVED);
    }

    fn spend(&self) -> bool {
        let mut saved = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let enough = *saved >= 1.0;
        if enough {
            *saved -= 1.0;
        }
        enough
    }
}

/// Sends the request; the answer's first event decides whether it is one. An upstream that cannot take it is passed over for
/// the next.
///
/// # Errors
/// What the last upstream refused, or how it could not be reached.
pub(super) async fn forward(
    gateway: &Gateway,
    mut routed: Routed,
    record: &mut Record,
) -> Result<UpstreamStream, Refusal> {
    gateway.retries.earn();
    let mut tried = Vec::new();
    loop {
        tried.push(routed.upstream.index);
        let missed = match open(gateway, routed, record).await {
            Ok(mut stream) => {
                stream.first().await?;
                return Ok(stream);
            }
            Err(missed) => *missed,
        };
        if !missed.elsewhere {
            return Err(missed.refusal);
        }
        let Ok(next) = route::next(&gateway.upstreams, missed.prepared, &tried) else { return Err(missed.refusal) };
        if !gateway.retries.spend() {
            return Err(missed.refusal);
        }
        tracing::info!(id = %record.id(), reason = missed.refusal.for_log(), upstream = %next.upstream.name, "trying the next upstream");
        routed = next;
    }
}

/// A request that an upstream did not take.
struct Missed {
    prepared: Prepared,
    refusal: Refusal,
    /// Another upstream may do better.
    elsewhere: bool,
}

async fn open(gateway: &Gateway, routed: Routed, record: &mut Record) -> Result<UpstreamStream, Box<Missed>> {
    let Routed { prepared, upstream, mut pass } = routed;
    match send(gateway, &prepared, &upstream, &mut pass, record).await {
        Ok(source) => Ok(UpstreamStream::new(gateway, prepared, pass, source, record)),
        Err(refusal) => {
            let elsewhere = matches!(
                &refusal,
                Refusal::Failed(Failure {
                    code: FailureCode::LinkLost
                        | FailureCode::Stopping
                        | FailureCode::Busy
                        | FailureCode::Overloaded
                        | FailureCode::UnknownModel,
                    ..
                })
            );
            Err(Box::new(Missed { prepared, refusal, elsewhere }))
        }
    }
}

async fn send(
    gateway: &Gateway,
    prepared: &Prepared,
    upstream: &Upstream,
    pass: &mut Pass,
    record: &mut Record,
) -> Result<Source, Refusal> {
    let call = &prepared.ready.call;
    record.sent(&upstream.name, &prepared.ready);
    let Asked { path, media_type, bytes, reader } = ask::ask(upstream, call)?;
    let mut hold = match &upstream.way {
        Way::Frames(link) => Some(Hold::new(link.clone())),
        Way::Service(_) => None,
    };
    let request = || ask::request(upstream, path, media_type, bytes.clone(), record.id(), hold.as_ref());
    let mut repeats = 0;
    let response = loop {
        match upstream.way.send(request()?).await {
            Err(LinkError::Broke(error)) if may_repeat(gateway, hold.as_ref(), repeats) => {
                repeats += 1;
                tracing::info!(id = %record.id(), %error, "repeating a request whose connection broke before its answer");
            }
            response => break response,
        }
    };
    let response = response.map_err(|error| {
        if !matches!(error, LinkError::Leaving) {
            pass.failed();
        }
        link_failure(&error)
    })?;
    if let Some(hold) = &mut hold {
        hold.answered(response.status(), response.headers());
    }
    let body = accept(response, reader.media_type(), pass).await?;
    Ok(Source { body, reader, hold })
}

/// A server that holds answers does no work twice: a repeated request joins what it has begun.
fn may_repeat(gateway: &Gateway, hold: Option<&Hold>, repeats: u32) -> bool {
    match hold {
        Some(hold) if hold.is_usual() => repeats < REPEATS_HELD,
        _ => repeats == 0 && gateway.retries.spend(),
    }
}

/// Each waits for a connection.
const REPEATS_HELD: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_a_share_of_requests() {
        let budget = RetryBudget::default();
        assert!(budget.spend() && !budget.spend());
        for _ in 0..10 {
            budget.earn();
        }
        assert!(
            budget.spend() || {
                budget.earn();
                budget.spend()
            }
        );
        for _ in 0..1000 {
            budget.earn();
        }
        assert_eq!((0..1000).filter(|_| budget.spend()).count(), 10);
    }
}
