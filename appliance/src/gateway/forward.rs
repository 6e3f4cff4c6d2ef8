//! Sends a prepared request to its upstream, or to the next when that one cannot take it.
//!
//! Only before its first event does a request go to another upstream, and to each only once. To the same one it is repeated only
//! when the connection broke under it, and only within a budget: a server in trouble must not get twice the work.

use std::sync::Mutex;

use bytes::Bytes;
use cerebrum_common::request_id::RequestId;
use cerebrum_common::serve::Refusal;
use cerebrum_common::wire::Failure;
use http::Request;

use super::Gateway;
use super::answering::{FIRST_EVENT, Source, UpstreamStream};
use super::ask::{self, Asked};
use super::prepare::Prepared;
use super::record::Record;
use super::refused::{accept, is_worth_another, judge, link_failure};
use super::route::{self, Routed};
use crate::upstream::Upstream;
use crate::upstream::hold::Hold;
use crate::upstream::link::LinkError;
use crate::upstream::way::{self, Way};

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

/// Sends the request; the answer's first event decides whether it is one. An upstream that cannot take it, or fails before that,
/// is passed over for the next; each is asked once.
///
/// # Errors
/// What the first upstream refused, or how it could not be reached.
pub(super) async fn forward(
    gateway: &Gateway,
    mut routed: Routed,
    record: &mut Record,
) -> Result<UpstreamStream, Refusal> {
    gateway.retries.earn();
    let mut tried = Vec::new();
    let mut first: Option<Failure> = None;
    loop {
        tried.push(routed.upstream.index);
        let missed = match open(gateway, routed, record).await {
            Ok(stream) => return Ok(stream),
            Err(Unopened::Refused(refusal)) => return Err(refusal),
            Err(Unopened::Missed(missed)) => *missed,
        };
        let refusal = || Refusal::Failed(first.clone().unwrap_or_else(|| missed.failure.clone()));
        if !is_worth_another(missed.failure.code) {
            return Err(Refusal::Failed(missed.failure));
        }
        let Ok(next) = route::next(&gateway.upstreams, missed.prepared, &tried) else { return Err(refusal()) };
        tracing::info!(id = %record.id(), reason = missed.failure.for_log(), upstream = %next.upstream.name, "trying the next upstream");
        first.get_or_insert(missed.failure);
        routed = next;
    }
}

/// Why there is no answer.
enum Unopened {
    /// The request cannot be sent there.
    Refused(Refusal),
    /// The upstream did not take it, or failed before its first event; another one may.
    Missed(Box<Missed>),
}

/// A request that an upstream did not take.
struct Missed {
    prepared: Prepared,
    failure: Failure,
}

async fn open(gateway: &Gateway, routed: Routed, record: &mut Record) -> Result<UpstreamStream, Unopened> {
    let Routed { prepared, upstream, mut pass } = routed;
    let missed = match send(gateway, &prepared, &upstream, record).await {
        Ok(source) => UpstreamStream::new(gateway, prepared, pass, source, record).first(record).await,
        Err(Refusal::Failed(failure)) => {
            judge(failure.code, &mut pass);
            Err((prepared, failure))
        }
        Err(refusal) => return Err(Unopened::Refused(refusal)),
    };
    missed.map_err(|(prepared, failure)| Unopened::Missed(Box::new(Missed { prepared, failure })))
}

async fn send(
    gateway: &Gateway,
    prepared: &Prepared,
    upstream: &Upstream,
    record: &mut Record,
) -> Result<Source, Refusal> {
    record.sent(&upstream.name, &prepared.ready);
    let asked = ask::ask(upstream, &prepared.ready.call)?;
    match &upstream.way {
        Way::Frames(link) => held(gateway, upstream, asked, Hold::new(link.clone()), record.id()).await,
        Way::Service(_) => {
            let request = asked.request(upstream, record.id(), None)?;
            let body = soon(upstream.way.clone(), request, asked.reader.media_type()).await?;
            Ok(Source { body, reader: asked.reader, hold: None })
        }
    }
}

/// The answer of a server of ours, which holds it for when the connection breaks.
async fn held(
    gateway: &Gateway,
    upstream: &Upstream,
    asked: Asked,
    mut hold: Hold,
    id: RequestId,
) -> Result<Source, Refusal> {
    let mut repeats = 0;
    let response = loop {
        match upstream.way.send(asked.request(upstream, id, Some(&hold))?).await {
            Err(LinkError::Broke(error)) if may_repeat(gateway, &hold, repeats) => {
                repeats += 1;
                tracing::info!(%id, %error, "repeating a request whose connection broke before its answer");
            }
            response => break response,
        }
    };
    let response = response.map_err(|error| link_failure(&error))?;
    hold.answered(response.status(), response.headers());
    let body = accept(response, asked.reader.media_type()).await?;
    Ok(Source { body, reader: asked.reader, hold: Some(hold) })
}

/// The answer of a service, whose head may come with the first token only, minutes after a long prompt: then the client has had
/// its own head, and heartbeats, before it.
async fn soon(way: Way, request: Request<Bytes>, media_type: &'static str) -> Result<way::Body, Failure> {
    let coming = async move {
        let response = way.send(request).await.map_err(|error| link_failure(&error))?;
        accept(response, media_type).await
    };
    let mut coming = way::Coming::new(coming);
    match tokio::time::timeout(FIRST_EVENT, &mut coming).await {
        Ok(body) => body,
        Err(_) => Ok(way::Body::Coming(coming)),
    }
}

/// A server that holds answers does no work twice: a repeated request joins what it has begun.
fn may_repeat(gateway: &Gateway, hold: &Hold, repeats: u32) -> bool {
    if hold.is_usual() { repeats < REPEATS_HELD } else { repeats == 0 && gateway.retries.spend() }
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
