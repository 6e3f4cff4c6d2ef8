//! What is known about the models of an upstream: how much they have room for, the vocabulary to count their tokens with, how
//! fast they read and write. The first two a server of ours tells; the speeds are measured, answer by answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::wire::facts::{self, Vocabulary};
use cerebrum_common::wire::{Completion, Usage};
use cerebrum_prompt::tokens;
use tokio::time::Instant;

use super::Upstream;
use super::probe::{ask, ask_bytes};

/// Models that are remembered; names come from clients.
const MODELS: usize = 64;

/// Vocabularies that are kept, some 8 MiB each.
const VOCABULARIES: usize = 2;

/// After this time a server is asked again: a model may have been loaded with another context.
const FRESH: Duration = Duration::from_secs(60);

/// For the facts, and for a vocabulary of some megabytes over a slow link.
const FACTS: Duration = Duration::from_secs(5);
const VOCABULARY: Duration = Duration::from_secs(60);
const VOCABULARY_BYTES: usize = 32 << 20;

/// Fewer tokens tell nothing about a speed.
const TELLING_TOKENS: u32 = 32;

/// What is known of one model, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Tokens of prompt and answer together.
    pub context: Option<usize>,
    /// Counts its tokens.
    pub vocabulary: Counter,
    /// Prompt tokens read per second.
    pub prefill_per_s: Option<f32>,
    /// Tokens written per second.
    pub decode_per_s: Option<f32>,
}

/// Whether asking would help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Nobody has asked yet.
    Unknown,
    /// Somebody should ask again.
    Old,
    /// It is as it was a moment ago.
    Fresh,
}

#[derive(Debug, Default)]
struct Known {
    facts: Facts,
    asked: Option<Instant>,
}

/// What is known about the models of one upstream.
#[derive(Debug, Default)]
pub struct Knowledge {
    models: Mutex<HashMap<Box<str>, Known>>,
    vocabularies: Arc<Vocabularies>,
}

impl Knowledge {
    /// Nothing yet; vocabularies are shared with other upstreams.
    pub fn new(vocabularies: Arc<Vocabularies>) -> Self {
        Self { models: Mutex::default(), vocabularies }
    }

    /// What is known of a model.
    pub fn facts(&self, model: &str) -> Facts {
        self.lock().get(model).map(|known| known.facts.clone()).unwrap_or_default()
    }

    /// How old that is. Whoever is told that it is not fresh has to [`learn`] it: nobody else will be told so soon.
    pub fn due(&self, model: &str) -> Age {
        let mut age = Age::Fresh;
        self.change(model, |known| {
            age = match known.asked {
                None => Age::Unknown,
                Some(asked) if asked.elapsed() < FRESH => return,
                Some(_) => Age::Old,
            };
            known.asked = Some(Instant::now());
        });
        age
    }

    /// Takes the speeds that an answer shows.
    pub fn measure(&self, model: &str, completion: &Completion) {
        let Usage { prompt_tokens, cached_tokens, completion_tokens } = completion.usage;
        let read = rate(prompt_tokens.saturating_sub(cached_tokens), completion.prefill_us);
        let wrote = rate(completion_tokens, completion.decode_us);
        if read.is_none() && wrote.is_none() {
            return;
        }
        self.change(model, |known| {
            // The time before the first token may have been spent waiting for others.
            blend(&mut known.facts.prefill_per_s, read, 0.1);
            blend(&mut known.facts.decode_per_s, wrote, 0.3);
            // Now that it is loaded, its context can be had.
            if known.facts.context.is_none() {
                known.asked = known.asked.and_then(|asked| asked.checked_sub(FRESH));
            }
        });
    }

    fn change(&self, model: &str, change: impl FnOnce(&mut Known)) {
        let mut models = self.lock();
        if let Some(known) = models.get_mut(model) {
            return change(known);
        }
        if models.len() >= MODELS {
            let oldest = models.iter().min_by_key(|(_, known)| known.asked).map(|(name, _)| name.clone());
            oldest.and_then(|name| models.remove(&name));
        }
        change(models.entry(model.into()).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Known>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rate(tokens: u32, us: u64) -> Option<f32> {
    (tokens >= TELLING_TOKENS && us > 0).then(|| (f64::from(tokens) * 1e6 / us as f64) as f32)
}

/// Takes better news at once by half, worse by `share`.
fn blend(known: &mut Option<f32>, seen: Option<f32>, share: f32) {
    let Some(seen) = seen else { return };
    let before = known.unwrap_or(seen);
    let share = if seen > before { 0.5 } else { share };
    *known = Some(before + (seen - before) * share);
}

/// Asks the upstream about a model, and for its vocabulary where that is not at hand. What cannot be had stays unknown.
pub async fn learn(upstream: &Upstream, model: &str) {
    let told = ask(upstream, &format!("/v1/models/{model}"), FACTS).await;
    let told: facts::Facts = told.and_then(|told| serde_json::from_value(told).ok()).unwrap_or_default();
    let knowledge = &upstream.knowledge;
    if let Some(context) = told.context {
        knowledge.change(model, |known| known.facts.context = Some(context as usize));
    }
    let Some(id) = told.vocabulary else { return };
    let vocabulary = match knowledge.vocabularies.find(&id) {
        Some(vocabulary) => vocabulary,
        None => {
            let path = format!("/v1/models/{model}/vocabulary");
            let Some(bytes) = ask_bytes(upstream, &path, VOCABULARY, VOCABULARY_BYTES).await else { return };
            let Ok(read) = tokio::task::spawn_blocking(move || read(&bytes)).await else { return };
            let vocabulary = read
                .inspect(|_| tracing::info!(upstream = %upstream.name, model, "tokens are counted exactly"))
                .inspect_err(|reason| tracing::info!(upstream = %upstream.name, model, reason, "tokens are estimated"))
                .ok();
            knowledge.vocabularies.keep(&id, vocabulary)
        }
    };
    knowledge.change(model, |known| known.facts.vocabulary = vocabulary);
}

fn read(bytes: &Bytes) -> Result<Arc<tokens::Bpe>, String> {
    let told: Vocabulary<'_> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let vocabulary = tokens::Vocabulary {
        model: &told.model,
        pre: &told.pre,
        tokens: &told.tokens,
        types: &told.types,
        merges: &told.merges,
    };
    tokens::Bpe::new(&vocabulary).map(Arc::new).map_err(|unknown| unknown.to_string())
}

/// Vocabularies at hand, the last used last; those that cannot be counted with are remembered as such.
#[derive(Debug, Default)]
pub struct Vocabularies(Mutex<Vec<(Box<str>, Counter)>>);

/// What counts a model's tokens, where they can be counted.
pub type Counter = Option<Arc<tokens::Bpe>>;

impl Vocabularies {
    fn find(&self, id: &str) -> Option<Counter> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(other, _)| **other == *id)?;
        let found = kept.remove(at);
        kept.push(found.clone());
        Some(found.1)
    }

    fn keep(&self, id: &str, vocabulary: Counter) -> Counter {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(other, _)| **other != *id);
        if kept.len() >= VOCABULARIES {
            kept.remove(0);
        }
        kept.push((id.into(), vocabulary.clone()));
        vocabulary
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cerebrum_common::wire::Finish;

    fn completion(prompt: u32, cached: u32, prefill_us: u64) -> Completion {
        let usage = Usage { prompt_tokens: prompt, cached_tokens: cached, completion_tokens: 100 };
        let (model, finish, warnings) = ("m".to_owned(), Finish::Stop, Vec::new());
        Completion { model, finish, usage, prefill_us, decode_us: 50_000_000, warnings }
    }

    #[test]
    fn speeds_are_those_of_the_tokens_that_were_read() {
        let knowledge = Knowledge::default();
        knowledge.measure("m", &completion(1_000, 360, 100_000_000));
        let facts = knowledge.facts("m");
        assert_eq!((facts.prefill_per_s, facts.decode_per_s), (Some(6.4), Some(2.0)));
        // A request that had to wait says little, and one that was cached nothing.
        knowledge.measure("m", &completion(1_000, 360, 1_000_000_000));
        assert!(knowledge.facts("m").prefill_per_s.is_some_and(|rate| rate > 5.0));
        let before = knowledge.facts("m").prefill_per_s;
        knowledge.measure("m", &completion(1_000, 990, 10_000_000));
        assert_eq!(knowledge.facts("m").prefill_per_s, before);
    }

    #[test]
    fn only_so_many_models_are_remembered() {
        let knowledge = Knowledge::default();
        (0..MODELS * 2).for_each(|number| knowledge.measure(&number.to_string(), &completion(100, 0, 1_000_000)));
        assert_eq!(knowledge.lock().len(), MODELS);
    }

    #[test]
    fn vocabularies_are_kept_by_use() {
        let kept = Vocabularies::default();
        for id in ["a", "b"] {
            kept.keep(id, None);
        }
        assert!(kept.find("a").is_some());
        kept.keep("c", None);
        assert_eq!(["a", "b", "c"].map(|id| kept.find(id).is_some()), [true, false, true]);
    }
}
