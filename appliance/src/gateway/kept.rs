//! Answers that outlive their client's connection, for clients that ask for it: by an `Idempotency-Key`, under which a repeated
//! request joins the answer or has it replayed, or by `X-Cerebrum-Resume: true`, under the request's id.
//!
//! Such an answer is written by a task of its own into a bounded log; events of a stream carry their number as `id`, and
//! `Last-Event-ID` says which have arrived. Nobody reaches another key's answers. What was refused, or broke, is not kept: a
//! repetition tries again.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use cerebrum_common::event_log::{Entered, EventLog, Kept, Missed, Reader, Retention, Shelf, Writer};
use cerebrum_common::keys::Client;
use cerebrum_common::request_id::RequestId;
use cerebrum_common::serve::{Answer, Refusal, empty};
use cerebrum_common::wire::sse;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::pipeline::{self, Body, Delivery};
use super::stream::Broken;
use super::{Gateway, authenticate};

/// A minute; 4 MiB are 10,000 tokens in OpenAI's words with room for as many that nobody has read, and what is longer loses its
/// beginning once that has been read; eight such answers.
pub const RETENTION: Retention =
    Retention { time: Duration::from_secs(60), answer_bytes: 4 << 20, all_bytes: 32 << 20 };

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const RESUME: HeaderName = HeaderName::from_static("x-cerebrum-resume");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Longest key, in bytes.
const KEY_BYTES: usize = 255;

/// Bytes of events that go out together.
const BATCH_BYTES: usize = 8 << 10;

/// The answers that are kept.
#[derive(Debug)]
pub(super) struct KeptAnswers {
    settings: Retention,
    shelf: Shelf<(Client, String), KeptAnswer>,
}

#[derive(Debug)]
struct KeptAnswer {
    log: Arc<EventLog>,
    /// Of what was asked for.
    fingerprint: [u8; 32],
    head: watch::Sender<Head>,
}

impl Kept for KeptAnswer {
    fn log(&self) -> &EventLog {
        &self.log
    }
}

#[derive(Clone, Debug)]
enum Head {
    Awaited,
    Known(StatusCode, HeaderMap),
    /// There will be none: the appliance is being stopped, or the answer was cancelled.
    Lost,
}

impl KeptAnswers {
    pub(super) fn new(settings: Retention) -> Self {
        Self { settings, shelf: Shelf::new(settings.places()) }
    }
}

/// The name under which a request asks its answer to be kept; `None` when it does not ask, or nothing is kept here.
///
/// # Errors
/// A key that is none.
pub(super) fn asked(kept: &KeptAnswers, headers: &HeaderMap, id: RequestId) -> Result<Option<String>, Refusal> {
    Ok(name(headers, id)?.filter(|_| kept.settings.places() > 0))
}

fn name(headers: &HeaderMap, id: RequestId) -> Result<Option<String>, Refusal> {
    if let Some(key) = headers.get(IDEMPOTENCY_KEY) {
        let text = key.to_str().ok().filter(|text| (1..=KEY_BYTES).contains(&text.len()));
        let wrong =
            || bad("idempotency-key", &format!("found {key:?}, expected 1 to {KEY_BYTES} visible ASCII characters"));
        return text.map(|text| Some(text.to_owned())).ok_or_else(wrong);
    }
    let asks = headers.get(RESUME).is_some_and(|value| value == "true" || value == "1");
    Ok(asks.then(|| id.to_string()))
}

fn bad(field: &str, sentence: &str) -> Refusal {
    Refusal::BadRequest { field: Some(field.to_owned()), message: format!("{field}: {sentence}") }
}

/// A completion that is kept under `name`, begun or joined.
///
/// # Errors
/// Whatever is wrong before the answer begins.
pub(super) async fn complete(
    gateway: &Gateway,
    head: Parts,
    mut body: Body,
    id: RequestId,
    (delivery, name): (Delivery, String),
) -> Result<Response<Answer>, Refusal> {
    let client = authenticate::authenticate(&gateway.keys, &head.headers)?;
    let (bytes, room) = body.collect(&gateway.bodies).await?;
    let fingerprint =
        Sha256::new().chain_update(head.uri.path()).chain_update([0]).chain_update(&bytes).finalize().into();
    let from = last_event(&head.headers)?;
    let mut writer = None;
    let entered = gateway.kept.shelf.enter((client, name), || {
        let (log, new) = EventLog::new(gateway.kept.settings.answer_bytes);
        writer = Some(new);
        KeptAnswer { log, fingerprint, head: watch::Sender::new(Head::Awaited) }
    });
    match (entered, writer, gateway.me.upgrade()) {
        (Entered::Found(kept), ..) if kept.fingerprint != fingerprint => Err(Refusal::Reused),
        (Entered::Found(kept), ..) => read(&kept, from, true).await,
        (Entered::New(kept), ..) if from > 0 => {
            gateway.kept.shelf.remove(&kept);
            let sentence =
                format!("found {from}, but no answer is kept under this key any more; ask without it to begin anew");
            Err(bad("last-event-id", &sentence))
        }
        (Entered::New(kept), Some(writer), Some(own)) => {
            let reader = read(&kept, from, false);
            let produced = produce(own, head, (Body::Read(bytes, room), id, delivery), kept.clone(), writer);
            gateway.tasks.spawn(produced);
            reader.await
        }
        _ => Err(Refusal::Busy { who: "answers that are kept", retry_after: Duration::from_secs(5) }),
    }
}

fn last_event(headers: &HeaderMap) -> Result<u64, Refusal> {
    let Some(value) = headers.get(LAST_EVENT) else { return Ok(0) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| bad("last-event-id", &format!("found {value:?}, expected the id of an event of this answer")))
}

/// Writes the answer to its end, or until nobody has wanted it for its time.
async fn produce(
    gateway: Arc<Gateway>,
    head: Parts,
    (body, id, delivery): (Body, RequestId, Delivery),
    kept: Arc<KeptAnswer>,
    writer: Writer,
) {
    let KeptAnswers { settings, shelf } = &gateway.kept;
    let unwanted = async {
        tokio::select! {
            () = kept.log.abandoned(settings.time) => {}
            // Nobody can come back to an appliance that is being stopped.
            () = async { gateway.tasks.stopping().await; kept.log.abandoned(Duration::ZERO).await } => {}
        }
    };
    let writing = async {
        let response = pipeline::answered(&gateway, head, body, id, delivery).await;
        write(response, &kept, &writer).await
    };
    let sound = tokio::select! {
        sound = writing => sound,
        () = unwanted => false,
    };
    kept.head.send_if_modified(|head| {
        matches!(head, Head::Awaited) && {
            *head = Head::Lost;
            true
        }
    });
    drop(writer);
    if sound {
        gateway.tasks.until_stopping(kept.log.abandoned(settings.time)).await;
    }
    shelf.remove(&kept);
}

/// Writes an answer into its log; true when a repeated request shall have it, too.
async fn write(response: Response<Answer>, kept: &KeptAnswer, writer: &Writer) -> bool {
    let (head, mut body) = response.into_parts();
    let broken = Broken::of(&head.extensions);
    let events = is_stream(&head.headers);
    kept.head.send_replace(Head::Known(head.status, head.headers));
    loop {
        writer.room().await;
        let Some(Ok(frame)) = body.frame().await else { return head.status.is_success() && !broken.is_broken() };
        let Ok(data) = frame.into_data() else { continue };
        match events {
            true => each_event(&data, writer),
            false => writer.push(data),
        }
    }
}

fn is_stream(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == sse::MEDIA_TYPE)
}

/// Numbers the events; comments only count while they pass.
fn each_event(mut data: &[u8], writer: &Writer) {
    while let Some(end) = data.windows(2).position(|pair| pair == b"\n\n") {
        let (event, rest) = data.split_at(end + 2);
        data = rest;
        if event.first() == Some(&b':') {
            writer.pass(Bytes::copy_from_slice(event));
        } else {
            let mut numbered = BytesMut::with_capacity(event.len() + 16);
            numbered.put_slice(format!("id: {}\n", writer.next() + 1).as_bytes());
            numbered.put_slice(event);
            writer.push(numbered.freeze());
        }
    }
}

/// The answer from an event on; its head comes when it is known.
async fn read(kept: &Arc<KeptAnswer>, from: u64, replayed: bool) -> Result<Response<Answer>, Refusal> {
    let missed = |missed: Missed| bad("last-event-id", &missed.to_string());
    // Before anything is waited for: from now on somebody wants it.
    let reader = kept.log.read(from).map_err(missed)?;
    let mut head = kept.head.subscribe();
    let known = head.wait_for(|head| !matches!(head, Head::Awaited)).await.map(|head| head.clone());
    let Ok(Head::Known(status, headers)) = known else { return Err(Refusal::Stopping) };
    // Only events have ids: of a document there is nothing to leave out.
    let reader = if is_stream(&headers) { reader } else { kept.log.read(0).map_err(missed)? };
    let mut response = Response::new(Replay(reader).boxed_unsync());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The rest of a kept answer.
///
/// # Errors
/// None is kept under that name, or not from there on.
pub(super) async fn resume(gateway: &Gateway, headers: &HeaderMap, path: &str) -> Result<Response<Answer>, Refusal> {
    let kept = named(gateway, headers, path)?;
    read(&kept, last_event(headers)?, true).await
}

/// Nobody wants a kept answer any more.
///
/// # Errors
/// None is kept under that name.
pub(super) fn cancel(gateway: &Gateway, headers: &HeaderMap, path: &str) -> Result<Response<Answer>, Refusal> {
    let kept = named(gateway, headers, path)?;
    kept.log.cancel();
    gateway.kept.shelf.remove(&kept);
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn named(gateway: &Gateway, headers: &HeaderMap, path: &str) -> Result<Arc<KeptAnswer>, Refusal> {
    let client = authenticate::authenticate(&gateway.keys, headers)?;
    let coded = path.split_once("/answers/").map_or("", |(_, name)| name);
    let name = percent_decode_str(coded).decode_utf8_lossy().into_owned();
    let lost = || Refusal::NotFound { path: format!("{path}: no answer of this name is kept (any more)") };
    gateway.kept.shelf.find(&(client, name.clone())).ok_or_else(lost)
}

/// One connection's view of a kept answer.
struct Replay(Reader);

impl http_body::Body for Replay {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.0.poll_next(cx, BATCH_BYTES).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_are_numbered_and_comments_are_not_kept() {
        let (log, writer) = EventLog::new(1000);
        each_event(b": heartbeat\n\ndata: a\n\nevent: x\ndata: b\n\n", &writer);
        drop(writer);
        let mut reader = log.read(0).unwrap();
        let bytes = std::future::poll_fn(|cx| reader.poll_next(cx, 1000)).await.unwrap();
        assert_eq!(&bytes[..], b"id: 1\ndata: a\n\nid: 2\nevent: x\ndata: b\n\n");
    }

    #[test]
    fn only_who_asks_is_kept_and_keys_are_plain() {
        let mut headers = HeaderMap::new();
        let id = RequestId::random();
        assert_eq!(name(&headers, id), Ok(None));
        headers.insert(RESUME, HeaderValue::from_static("true"));
        assert_eq!(name(&headers, id), Ok(Some(id.to_string())));
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static("k 1"));
        assert_eq!(name(&headers, id), Ok(Some("k 1".to_owned())));
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static(""));
        assert!(name(&headers, id).is_err());
    }
}
