//! Which models there are, which are loaded, who waits for one, and which has to go.
//!
//! Owns every [`Engine`]. A request comes in by [`Registry::submit`], which hands it to a loaded model or joins the load that
//! is under way (or starts one); the load itself is `load`'s, the choice of what to unload `occupancy`'s. Decisions
//! and submissions are made under one lock, so a model cannot be unloaded as idle between being found and being used.
//!
//! Never knows HTTP, and never touches a model's thread but through its engine.

mod catalog;
mod error;
mod load;
mod occupancy;
#[cfg(test)]
mod tests;
mod unload;

pub use catalog::{Catalog, Found};
pub use error::Unavailable;
pub(crate) use error::busy_retry_ms;
pub use load::{Load, Phase};
pub use unload::keep_idle_unloaded;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cerebrum_common::lifecycle::Tasks;
use cerebrum_common::wire::extras::KeepAlive;
use cerebrum_engine::{Engine, Generation, Request, Snapshot, Starting, SubmitError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Begins to load a model. The program's is llama.cpp; tests have scripted ones.
pub type Starter = Box<dyn Fn(&Found) -> Starting + Send + Sync>;

/// Memory that could be had now, in bytes.
pub type Memory = Box<dyn Fn() -> u64 + Send + Sync>;

/// Bytes that the KV cache of a model will take, as far as its file tells.
pub type Cache = Box<dyn Fn(&Found) -> u64 + Send + Sync>;

/// What the registry works with.
pub struct Parts {
    /// The models there are.
    pub catalog: Catalog,
    /// How one is loaded.
    pub starter: Starter,
    /// Bytes of a model's KV cache.
    pub cache: Cache,
    /// Memory available.
    pub memory: Memory,
    /// A model is not loaded when less memory than this is available, in bytes.
    pub min_free_ram: u64,
    /// Where loads run.
    pub tasks: Tasks,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("catalog", &self.catalog).finish_non_exhaustive()
    }
}

/// All models. Clones share them.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    state: Mutex<State>,
    // Somebody has said for how long a model is to stay.
    kept: Notify,
    // Held by the one load in progress, so that two cannot count on the same memory.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    models: BTreeMap<String, Entry>,
    counts: BTreeMap<String, u64>,
    /// Which file each model was last loaded from.
    versions: BTreeMap<String, String>,
    // What the last request to a loaded model said of it; without, the settings decide.
    kept: BTreeMap<String, KeepAlive>,
    stopped: bool,
}

#[derive(Debug)]
enum Entry {
    Loading { load: Load, cancel: CancellationToken },
    Loaded(Engine),
}

/// What became of a request.
#[derive(Debug)]
pub enum Submission {
    /// A model has taken it.
    Taken(Taken),
    /// Its model is being loaded: wait, then submit it again.
    Waiting(Load, Box<Request>),
}

/// A model that was asked for.
#[derive(Debug)]
pub enum Reached {
    /// It is loaded.
    Loaded(Engine),
    /// It is being loaded: wait, then ask again.
    Waiting(Load),
}

/// A request that a model has taken.
#[derive(Debug)]
pub struct Taken {
    /// The model's own name.
    pub model: String,
    /// Tokens that prompt and answer may have together.
    pub context: usize,
    /// The answer to come; dropping it cancels.
    pub generation: Generation,
}

impl Registry {
    /// No model loaded yet.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            state: Mutex::default(),
            kept: Notify::new(),
            turn: tokio::sync::Mutex::default(),
        }))
    }

    /// The models there are.
    pub fn catalog(&self) -> &Catalog {
        &self.0.parts.catalog
    }

    /// Hands `request` to the model called `asked`, or begins to load it. An empty name asks for the default model.
    ///
    /// # Errors
    /// [`Unavailable`]: no such model, its slots and queue full, a request it cannot carry out.
    pub fn submit(&self, asked: &str, request: Request) -> Result<Submission, Unavailable> {
        let name = self.catalog().resolve(asked)?;
        let mut state = self.lock();
        if let Some(Entry::Loaded(engine)) = state.models.get(&name) {
            let (context, outcome) = (engine.info().context, engine.submit(request));
            return state.taken(name, context, outcome);
        }
        let load = self.join_or_start(&mut state, &name)?;
        Ok(Submission::Waiting(load, Box::new(request)))
    }

    /// The model called `asked`, or the load that is under way or begins now.
    ///
    /// # Errors
    /// [`Unavailable`]: no such model.
    pub fn reach(&self, asked: &str) -> Result<Reached, Unavailable> {
        let name = self.catalog().resolve(asked)?;
        let mut state = self.lock();
        if let Some(Entry::Loaded(engine)) = state.models.get(&name) {
            return Ok(Reached::Loaded(engine.clone()));
        }
        Ok(Reached::Waiting(self.join_or_start(&mut state, &name)?))
    }

    /// The model called `asked`, loaded if need be. Counts as no use of it.
    ///
    /// # Errors
    /// [`Unavailable`]: no such model, or why it could not be loaded.
    pub async fn engine(&self, asked: &str) -> Result<Engine, Unavailable> {
        loop {
            let mut load = match self.reach(asked)? {
                Reached::Loaded(engine) => return Ok(engine),
                Reached::Waiting(load) => load,
            };
            loop {
                match load.next().await {
                    Phase::Loading(_) => {}
                    Phase::Ready => break,
                    Phase::Failed(reason) => return Err(reason),
                }
            }
        }
    }

    /// A request to the loaded model called `name` says for how long that is to stay loaded afterwards; `None` leaves it to the settings.
    /// The last request decides.
    pub fn keep(&self, name: &str, keep_alive: Option<KeepAlive>) {
        let mut state = self.lock();
        let before = match keep_alive {
            Some(keep_alive) => state.kept.insert(name.to_owned(), keep_alive),
            None => state.kept.remove(name),
        };
        drop(state);
        if before != keep_alive {
            self.0.kept.notify_one();
        }
    }

    fn join_or_start(&self, state: &mut State, name: &str) -> Result<Load, Unavailable> {
        if state.stopped {
            return Err(Unavailable::Stopping);
        }
        if let Some(Entry::Loading { load, .. }) = state.models.get(name) {
            return Ok(load.joined());
        }
        let found = self.catalog().find(name)?;
        let (load, cancel) = load::start(self, found);
        state.models.insert(name.to_owned(), Entry::Loading { load: load.joined(), cancel });
        Ok(load)
    }

    /// The loaded models at a glance, by name.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.lock().engines().map(Engine::snapshot).collect()
    }

    /// Names of the loaded models.
    pub fn loaded(&self) -> Vec<String> {
        self.lock().engines().map(|engine| engine.name().to_owned()).collect()
    }

    /// Names of the models being loaded.
    pub fn loading(&self) -> Vec<String> {
        let state = self.lock();
        let loading = state.models.iter().filter(|(_, entry)| matches!(entry, Entry::Loading { .. }));
        loading.map(|(name, _)| name.clone()).collect()
    }

    /// Which file each loaded model was loaded from: its length and the time of its last change.
    pub fn versions(&self) -> BTreeMap<String, String> {
        let state = self.lock();
        let known = state.engines().filter_map(|engine| state.versions.get_key_value(engine.name()));
        known.map(|(name, version)| (name.clone(), version.clone())).collect()
    }

    /// How many requests each model has taken since the program's start.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.lock().counts.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn engines(&self) -> impl Iterator<Item = &Engine> {
        self.models.values().filter_map(|entry| match entry {
            Entry::Loaded(engine) => Some(engine),
            Entry::Loading { .. } => None,
        })
    }

    fn taken(
        &mut self,
        model: String,
        context: usize,
        outcome: Result<Generation, SubmitError>,
    ) -> Result<Submission, Unavailable> {
        if matches!(outcome, Err(SubmitError::Stopped)) {
            // Its thread died: a model that panicked must not stay out of reach for ever.
            self.models.remove(&model);
        }
        let generation = outcome?;
        *self.counts.entry(model.clone()).or_default() += 1;
        Ok(Submission::Taken(Taken { model, context, generation }))
    }
}
