//! Bodies: reading one within its limits, getting rid of one that nobody wants, making answers.

use std::convert::Infallible;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use serde::Serialize;

use super::room::Room;
use super::{Limits, Refusal};
use crate::lifecycle::Tasks;

/// An answer's body. Failures travel in band: a stream that breaks says so in its own format.
pub type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// A body of known bytes.
pub fn full(bytes: impl Into<Bytes>) -> Answer {
    Full::new(bytes.into()).boxed_unsync()
}

/// No body.
pub fn empty() -> Answer {
    Empty::new().boxed_unsync()
}

/// A JSON answer.
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<Answer> {
    // Our own types have string keys and no failing implementations.
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(full(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Reads a whole body.
///
/// # Errors
/// [`Refusal::BodyTooLarge`] (before reading when the length is announced), [`Refusal::BodyTooSlow`],
/// [`Refusal::BodyBroken`].
pub async fn collect(body: &mut Incoming, limits: &Limits) -> Result<Bytes, Refusal> {
    collect_inside(body, limits, None).await
}

/// The same, as long as there is room for it.
pub(super) async fn collect_into(body: &mut Incoming, limits: &Limits, room: &mut Room) -> Result<Bytes, Refusal> {
    collect_inside(body, limits, Some(room)).await
}

async fn collect_inside(body: &mut Incoming, limits: &Limits, room: Option<&mut Room>) -> Result<Bytes, Refusal> {
    let (limit, announced) = (limits.body_bytes, body.size_hint().lower());
    if announced > limit as u64 {
        return Err(Refusal::BodyTooLarge { found: announced, limit });
    }
    if let Some(room) = &room {
        room.fits(announced)?;
    }
    tokio::time::timeout(limits.body, read(body, limit, room))
        .await
        .unwrap_or(Err(Refusal::BodyTooSlow { after: limits.body }))
}

async fn read(body: &mut Incoming, limit: usize, mut room: Option<&mut Room>) -> Result<Bytes, Refusal> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| Refusal::BodyBroken { reason: error.to_string() })?.into_data() else {
            continue; // trailers mean nothing here
        };
        let found = first.len() + rest.len() + data.len();
        if found > limit {
            return Err(Refusal::BodyTooLarge { found: found as u64, limit });
        }
        if let Some(room) = &mut room {
            room.take(data.len())?;
        }
        if first.is_empty() {
            first = data; // most prompts come in one piece and are never copied
        } else {
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { [&first[..], &rest[..]].concat().into() })
}

/// Most that is read of a body nobody wants, in bytes, and for how long: enough that a client which writes its whole
/// request before it reads gets to see why it was refused, instead of a reset connection.
const DISCARD_BYTES: u64 = 64 << 20;
const DISCARD: Duration = Duration::from_secs(2);

/// Reads and forgets the rest of `body` in the background, within bounds.
pub fn discard(mut body: Incoming, tasks: &Tasks) {
    if body.is_end_stream() {
        return;
    }
    tasks.spawn(async move {
        let drain = async {
            let mut seen = 0;
            while let Some(Ok(frame)) = body.frame().await {
                seen += frame.data_ref().map_or(0, |data| data.len() as u64);
                if seen > DISCARD_BYTES {
                    return;
                }
            }
        };
        tokio::time::timeout(DISCARD, drain).await.unwrap_or_default();
    });
}
