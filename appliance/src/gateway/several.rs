//! Several answers to one request (OpenAI's `n`): one after the other, in one place of the gate; from the second on the server
//! finds the prompt in its cache.

use cerebrum_common::serve::{Answer, Refusal};
use cerebrum_common::wire::Completion;
use cerebrum_common::wire::dialect::Collected;
use http::Response;

use super::answering::Origin;
use super::prepare::Prepared;
use super::record::Record;
use super::{Gateway, forward, route, whole};

/// All of them in one document.
///
/// # Errors
/// How any of them broke.
pub(super) async fn answer(
    gateway: &Gateway,
    prepared: Prepared,
    record: &mut Record,
) -> Result<Response<Answer>, Refusal> {
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
    let routed = route::route(&gateway.upstreams, prepared)?;
    let mut upstream = forward::forward(gateway, routed, record).await?;
    let answer = whole::collect(&mut upstream).await?;
    let origin = upstream.origin();
    Ok((upstream.prepared, origin, answer))
}
