//! Several answers to one request (OpenAI's `n`): one after the other, in one place of the gate; from the second on the server
//! finds the prompt in its cache.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use cerebrum_common::serve::{Answer, Refusal};
use cerebrum_common::wire::dialect::Collected;
use cerebrum_common::wire::{Completion, Failure};
use http::Response;

use super::answering::{Origin, UpstreamStream};
use super::prepare::Prepared;
use super::record::Record;
use super::{Gateway, forward, route, stream, whole};

/// All of them, as the client wants them.
///
/// # Errors
/// How the first of a stream, or any of a document, broke.
pub(super) async fn answer(
    gateway: &Gateway,
    prepared: Prepared,
    record: &mut Record,
) -> Result<Response<Answer>, Refusal> {
    if prepared.ready.call.reply.stream {
        // A gateway that answers is there.
        let me = gateway.me.upgrade().ok_or(Refusal::Stopping)?;
        let mut own = record.share(false);
        let first = open(gateway, prepared.numbered(0), &mut own).await?;
        let rest = Rest { gateway: me, prepared, record: record.take(), begun: 1, opening: None };
        return Ok(stream::relay(gateway, first, Some(rest)));
    }
    let (choices, id) = (prepared.ready.call.reply.choices, record.id());
    let mut answers = Vec::new();
    let mut origin = Origin { source: "vps", cached: false };
    for number in 0..choices {
        let mut own = record.share(number + 1 == choices);
        let (_, own_origin, answer) = one(gateway, prepared.numbered(number), &mut own).await?;
        origin = own_origin;
        answers.push(answer);
    }
    Ok(whole::document(id, &prepared.ready, origin, &answers))
}

/// One answer to its end, with what was sent for it.
///
/// # Errors
/// No upstream takes it, or how it broke.
pub(super) async fn one(
    gateway: &Gateway,
    prepared: Prepared,
    record: &mut Record,
) -> Result<(Prepared, Origin, (Collected, Completion)), Refusal> {
    let mut upstream = open(gateway, prepared, record).await?;
    let answer = whole::collect(&mut upstream).await?;
    let origin = upstream.origin();
    Ok((upstream.prepared, origin, answer))
}

async fn open(gateway: &Gateway, prepared: Prepared, record: &mut Record) -> Result<UpstreamStream, Refusal> {
    let opening = async { forward::forward(gateway, route::route(&gateway.upstreams, prepared)?, record).await };
    let opened = opening.await;
    if let Err(refusal) = &opened {
        record.refused(refusal);
    }
    opened
}

type Opening = Pin<Box<dyn Future<Output = Result<UpstreamStream, Refusal>> + Send>>;

/// The answers of a stream that are still to come.
pub(super) struct Rest {
    gateway: Arc<Gateway>,
    prepared: Prepared,
    /// Of those that have not begun.
    record: Record,
    begun: u32,
    opening: Option<Opening>,
}

impl Rest {
    /// The next answer, once its upstream has taken it; `None` after the last.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<UpstreamStream, Refusal>>> {
        if self.opening.is_none() {
            let choices = self.prepared.ready.call.reply.choices;
            if self.begun == choices {
                return Poll::Ready(None);
            }
            let (gateway, prepared) = (self.gateway.clone(), self.prepared.numbered(self.begun));
            self.begun += 1;
            let mut own = self.record.share(self.begun == choices);
            self.opening = Some(Box::pin(async move { open(&gateway, prepared, &mut own).await }));
        }
        let Some(opening) = &mut self.opening else { return Poll::Ready(None) };
        let opened = ready!(opening.as_mut().poll(cx));
        self.opening = None;
        Poll::Ready(Some(opened))
    }

    /// There will be no more of them.
    pub(super) fn fail(mut self, failure: &Failure) {
        self.record.failed(failure);
    }
}
