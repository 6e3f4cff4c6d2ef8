//! `/v1/complete/batch`: several completions in one call, one after the other in one place of the gate; each has its result or
//! its error in its own place.

use bytes::Bytes;
use cerebrum_common::request_id::RequestId;
use cerebrum_common::serve::{Answer, Refusal, json};
use cerebrum_common::wire::dialect::Dialect;
use cerebrum_common::wire::json;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::admit::Admitted;
use super::pipeline::Body;
use super::prepare::Prepared;
use super::record::Record;
use super::{Gateway, several, whole};

/// Most requests in one batch: at two tokens a second these are hours already.
const REQUESTS: usize = 64;

#[derive(Deserialize)]
struct Batch {
    requests: Option<Vec<Box<RawValue>>>,
}

/// All of them.
///
/// # Errors
/// A body that is no batch; what is wrong with one of its requests stands in that one's place.
pub(super) async fn answer(
    gateway: &Gateway,
    admitted: Admitted,
    body: &mut Body,
    record: &mut Record,
) -> Result<Response<Answer>, Refusal> {
    let (bytes, _room) = body.collect(&gateway.bodies).await?;
    let batch: Batch = json::parse(&bytes)?;
    let requests = batch.requests.ok_or_else(|| wrong("nothing"))?;
    if requests.is_empty() || requests.len() > REQUESTS {
        return Err(wrong(&format!("{} of them", requests.len())));
    }
    admitted.permit.is_several(requests.len());
    let (client, permit) = (admitted.client.name, std::sync::Arc::new(admitted.permit));
    let id = record.id();
    let mut results = Vec::with_capacity(requests.len());
    let last = requests.len() - 1;
    for (number, request) in requests.into_iter().enumerate() {
        let bytes = Bytes::copy_from_slice(request.get().as_bytes());
        let mut own = record.share(number == last);
        let outcome = match gateway.preparation.run(Dialect::Native, bytes, None, &client).await {
            Ok(ready) => one(gateway, Prepared { permit: permit.clone(), ready, remember: None }, id, &mut own).await,
            Err(refusal) => Err(refusal),
        };
        results.push(outcome.unwrap_or_else(|refusal| {
            own.refused(&refusal);
            json!({"error": refusal.name(), "message": refusal.message()})
        }));
    }
    Ok(json(StatusCode::OK, &json!({"results": results})))
}

fn wrong(found: &str) -> Refusal {
    let message =
        format!("requests: found {found}, expected a list of 1 to {REQUESTS} requests as /v1/complete takes them");
    Refusal::BadRequest { field: Some("requests".to_owned()), message }
}

async fn one(gateway: &Gateway, prepared: Prepared, id: RequestId, record: &mut Record) -> Result<Value, Refusal> {
    let (prepared, origin, answer) = several::one(gateway, prepared, record).await?;
    Ok(whole::value(id, &prepared.ready, origin, &[answer]))
}
