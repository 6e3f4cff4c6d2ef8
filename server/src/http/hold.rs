//! Answers that outlive their connection: who asks for it (see [`held`]) gets an answer that goes on being written when the
//! connection breaks, and is held until it is asked for again or its time is over.
//!
//! A caller that drops the answer over a connection that lives does not want it any more: its generation ends at once. Nobody
//! but the key that asked reaches a held answer.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::event_log::{Entered, EventLog, Kept, Missed, Reader, Retention, Shelf, Writer};
use cerebrum_common::keys::Client;
use cerebrum_common::serve::{Answer, Connection, Refusal, empty};
use cerebrum_common::wire::{InferenceEvent, frame, held};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt;

use super::Api;
use super::job::Job;
use super::stream::{BATCH_BYTES, Style, relay, repeated};

/// A minute; 256 KiB are about 15,000 tokens, and an answer that is longer waits for its reader; 16 MiB are 64 such answers.
pub const RETENTION: Retention =
    Retention { time: Duration::from_secs(60), answer_bytes: 256 << 10, all_bytes: 16 << 20 };

/// The answers that are held.
#[derive(Debug)]
pub struct Holds {
    settings: Retention,
    shelf: Shelf<u128, Held>,
}

#[derive(Debug)]
struct Held {
    owner: Client,
    log: Arc<EventLog>,
}

impl Kept for Held {
    fn log(&self) -> &EventLog {
        &self.log
    }
}

impl Holds {
    /// None yet.
    pub fn new(settings: Retention) -> Self {
        Self { settings, shelf: Shelf::new(settings.places()) }
    }

    /// Whether no answer is held.
    pub fn is_empty(&self) -> bool {
        self.shelf.is_empty()
    }

    fn find(&self, token: u128, client: &Client) -> Option<Arc<Held>> {
        self.shelf.find(&token).filter(|held| held.owner == *client)
    }
}

/// The answer to a request that has been sent before: its caller lost the connection before it saw anything of it.
pub(super) fn again(
    api: &Api,
    token: u128,
    client: &Client,
    connection: &Connection,
) -> Option<Result<Response<Answer>, Refusal>> {
    let held = api.holds.find(token, client)?;
    tracing::info!("a request that is being answered came again");
    Some(read(api, &held.log, 0, connection.clone()))
}

/// Answers, and holds the answer; where all places are taken, it is answered without being held.
///
/// # Errors
/// None but those of a log that was cancelled at once.
pub(super) fn begin(
    api: &Api,
    job: Job,
    token: u128,
    client: Client,
    connection: Connection,
) -> Result<Response<Answer>, Refusal> {
    let mut writer = None;
    let settings = api.holds.settings;
    let entered = api.holds.shelf.enter(token, || {
        let (log, new) = EventLog::new(settings.answer_bytes);
        writer = Some(new);
        Held { owner: client, log }
    });
    let (Entered::New(held), Some(writer)) = (entered, writer) else {
        return Ok(relay(job, None, Style::Frames, api.heartbeat));
    };
    let response = read(api, &held.log, 0, connection);
    let (holds, tasks, heartbeat) = (api.holds.clone(), api.tasks.clone(), api.heartbeat);
    api.tasks.spawn(async move {
        let unwanted = async {
            tokio::select! {
                () = held.log.abandoned(settings.time) => {}
                // Nobody can come back to a server that is being stopped.
                () = async { tasks.stopping().await; held.log.abandoned(Duration::ZERO).await } => {}
            }
        };
        tokio::select! {
            () = write(job, writer, heartbeat) => {}
            () = unwanted => {}
        }
        // What was sent last may not have arrived: it is kept for its time, or until its place is needed.
        tasks.until_stopping(held.log.abandoned(settings.time)).await;
        holds.shelf.remove(&held);
    });
    response
}

/// Writes the answer to its end.
async fn write(mut job: Job, writer: Writer, heartbeat: Duration) {
    let mut last = InferenceEvent::Progress { processed: 0, total: 0 };
    loop {
        writer.room().await;
        let Ok(event) = tokio::time::timeout(heartbeat, job.next()).await else {
            encode(&repeated(&last)).into_iter().for_each(|bytes| writer.pass(bytes));
            continue;
        };
        let Some(event) = event else { return };
        let Some(bytes) = encode(&event) else { return };
        match held::is_kept(&event) {
            _ if event.is_last() => {
                // The job and with it the slot go before the last bytes do.
                drop(job);
                return writer.push(bytes);
            }
            true => writer.push(bytes),
            false => writer.pass(bytes),
        }
        last = event;
    }
}

fn encode(event: &InferenceEvent) -> Option<Bytes> {
    // Our own types always serialise; should one not, the peer notices that the last event is missing.
    frame::to_bytes(event).inspect_err(|error| tracing::error!(%error, "an event could not be written")).ok()
}

/// The rest of a held answer.
///
/// # Errors
/// A token that nobody holds, or a position that is not held.
pub(super) fn resume(
    api: &Api,
    token: &str,
    headers: &HeaderMap,
    client: &Client,
    connection: Connection,
) -> Result<Response<Answer>, Refusal> {
    let held = named(api, token, client)?;
    let from = match headers.get(held::LAST_EVENT) {
        None => 0,
        Some(value) => value.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
            let message = format!("last-event-id: found {value:?}, expected the number of events received");
            Refusal::BadRequest { field: Some("last-event-id".to_owned()), message }
        })?,
    };
    tracing::info!(token, from, "an answer goes on over another connection");
    read(api, &held.log, from, connection)
}

/// Ends a held answer that nobody wants any more.
///
/// # Errors
/// A token that nobody holds.
pub(super) fn cancel(api: &Api, token: &str, client: &Client) -> Result<Response<Answer>, Refusal> {
    let held = named(api, token, client)?;
    held.log.cancel();
    api.holds.shelf.remove(&held);
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn named(api: &Api, token: &str, client: &Client) -> Result<Arc<Held>, Refusal> {
    held::parse_token(token)
        .and_then(|token| api.holds.find(token, client))
        .ok_or_else(|| Refusal::NotFound { path: format!("{}…: this answer is not held (any more)", held::PATH) })
}

fn read(api: &Api, log: &Arc<EventLog>, from: u64, connection: Connection) -> Result<Response<Answer>, Refusal> {
    let missed = |missed: Missed| Refusal::BadRequest { field: None, message: missed.to_string() };
    let body = Relay { reader: log.read(from).map_err(missed)?, connection };
    let mut response = Response::new(body.boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(frame::MEDIA_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let time = u64::try_from(api.holds.settings.time.as_millis()).unwrap_or(u64::MAX);
    headers.insert(held::HEADER, HeaderValue::from(time));
    Ok(response)
}

/// One connection's view of an answer.
struct Relay {
    reader: Reader,
    connection: Connection,
}

impl Body for Relay {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.reader.poll_next(cx, BATCH_BYTES).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // A reset over a connection that lives. One that was left behind by a newer connection has no say.
        if !self.reader.is_through() && self.reader.is_newest() && !self.connection.is_lost() {
            self.reader.log().cancel();
        }
    }
}
