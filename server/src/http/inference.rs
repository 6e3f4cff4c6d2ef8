//! The calls that generate, as verbs in order. Whatever is known to fail before the answer begins fails with its status;
//! after that, in band.

use std::time::Duration;

use cerebrum_common::keys::Client;
use cerebrum_common::request_id::RequestId;
use cerebrum_common::serve::{Answer, Connection, Refusal, collect, discard};
use cerebrum_common::wire::dialect::{Identity, Speaker};
use cerebrum_common::wire::{Failure, FailureCode, TELL_STOP, held};
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::job::Job;
use super::record::Record;
use super::request::{self, Format};
use super::routes::Delivery;
use super::several::Several;
use super::stream::Style;
use super::{Api, hold, stream, whole};

/// How long an answer's head waits for the first event: tokenising and most refusals take less, and nobody minds a stream that
/// opens so much later.
const FIRST_EVENT: Duration = Duration::from_millis(200);

/// When to come back after a shortage: the guards look at means of about five seconds.
const SHORTAGE_RETRY_MS: u32 = 10_000;

/// Who calls, and how.
pub(super) struct Caller {
    pub(super) id: RequestId,
    pub(super) client: Client,
    pub(super) connection: Connection,
}

/// One inference, from the request to the answer.
pub(super) async fn infer(
    api: &Api,
    request: Request<Incoming>,
    caller: Caller,
    delivery: Delivery,
) -> Response<Answer> {
    let (head, mut body) = request.into_parts();
    let mut record = Some(Record::open(caller.id, caller.client, api.tasks.clone()));
    match answer(api, &head, &mut body, &mut record, (delivery, caller.connection)).await {
        Ok(response) => response,
        Err(refusal) => {
            // Still here when the request got no further than its body.
            if let Some(record) = &mut record {
                record.refused(&refusal.for_log());
            }
            discard(body, &api.tasks);
            refusal.response_in(delivery.dialect())
        }
    }
}

async fn answer(
    api: &Api,
    head: &http::request::Parts,
    body: &mut Incoming,
    record: &mut Option<Record>,
    (delivery, connection): (Delivery, Connection),
) -> Result<Response<Answer>, Refusal> {
    let format = request::format(&head.headers)?;
    admit(api)?;
    let bytes = collect(body, &api.limits).await?;
    let mut call = request::read(format, delivery, bytes, api.tokens, api.limits.body_bytes)?;
    call.reply.stop_string |= head.headers.contains_key(TELL_STOP);
    // From here on the job owns the record, and closes it however it ends.
    let Some(mut record) = record.take() else { return Err(Refusal::Stopping) };
    let token = held::asked(&head.headers).filter(|_| format == Format::Frames);
    let client = record.client();
    if let Some(token) = token
        && let Some(held) = hold::again(api, token, &client, &connection)
    {
        record.joined();
        return held;
    }
    if !call.reply.stream {
        return whole::collect(api, call, record).await;
    }
    let (id, reply) = (record.id(), call.reply.clone());
    let mut several = Several::new(api, call, record);
    // The first is always there.
    let mut job = several.next().ok_or(Refusal::Stopping)??;
    let style = match format {
        Format::Frames => Style::Frames,
        Format::Json => match Speaker::new(|| Identity::now(id, job.model()), &reply) {
            Some(speaker) => Style::Spoken(speaker),
            None => Style::Events { progress: reply.progress },
        },
    };
    job.look_ahead(Instant::now() + FIRST_EVENT).await?;
    if let Some(token) = token {
        return hold::begin(api, job, token, client, connection);
    }
    Ok(stream::relay(job, Some(several), style, api.heartbeat))
}

/// Whether anything may be computed now.
pub(super) fn admit(api: &Api) -> Result<(), Refusal> {
    if api.tasks.is_stopping() {
        return Err(Refusal::Stopping);
    }
    match api.shortage() {
        None => Ok(()),
        Some(shortage) => Err(Refusal::Failed(Failure {
            code: FailureCode::Overloaded,
            message: shortage.to_string(),
            retry_after_ms: Some(SHORTAGE_RETRY_MS),
        })),
    }
}

impl Job {
    /// Waits for the first event that says whether there will be an answer, but not beyond `deadline`.
    ///
    /// # Errors
    /// The failure, when that is what comes first.
    async fn look_ahead(&mut self, deadline: Instant) -> Result<(), Refusal> {
        use cerebrum_common::wire::InferenceEvent::{Error, Loading};
        loop {
            match timeout_at(deadline, self.next()).await {
                Err(_) => return Ok(()),
                Ok(Some(Error(failure))) => return Err(failure.into()),
                Ok(Some(Loading { .. })) => {} // the next one says it better
                Ok(Some(event)) => {
                    self.put_back(event);
                    return Ok(());
                }
                Ok(None) => return Ok(()),
            }
        }
    }
}
