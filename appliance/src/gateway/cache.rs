//! Answers that would come out the same again: temperature 0, the same prepared prompt, model and parameters. Kept in memory,
//! never more bytes than allowed, the one that was not asked for longest goes first.
//!
//! An answer counts for the model's file that wrote it: servers of ours tell which files their models were loaded from, and
//! without that word, or with another one, nothing is kept and nothing is found. Of services nothing is known, so theirs count
//! for a while only. Answers that may call tools are never kept: what the call does is not part of the answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cerebrum_common::wire::dialect::Call;
use cerebrum_common::wire::{Completion, Finish, InferenceEvent, Text};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::ask;
use super::route::likely;
use crate::upstream::Upstream;
use crate::upstream::spread::rank;
use crate::upstream::way::Way;

/// What may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of all answers; none switches it off.
    pub bytes: usize,
    /// How long an answer counts.
    pub age: Duration,
}

impl Default for Settings {
    /// 8 MiB are some thousand answers; an hour.
    fn default() -> Self {
        Self { bytes: 8 << 20, age: Duration::from_secs(3600) }
    }
}

type Key = [u8; 32];

/// The answers that are remembered.
#[derive(Debug)]
pub(super) struct Cache {
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    answers: HashMap<Key, Entry>,
    bytes: usize,
    /// Counts uses: the entry with the lowest was not asked for longest.
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    answer: Arc<Remembered>,
    made: Instant,
    used: u64,
}

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Remembered {
    pieces: Vec<(Text, u32)>,
    stop_string: Option<Text>,
    completion: Completion,
    source: Source,
    bytes: usize,
}

/// What wrote an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    upstream: usize,
    /// The model's file, of a server of ours.
    version: Option<String>,
}

/// Bytes of bookkeeping for each answer and each of its pieces, as measured: generous, since the bound is a promise.
const ENTRY_BYTES: usize = 512;
const PIECE_BYTES: usize = 64;

/// No answer takes more than this share of the room.
const LARGEST_SHARE: usize = 8;

impl Cache {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, state: Mutex::default() }
    }

    /// What a call's answer would be remembered under; none when it would not come out the same again.
    pub(super) fn key(&self, call: &Call, upstreams: &[Arc<Upstream>]) -> Option<Key> {
        let same = call.request.sampling.temperature == 0.0 && call.request.sampling.mirostat == 0;
        if !same
            || self.settings.bytes == 0
            || call.reply.tools
            || call.reply.choices > 1
            || call.details.logprobs.is_some()
        {
            return None;
        }
        if !upstreams.iter().any(|upstream| counts(upstream)) {
            return None;
        }
        let bytes = ask::frames(call).ok()?;
        // In no frame, but a service's answer depends on it.
        let schema = serde_json::to_vec(&call.said.schema).ok()?;
        Some(Sha256::new().chain_update(&bytes).chain_update(&schema).finalize().into())
    }

    /// The answer of `model` remembered under `key`, where it still counts.
    pub(super) fn find(&self, key: &Key, model: &str, upstreams: &[Arc<Upstream>]) -> Option<Arc<Remembered>> {
        let mut state = self.lock();
        state.uses += 1;
        let uses = state.uses;
        let entry = state.answers.get_mut(key)?;
        let source = &entry.answer.source;
        let current = upstreams.iter().find(|upstream| upstream.index == source.upstream);
        // An answer of the last resort is none while there is better.
        let likely = likely(upstreams, model);
        if current.zip(likely).is_some_and(|(current, likely)| rank(likely) < rank(current)) {
            return None;
        }
        let counts = current.and_then(|upstream| source_of(upstream, &entry.answer.completion.model));
        if entry.made.elapsed() < self.settings.age && counts.as_ref() == Some(source) {
            entry.used = uses;
            return Some(entry.answer.clone());
        }
        state.forget(key);
        None
    }

    /// Begins to remember what `upstream` answers.
    pub(super) fn learn(&self, key: Key) -> Lesson {
        Lesson {
            key,
            pieces: Vec::new(),
            stop_string: None,
            bytes: ENTRY_BYTES,
            most: self.settings.bytes / LARGEST_SHARE,
        }
    }

    /// Remembers a complete answer.
    pub(super) fn keep(&self, lesson: Lesson, upstream: &Upstream, completion: &Completion) {
        let Some(source) = source_of(upstream, &completion.model) else {
            // The next probe tells which file it was loaded from.
            return upstream.ask_for_versions();
        };
        // What it took then says nothing of what it takes from memory.
        let completion = Completion { prefill_us: 0, decode_us: 0, ..completion.clone() };
        let Lesson { key, pieces, stop_string, bytes, .. } = lesson;
        let answer = Arc::new(Remembered { pieces, stop_string, completion, source, bytes });
        let mut state = self.lock();
        state.forget(&key);
        while state.bytes + bytes > self.settings.bytes {
            let oldest = state.answers.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key);
            let Some(oldest) = oldest else { return };
            state.forget(&oldest);
        }
        state.uses += 1;
        state.bytes += bytes;
        let entry = Entry { answer, made: Instant::now(), used: state.uses };
        state.answers.insert(key, entry);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self, key: &Key) {
        if let Some(entry) = self.answers.remove(key) {
            self.bytes -= entry.answer.bytes;
        }
    }
}

/// Whether any answer of `upstream` can be remembered.
fn counts(upstream: &Upstream) -> bool {
    !upstream.local && (matches!(upstream.way, Way::Service(_)) || upstream.tells_versions())
}

/// What `upstream` writes answers of `model` with; none when it should be known and is not, or when better answers are to be
/// had elsewhere at other times.
fn source_of(upstream: &Upstream, model: &str) -> Option<Source> {
    let version = match &upstream.way {
        _ if upstream.local => return None,
        Way::Frames(_) => Some(upstream.version(model)?),
        Way::Service(_) => None,
    };
    Some(Source { upstream: upstream.index, version })
}

/// An answer that is being remembered.
#[derive(Debug)]
pub(super) struct Lesson {
    key: Key,
    pieces: Vec<(Text, u32)>,
    stop_string: Option<Text>,
    bytes: usize,
    most: usize,
}

impl Lesson {
    /// One event of it; false when it is too long to be remembered.
    pub(super) fn take(&mut self, event: &InferenceEvent) -> bool {
        if let InferenceEvent::Token { text, total_tokens } = event
            && !text.is_empty()
        {
            self.bytes += text.len() + PIECE_BYTES;
            self.pieces.push((text.clone(), *total_tokens));
        }
        if let InferenceEvent::StopString(text) = event {
            self.bytes += text.len();
            self.stop_string = Some(text.clone());
        }
        // What is kept is a text, and complete: a filter may judge otherwise the next time.
        let more = matches!(
            event,
            InferenceEvent::Reasoning { .. } | InferenceEvent::ToolCall { .. } | InferenceEvent::Refusal { .. }
        );
        let filtered = matches!(event, InferenceEvent::Done(done) if done.finish == Finish::ContentFilter);
        self.bytes <= self.most && !more && !filtered
    }
}

impl Remembered {
    /// The answer, event by event.
    pub(super) fn events(&self) -> Vec<InferenceEvent> {
        let pieces = self.pieces.iter().cloned();
        let tokens = pieces.map(|(text, total_tokens)| InferenceEvent::Token { text, total_tokens });
        let stop = self.stop_string.clone().map(InferenceEvent::StopString);
        tokens.chain(stop).chain([InferenceEvent::Done(self.completion.clone())]).collect()
    }

    /// The model that wrote it.
    pub(super) fn model(&self) -> &str {
        &self.completion.model
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cerebrum_common::wire::Usage;
    use cerebrum_common::wire::dialect::{self, Dialect};
    use cerebrum_common::wire::native::Limits;

    fn call(body: &str) -> Call {
        dialect::read(Dialect::Native, body.as_bytes(), Limits::default()).unwrap()
    }

    fn completion() -> Completion {
        let usage = Usage { prompt_tokens: 1, cached_tokens: 0, completion_tokens: 1 };
        Completion { model: "m".into(), finish: Finish::Stop, usage, prefill_us: 7, decode_us: 7, warnings: Vec::new() }
    }

    fn service() -> Arc<Upstream> {
        Upstream::stub_service(0)
    }

    fn remember(cache: &Cache, number: u32, text: &str) -> Key {
        let key = cache.key(&call(&format!(r#"{{"prompt":"{number}","temperature":0}}"#)), &[service()]).unwrap();
        let mut lesson = cache.learn(key);
        assert!(lesson.take(&InferenceEvent::Token { text: text.into(), total_tokens: 1 }));
        cache.keep(lesson, &service(), &completion());
        key
    }

    #[tokio::test]
    async fn only_what_comes_out_the_same_has_a_key_and_every_parameter_counts() {
        let cache = Cache::new(Settings::default());
        let key = |body: &str| cache.key(&call(body), &[service()]);
        assert_eq!(key(r#"{"prompt":"a"}"#), None);
        assert_eq!(key(r#"{"prompt":"a","temperature":0,"mirostat":2}"#), None);
        let base = key(r#"{"prompt":"a","temperature":0}"#);
        assert!(base.is_some());
        assert_eq!(base, key(r#"{"temperature":0,"prompt":"a"}"#));
        for other in [
            "\"prompt\":\"b\"",
            "\"prompt\":\"a\",\"max_tokens\":9",
            "\"prompt\":\"a\",\"model\":\"x\"",
            "\"prompt\":\"a\",\"stop\":\"x\"",
        ] {
            assert_ne!(base, key(&format!("{{{other},\"temperature\":0}}")), "{other}");
        }
        let formatted = |strict: bool| {
            let named = format!(r#"{{"name":"n","strict":{strict},"schema":{{"type":"object"}}}}"#);
            let body = format!(
                r#"{{"messages":[{{"role":"user","content":"a"}}],"temperature":0,"response_format":{{"type":"json_schema","json_schema":{named}}}}}"#
            );
            let call = dialect::read(Dialect::Chat, body.as_bytes(), Limits::default()).unwrap();
            cache.key(&call, &[service()])
        };
        assert_ne!(formatted(true), formatted(false));
        assert_eq!(
            Cache::new(Settings { bytes: 0, ..Settings::default() })
                .key(&call(r#"{"prompt":"a","temperature":0}"#), &[service()]),
            None
        );
    }

    #[tokio::test]
    async fn bytes_are_bounded_and_what_is_asked_for_stays() {
        let cache = Cache::new(Settings { bytes: 20_000, ..Settings::default() });
        let upstreams = [service()];
        let first = remember(&cache, 0, "first");
        for number in 1..100 {
            remember(&cache, number, &"x".repeat(1000));
            assert!(cache.lock().bytes <= 20_000);
            let sum: usize = cache.lock().answers.values().map(|entry| entry.answer.bytes).sum();
            assert_eq!(cache.lock().bytes, sum);
            let found = cache.find(&first, "m", &upstreams).expect("it was asked for all the time");
            assert_eq!(found.events().len(), 2);
        }
        let refusal = InferenceEvent::Refusal { text: "no".into(), total_tokens: 1 };
        let call = InferenceEvent::ToolCall { index: 0, begins: None, arguments: "{}".into(), total_tokens: 1 };
        let filtered = InferenceEvent::Done(Completion { finish: Finish::ContentFilter, ..completion() });
        for event in [refusal, call, filtered] {
            assert!(!cache.learn(first).take(&event), "{event:?}");
        }
        let mut lesson = cache.learn(first);
        assert!(!lesson.take(&InferenceEvent::Token { text: "x".repeat(3000).into(), total_tokens: 1 }), "too long");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_age_and_go_with_their_upstream() {
        let cache = Cache::new(Settings::default());
        let key = remember(&cache, 0, "a");
        assert!(cache.find(&key, "m", &[service()]).is_some());
        assert!(cache.find(&key, "m", &[]).is_none());
        let key = remember(&cache, 0, "a");
        tokio::time::advance(Duration::from_secs(3601)).await;
        assert!(cache.find(&key, "m", &[service()]).is_none());
        assert_eq!(cache.lock().bytes, 0);
    }
}
