//! What those who prepare prompts want to know of a model. Read from its file; the model is not loaded for it.

use cerebrum_common::serve::{Answer, Refusal, json};
use cerebrum_common::wire::facts::{Facts, Vocabulary};
use cerebrum_common::wire::{Failure, FailureCode};
use cerebrum_engine::gguf;
use http::{Response, StatusCode};
use sha2::{Digest, Sha256};

use super::Api;
use crate::models::hex;
use crate::registry::{Found, Unavailable};

/// `/v1/models/{name}`.
///
/// # Errors
/// No such model.
pub(super) async fn model(api: &Api, asked: &str) -> Result<Response<Answer>, Refusal> {
    let found = find(api, asked)?;
    let snapshot = api.registry.snapshots().into_iter().find(|loaded| loaded.name == found.name);
    let (context_trained, vocabulary) = read(found, |found| {
        let header = gguf::Header::of(&found.path).ok()?;
        let vocabulary = gguf::Vocabulary::of(&found.path).ok()?;
        Some((header.own("context_length"), id(&vocabulary)))
    })
    .await?
    .map_or((None, None), |(context, id)| (context, Some(id)));
    let tokens = |count: u64| u32::try_from(count).ok();
    let facts = Facts {
        id: asked.to_owned(),
        object: "model".into(),
        created: 0,
        owned_by: "cerebrum".into(),
        loaded: snapshot.is_some(),
        context: snapshot.and_then(|model| tokens(model.context as u64)),
        context_trained: context_trained.and_then(tokens),
        vocabulary,
    };
    Ok(json(StatusCode::OK, &facts))
}

/// `/v1/models/{name}/vocabulary`.
///
/// # Errors
/// No such model, or a file whose vocabulary cannot be read.
pub(super) async fn vocabulary(api: &Api, asked: &str) -> Result<Response<Answer>, Refusal> {
    let found = find(api, asked)?;
    let name = found.name.clone();
    let answer = read(found, |found| {
        let read = gguf::Vocabulary::of(&found.path)?;
        let texts = |texts: &[String]| texts.iter().map(|text| text.clone().into()).collect();
        let vocabulary = Vocabulary {
            id: id(&read).into(),
            model: read.model.as_str().into(),
            pre: read.pre.as_str().into(),
            tokens: texts(&read.tokens),
            types: read.types.clone(),
            merges: texts(&read.merges),
        };
        Ok::<_, gguf::GgufError>(json(StatusCode::OK, &vocabulary))
    });
    answer.await?.map_err(|error| {
        let message = format!("model: the vocabulary of {name:?} cannot be read: {error}");
        Failure { code: FailureCode::LoadFailed, message, retry_after_ms: None }.into()
    })
}

fn find(api: &Api, asked: &str) -> Result<Found, Refusal> {
    let catalog = api.registry.catalog();
    let found = catalog.resolve(asked).and_then(|name| catalog.find(&name));
    found.map_err(|reason| Failure::from(&reason).into())
}

/// Files are read off the thread that serves everybody else.
async fn read<T: Send + 'static>(found: Found, work: impl FnOnce(&Found) -> T + Send + 'static) -> Result<T, Refusal> {
    let work = tokio::task::spawn_blocking(move || work(&found));
    work.await.map_err(|_| Failure::from(&Unavailable::Stopping).into())
}

/// The same for the same tokens and merges, on every machine.
fn id(vocabulary: &gguf::Vocabulary) -> String {
    let mut hash = Sha256::new();
    let mut text = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    text(&vocabulary.model);
    text(&vocabulary.pre);
    vocabulary.tokens.iter().chain(&vocabulary.merges).for_each(|entry| text(entry));
    vocabulary.types.iter().for_each(|kind| hash.update(kind.to_le_bytes()));
    hex(&hash.finalize()[..16])
}
