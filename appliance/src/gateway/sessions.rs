//! Conversations: what was sent last and to which model, so that the next prompt can begin with what the server's cache holds,
//! and one odd request does not change the model. Kept in memory only, bounded in number, bytes and time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cerebrum_common::wire::{Completion, Text};
use cerebrum_prompt::Slot;
use cerebrum_prompt::route::Held;
use tokio::time::Instant;

/// Conversations that are remembered, the bytes of their prompts together, and for how long.
const SESSIONS: usize = 64;
const BYTES: usize = 8 << 20;
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// Turns in a row of which the server had nothing, after which there is no point in keeping its cache in mind.
const MISSES: u8 = 2;

/// A front this short says nothing about a cache, in bytes.
const TELLING_BYTES: usize = 2 << 10;

/// Bytes of text that are a token at least: what the server says to have had is compared with a low guess.
const BYTES_PER_TOKEN: usize = 8;

/// All conversations.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<u64, Session>>);

/// What is known of a conversation.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// The model it has.
    pub(super) held: Held,
    /// The last prompt, as it was sent, and how much of it the next may begin with.
    sent: Arc<(Text, usize)>,
    /// The upstream whose cache has it.
    pub(super) upstream: Option<usize>,
    misses: u8,
    used: Instant,
}

impl Session {
    /// What the server's cache holds of it, as far as it has been telling the truth.
    pub(super) fn slot(&self) -> Option<Slot<'_>> {
        (self.misses < MISSES).then(|| Slot { prompt: &self.sent.0, stable_bytes: self.sent.1 })
    }
}

/// The turn of a conversation that a request is; to be kept once it has its answer.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    sessions: Arc<Sessions>,
    key: u64,
    before: Option<Session>,
    now: Option<Session>,
}

impl Sessions {
    /// The turn that a request of `client` is in the conversation called `name`.
    pub(super) fn turn(self: &Arc<Self>, client: &str, name: &str) -> Turn {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        let key = BuildHasherDefault::<DefaultHasher>::default().hash_one((client, name));
        let before = self.lock().get(&key).filter(|session| session.used.elapsed() < FORGOTTEN).cloned();
        Turn { sessions: self.clone(), key, before, now: None }
    }

    fn keep(&self, key: u64, session: Session) {
        let mut sessions = self.lock();
        sessions.insert(key, session);
        sessions.retain(|_, session| session.used.elapsed() < FORGOTTEN);
        let bytes = |sessions: &HashMap<u64, Session>| sessions.values().map(|s| s.sent.0.len()).sum::<usize>();
        while sessions.len() > SESSIONS || (sessions.len() > 1 && bytes(&sessions) > BYTES) {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.used).map(|(key, _)| *key);
            oldest.and_then(|key| sessions.remove(&key));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The conversation before it, where there was any.
    pub(super) fn before(&self) -> Option<&Session> {
        self.before.as_ref()
    }

    /// Notes what is sent: the prompt, how much of it the next may begin with, and the model.
    pub(super) fn sent(&mut self, prompt: &str, stable_bytes: usize, held: Held) {
        let misses = self.before.as_ref().map_or(0, |before| before.misses);
        // Without a stable front there is nothing to begin the next prompt with, and no reason to keep this one.
        let prompt = if stable_bytes > 0 { prompt } else { "" };
        let sent = Arc::new((prompt.into(), stable_bytes));
        self.now = Some(Session { held, sent, upstream: None, misses, used: Instant::now() });
    }

    /// The upstream of that index has the prompt now; `completion` tells how much of it it had before.
    pub(super) fn answered(&mut self, completion: &Completion, upstream: usize) {
        let Some(mut now) = self.now.take() else { return };
        let before = self.before.as_ref().map_or("", |before| &before.sent.0);
        let front = now.sent.0.bytes().zip(before.bytes()).take_while(|(now, before)| now == before).count();
        if front >= TELLING_BYTES {
            let had = completion.usage.cached_tokens as usize >= front / BYTES_PER_TOKEN;
            now.misses = if had { 0 } else { now.misses.saturating_add(1) };
        }
        (now.used, now.upstream) = (Instant::now(), Some(upstream));
        self.sessions.keep(self.key, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cerebrum_common::wire::{Finish, Usage};

    fn completion(cached_tokens: u32) -> Completion {
        let usage = Usage { prompt_tokens: 2_000, cached_tokens, completion_tokens: 1 };
        let (model, finish, warnings) = ("m".to_owned(), Finish::Stop, Vec::new());
        Completion { model, finish, usage, prefill_us: 1, decode_us: 1, warnings }
    }

    fn turn(sessions: &Arc<Sessions>, prompt: &str, cached_tokens: u32) -> Option<usize> {
        let mut turn = sessions.turn("me", "s");
        let offered = turn.before().and_then(Session::slot).map(|slot| slot.stable_bytes);
        turn.sent(prompt, prompt.len(), Held::new("m"));
        turn.answered(&completion(cached_tokens), 0);
        offered
    }

    #[test]
    fn the_next_turn_knows_the_last() {
        let (sessions, prompt) = (Arc::new(Sessions::default()), "a line of code\n".repeat(400));
        assert_eq!(turn(&sessions, &prompt, 0), None);
        assert_eq!(turn(&sessions, &prompt, 1_000), Some(6_000));
        assert!(sessions.turn("you", "s").before().is_none() && sessions.turn("me", "t").before().is_none());
        // An answer that never came changes nothing.
        sessions.turn("me", "s").sent("other", 5, Held::new("n"));
        assert_eq!(sessions.turn("me", "s").before().map(|session| session.held.model().to_owned()), Some("m".into()));
    }

    #[test]
    fn a_cache_that_never_has_anything_is_forgotten() {
        let (sessions, prompt) = (Arc::new(Sessions::default()), "a line of code\n".repeat(400));
        let offered: Vec<_> = [0, 0, 0, 0].map(|cached| turn(&sessions, &prompt, cached)).into_iter().collect();
        assert_eq!(offered, [None, Some(6_000), Some(6_000), None]);
    }

    #[test]
    fn sessions_are_bounded() {
        let (sessions, prompt) = (Arc::new(Sessions::default()), "x".repeat(BYTES / 4));
        for name in 0..SESSIONS * 2 {
            let mut turn = sessions.turn("me", &name.to_string());
            turn.sent(&prompt, prompt.len(), Held::new("m"));
            turn.answered(&completion(0), 0);
            assert!(sessions.lock().len() <= 4);
        }
        for name in 0..SESSIONS * 2 {
            let mut turn = sessions.turn("me", &format!("b{name}"));
            turn.sent(&prompt, 0, Held::new("m"));
            turn.answered(&completion(0), 0);
        }
        assert_eq!(sessions.lock().len(), SESSIONS);
    }
}
