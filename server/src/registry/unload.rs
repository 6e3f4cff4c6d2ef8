//! Models on their way out: asked for, idle for too long, in the way of another, or at the program's end.
//!
//! What is unloaded is first taken out of the registry under its lock, then shut down: no request can find it in between.

use std::collections::BTreeMap;
use std::time::Duration;

use cerebrum_common::lifecycle::Tasks;
use cerebrum_common::wire::extras::KeepAlive;
use cerebrum_engine::{Engine, Snapshot};
use tokio::time::Instant;

use super::{Entry, Registry, occupancy};

/// The idle time is looked at this many times within its length, and within these bounds.
const LOOKS: u32 = 8;
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(30);

/// Unloads models that no inference has used for `limit`, or for what the last request to them said, until the program stops. Without a
/// limit a model stays unless a request has said otherwise.
pub async fn keep_idle_unloaded(registry: Registry, limit: impl Into<Option<Duration>>, tasks: Tasks) {
    let limit = limit.into();
    loop {
        let shortest = registry.limits(limit).into_values().flatten().min();
        let pause = shortest.map_or(LONGEST, |limit| (limit / LOOKS).clamp(SHORTEST, LONGEST));
        let woken = async {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = registry.0.kept.notified() => {}
            }
        };
        if tasks.until_stopping(woken).await.is_none() {
            return;
        }
        let (now, limits) = (Instant::now().into_std(), registry.limits(limit));
        let stale = |model: &Snapshot, limit: Duration| occupancy::is_stale(model, now, limit);
        let limit_of = |model: &Snapshot| limits.get(&model.name).copied().flatten();
        registry.unload_where("unused", |model| limit_of(model).is_some_and(|limit| stale(model, limit))).await;
    }
}

impl Registry {
    /// Unloads the model called `asked` now, generations in progress and loads included: who asks needs the memory.
    /// `None` when it is not loaded, else its own name.
    pub async fn unload(&self, asked: &str) -> Option<String> {
        let name = self.catalog().resolve(asked).ok()?;
        let entry = self.lock().models.remove(&name)?;
        match entry {
            Entry::Loading { cancel, .. } => cancel.cancel(),
            Entry::Loaded(engine) => retire(vec![engine], "asked for").await,
        }
        Some(name)
    }

    // For how long each loaded model stays unused; none for ever.
    fn limits(&self, limit: Option<Duration>) -> BTreeMap<String, Option<Duration>> {
        let state = self.lock();
        let of = |name: &str| match state.kept.get(name) {
            None => limit,
            Some(KeepAlive::Forever) => None,
            Some(KeepAlive::Seconds(seconds)) => Some(Duration::from_secs((*seconds).into())),
        };
        state.engines().map(|engine| (engine.name().to_owned(), of(engine.name()))).collect()
    }

    /// Unloads all models that are idle at this moment, however recently they were used; the number of them.
    pub async fn unload_idle(&self) -> usize {
        self.unload_where("cleanup", occupancy::is_idle).await
    }

    /// Unloads everything and takes no further request.
    pub async fn shut_down(&self) {
        let models = {
            let mut state = self.lock();
            state.stopped = true;
            std::mem::take(&mut state.models)
        };
        let mut engines = Vec::new();
        for entry in models.into_values() {
            match entry {
                Entry::Loading { cancel, .. } => cancel.cancel(),
                Entry::Loaded(engine) => engines.push(engine),
            }
        }
        retire(engines, "the program ends").await;
    }

    pub(super) fn take_least_recent(&self) -> Option<Engine> {
        let mut state = self.lock();
        let snapshots: Vec<_> = state.engines().map(Engine::snapshot).collect();
        let name = &occupancy::least_recent(&snapshots)?.name;
        match state.models.remove(name) {
            Some(Entry::Loaded(engine)) => Some(engine),
            _ => None,
        }
    }

    async fn unload_where(&self, reason: &str, chosen: impl Fn(&Snapshot) -> bool) -> usize {
        let engines = self.take_where(chosen);
        let count = engines.len();
        retire(engines, reason).await;
        count
    }

    fn take_where(&self, chosen: impl Fn(&Snapshot) -> bool) -> Vec<Engine> {
        let mut state = self.lock();
        let names: Vec<_> =
            state.engines().map(Engine::snapshot).filter(|model| chosen(model)).map(|model| model.name).collect();
        let taken = names.iter().filter_map(|name| match state.models.remove(name) {
            Some(Entry::Loaded(engine)) => Some(engine),
            _ => None,
        });
        taken.collect()
    }
}

// A model's thread that hangs must not keep the program from ending, or whoever asked from an answer: it is left behind then.
async fn retire(engines: Vec<Engine>, reason: &str) {
    let until = tokio::time::Instant::now() + UNLOADS_WITHIN;
    for engine in engines {
        // Also after this time each is told to stop, since what is asked first is asked at least once.
        match tokio::time::timeout_at(until, engine.shut_down()).await {
            Ok(()) => tracing::info!(model = engine.name(), reason, "unloaded"),
            Err(_) => tracing::error!(model = engine.name(), reason, "does not end; its memory is not free"),
        }
    }
}

/// A step takes a second at most, and writing prefixes to a slow disk a few.
const UNLOADS_WITHIN: Duration = Duration::from_secs(20);
