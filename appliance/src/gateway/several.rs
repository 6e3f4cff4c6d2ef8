//! Several answers to one request (OpenAI's `n`): one after the other, in one place of the gate; from the second on the server
//! finds the prompt in its cache.

use cerebrum_common::serve::{Answer, Refusal};
use http::Response;

use super::prepare::Prepared;
use super::record::Record;
use super::{Gateway, forward, route, whole};

/// All of them in one document.
///
/// # Errors
/// A stream of several; how any of them broke.
pub(super) async fn answer(
    gateway: &Gateway,
    prepared: Prepared,
    record: &mut Record,
) -> Result<Response<Answer>, Refusal> {
    let reply = &prepared.ready.call.reply;
    let (choices, id) = (reply.choices, record.id());
    if reply.stream {
        let message = format!("n: found {choices}, expected 1 in a stream; ask for a whole answer, or several times");
        return Err(Refusal::BadRequest { field: Some("n".to_owned()), message });
    }
    let mut answers = Vec::new();
    for number in 0..choices {
        let mut own = record.again();
        let routed = route::route(&gateway.upstreams, prepared.numbered(number), &[]).map_err(|refused| refused.1)?;
        let mut upstream = forward::forward(gateway, routed, &mut own).await?;
        answers.push(whole::collect(&mut upstream).await?);
    }
    Ok(whole::document(id, &prepared.ready, &answers))
}
