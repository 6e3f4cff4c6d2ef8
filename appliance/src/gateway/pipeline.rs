//! The way of a request, and nothing else: authenticate, admit, prepare, route, forward, then stream or collect. Each
//! stage takes its predecessor's value, so that none can be left out or swapped; the record is open from the first line
//! and closes when the answer's body does.

use cerebrum_common::request_id::RequestId;
use cerebrum_common::serve::{Answer, Refusal, discard};
use http::{Request, Response};
use hyper::body::Incoming;

use super::{Gateway, admit, authenticate, forward, prepare, record, route, stream, whole};

/// How the client wants its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// As one JSON document.
    Whole,
    /// As server-sent events.
    Stream,
}

/// One completion, from the request to the answer.
pub(super) async fn complete(
    gateway: &Gateway,
    request: Request<Incoming>,
    id: RequestId,
    delivery: Delivery,
) -> Response<Answer> {
    let (head, mut body) = request.into_parts();
    let mut record = record::open(id, gateway);
    match answer(gateway, &head, &mut body, &mut record, delivery).await {
        Ok(response) => response,
        Err(refusal) => {
            record.refused(&refusal);
            discard(body, &gateway.tasks);
            refusal.response()
        }
    }
}

async fn answer(
    gateway: &Gateway,
    head: &http::request::Parts,
    body: &mut Incoming,
    record: &mut record::Record,
    delivery: Delivery,
) -> Result<Response<Answer>, Refusal> {
    let client = authenticate::authenticate(&gateway.keys, &head.headers)?;
    let admitted = admit::admit(&gateway.gate, client, record).await?;
    let prepared = prepare::prepare(gateway, admitted, body).await?;
    let routed = route::route(&gateway.upstreams, prepared)?;
    let upstream = forward::forward(gateway, routed, record).await?;
    Ok(match delivery {
        Delivery::Whole => whole::collect(upstream).await?,
        Delivery::Stream => stream::relay(gateway, upstream),
    })
}
