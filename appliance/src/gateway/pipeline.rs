//! The way of a request, and nothing else: authenticate, admit, prepare, route, forward, then stream or collect. Each
//! stage takes its predecessor's value, so that none can be left out or swapped; the record is open from the first line
//! and closes when the answer's body does.

use bytes::Bytes;
use cerebrum_common::lifecycle::Tasks;
use cerebrum_common::request_id::RequestId;
use cerebrum_common::serve::{Answer, Bodies, Refusal, Room, discard};
use cerebrum_common::wire::details::Urgency;
use cerebrum_common::wire::dialect::Dialect;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;

use super::answering::UpstreamStream;
use super::places::Rank;
use super::{Gateway, admit, authenticate, batch, forward, kept, prepare, record, route, several, stream, whole};

/// A request's body.
pub(super) enum Body {
    /// It may still be on its way.
    Coming(Incoming),
    /// It had to be read before anything else.
    Read(Bytes, Room),
    /// It has been read, and taken.
    Taken,
}

impl Body {
    /// All of it, within the limits.
    ///
    /// # Errors
    /// As [`Bodies::collect`].
    pub(super) async fn collect(&mut self, bodies: &Bodies) -> Result<(Bytes, Room), Refusal> {
        if let Self::Coming(body) = self {
            return bodies.collect(body).await;
        }
        match std::mem::replace(self, Self::Taken) {
            Self::Read(bytes, room) => Ok((bytes, room)),
            Self::Coming(_) | Self::Taken => Err(Refusal::BodyBroken { reason: "it was read before".to_owned() }),
        }
    }

    fn discard(self, tasks: &Tasks) {
        if let Self::Coming(body) = self {
            discard(body, tasks);
        }
    }
}

/// How the client wants its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// As one JSON document.
    Whole,
    /// As server-sent events.
    Stream,
    /// Several in one call, in one JSON document.
    Batch,
    /// As the body says, in the words of other people's clients.
    Asked(Dialect),
}

impl Delivery {
    /// Whose words request and answer are in.
    pub(super) fn dialect(self) -> Dialect {
        match self {
            Self::Whole | Self::Stream | Self::Batch => Dialect::Native,
            Self::Asked(dialect) => dialect,
        }
    }

    /// Who goes first where several wait.
    fn rank(self) -> Rank {
        match self {
            Self::Asked(Dialect::Infill) => Rank::Typing,
            Self::Whole | Self::Stream | Self::Asked(_) => Rank::Reading,
            Self::Batch => Rank::Batch,
        }
    }
}

/// One completion, from the request to the answer.
pub(super) async fn complete(
    gateway: &Gateway,
    request: Request<Incoming>,
    id: RequestId,
    delivery: Delivery,
) -> Response<Answer> {
    let (head, body) = request.into_parts();
    let body = Body::Coming(body);
    match kept::asked(&gateway.kept, &head.headers, id) {
        Ok(None) => answered(gateway, head, body, id, delivery).await,
        Ok(Some(name)) => {
            let kept = kept::complete(gateway, head, body, id, (delivery, name)).await;
            kept.unwrap_or_else(|refusal| refusal.response_in(delivery.dialect()))
        }
        Err(refusal) => {
            body.discard(&gateway.tasks);
            refusal.response_in(delivery.dialect())
        }
    }
}

/// The same, whether or not the answer is kept.
pub(super) async fn answered(
    gateway: &Gateway,
    head: Parts,
    mut body: Body,
    id: RequestId,
    delivery: Delivery,
) -> Response<Answer> {
    let mut record = record::open(id, gateway, delivery);
    match answer(gateway, &head, &mut body, &mut record, delivery).await {
        Ok(response) => response,
        Err(refusal) => {
            record.refused(&refusal);
            body.discard(&gateway.tasks);
            refusal.response_in(delivery.dialect())
        }
    }
}

async fn answer(
    gateway: &Gateway,
    head: &Parts,
    body: &mut Body,
    record: &mut record::Record,
    delivery: Delivery,
) -> Result<Response<Answer>, Refusal> {
    let client = authenticate::authenticate(&gateway.keys, &head.headers)?;
    let admitted = admit::admit(&gateway.gate, client, delivery.rank(), record).await?;
    if delivery == Delivery::Batch {
        return Box::pin(batch::answer(gateway, admitted, body, record)).await;
    }
    let mut prepared = prepare::prepare(gateway, admitted, delivery, body).await?;
    if prepared.ready.call.details.urgency == Urgency::WarmUp {
        prepared.permit.gives_way(record.id().as_u128());
    }
    if prepared.ready.call.reply.choices > 1 {
        prepared.permit.is_several(prepared.ready.call.reply.choices as usize);
        return Box::pin(several::answer(gateway, prepared, record)).await;
    }
    prepared.remember = gateway.cache.key(&prepared.ready.call, &gateway.upstreams);
    let remembered = prepared
        .remember
        .and_then(|key| gateway.cache.find(&key, &prepared.ready.call.request.model, &gateway.upstreams));
    let upstream = match remembered {
        Some(answer) => UpstreamStream::remembered(gateway, prepared, &answer, record),
        None => {
            let routed = route::route(&gateway.upstreams, prepared)?;
            forward::forward(gateway, routed, record).await?
        }
    };
    let cached = upstream.origin().cached;
    let mut response = match upstream.prepared.ready.call.reply.stream {
        true => stream::relay(gateway, upstream, None),
        false => whole::answer(upstream).await?,
    };
    if cached {
        response.headers_mut().insert(CACHE, HeaderValue::from_static("hit"));
    }
    Ok(response)
}

/// Marks an answer that was given before.
const CACHE: HeaderName = HeaderName::from_static("x-cerebrum-cache");
