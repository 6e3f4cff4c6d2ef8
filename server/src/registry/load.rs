//! One load: unpacks the file if need be, makes room, starts the engine, tells everybody who waits how far it is, and what came of it.
//!
//! A load goes on when those who asked for it have left: the next request finds the model there, and idle unloading takes
//! care of one that nobody wants. It is given up when the model is unloaded meanwhile or the program stops.

use std::path::Path;

use cerebrum_engine::Engine;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Entry, Found, Inner, Registry, Unavailable, occupancy};
use crate::models::{Folder, ModelError, Package};

/// How far a load is.
#[derive(Clone, Debug)]
pub enum Phase {
    /// In progress, 0 to 1.
    Loading(f32),
    /// The model takes requests.
    Ready,
    /// It could not be loaded; another request tries again.
    Failed(Unavailable),
}

/// One waiter's view of a load.
#[derive(Debug)]
pub struct Load(watch::Receiver<Phase>);

impl Load {
    /// The newest phase that this waiter has not seen yet; the present one at first. Cancel-safe.
    pub async fn next(&mut self) -> Phase {
        match self.0.changed().await {
            Ok(()) => self.0.borrow_and_update().clone(),
            // The task was dropped in mid-load, which only the end of the program does.
            Err(_) => Phase::Failed(Unavailable::Stopping),
        }
    }

    /// Another waiter.
    pub(super) fn joined(&self) -> Self {
        let mut receiver = self.0.clone();
        receiver.mark_changed();
        Self(receiver)
    }
}

/// Starts a load. The caller holds the registry's lock and enters it there.
pub(super) fn start(registry: &Registry, found: Found) -> (Load, CancellationToken) {
    let (publish, mut phase) = watch::channel(Phase::Loading(0.0));
    phase.mark_changed();
    let cancel = CancellationToken::new();
    let (registry, cancelled) = (registry.clone(), cancel.clone());
    registry.0.parts.tasks.clone().spawn(async move {
        let outcome = registry.attempt(&found, &publish, &cancelled).await;
        publish.send_replace(registry.finish(&found, outcome, &cancelled));
    });
    (Load(phase), cancel)
}

impl Registry {
    async fn attempt(
        &self,
        found: &Found,
        publish: &watch::Sender<Phase>,
        cancelled: &CancellationToken,
    ) -> Result<Engine, Unavailable> {
        tokio::select! {
            biased;
            () = cancelled.cancelled() => Err(Unavailable::Unloaded { model: found.name.clone() }),
            () = self.0.parts.tasks.stopping() => Err(Unavailable::Stopping),
            outcome = self.load(found, publish) => outcome,
        }
    }

    async fn load(&self, found: &Found, publish: &watch::Sender<Phase>) -> Result<Engine, Unavailable> {
        let done = if found.packed { UNPACKING } else { 0.0 };
        let found = &unpacked(found, publish).await?;
        let _turn = self.0.turn.lock().await;
        self.make_room(found).await?;
        tracing::info!(model = %found.name, mib = found.bytes >> 20, "loading");
        let version = version(&found.path);
        self.lock().versions.remove(&found.name);
        let starting = (self.0.parts.starter)(found);
        let progress = starting.progress();
        tokio::select! {
            loaded = starting.loaded() => {
                let engine = loaded?;
                // A file that changed meanwhile may have been read before or after.
                if let Some(version) = version.filter(|before| self::version(&found.path).as_ref() == Some(before)) {
                    self.lock().versions.insert(found.name.clone(), version);
                }
                Ok(engine)
            }
            never = pass_on(progress, publish, done) => match never {},
        }
    }

    /// Unloads idle models, the least recently used first, until there is memory for `found`.
    async fn make_room(&self, found: &Found) -> Result<(), Unavailable> {
        let Inner { parts, .. } = &*self.0;
        let cache = (parts.cache)(found);
        let needed = occupancy::needs(found.bytes, cache, parts.min_free_ram);
        loop {
            let free = occupancy::free((parts.memory)(), &self.snapshots());
            if free >= needed {
                return Ok(());
            }
            let Some(engine) = self.take_least_recent() else {
                return Err(Unavailable::Memory { model: found.name.clone(), needed, free });
            };
            tracing::info!(model = engine.name(), "unloading to make room for {}", found.name);
            engine.shut_down().await;
        }
    }

    /// Enters the model, or takes its load out, before anybody hears of it. An unload in between wins.
    fn finish(&self, found: &Found, outcome: Result<Engine, Unavailable>, cancelled: &CancellationToken) -> Phase {
        let mut state = self.lock();
        if cancelled.is_cancelled() {
            // The entry is gone already, or belongs to the next load.
            return Phase::Failed(Unavailable::Unloaded { model: found.name.clone() });
        }
        match outcome {
            Ok(engine) => {
                state.models.insert(found.name.clone(), Entry::Loaded(engine));
                // What was said of it was said of its last stay.
                state.kept.remove(&found.name);
                Phase::Ready
            }
            Err(reason) => {
                state.models.remove(&found.name);
                tracing::warn!(model = %found.name, %reason, "not loaded");
                Phase::Failed(reason)
            }
        }
    }
}

/// What tells a file from another one that takes its place.
fn version(path: &Path) -> Option<String> {
    let file = path.metadata().ok()?;
    let changed = file.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(format!("{}-{}", file.len(), changed.as_nanos()))
}

/// The weights of a package, next to it, from where all later loads take them. Without whoever waits, it is given up.
async fn unpacked(found: &Found, publish: &watch::Sender<Phase>) -> Result<Found, Unavailable> {
    if !found.packed {
        return Ok(found.clone());
    }
    tracing::info!(model = %found.name, mib = found.bytes >> 20, "unpacking");
    let given_up = CancellationToken::new();
    let _guard = given_up.clone().drop_guard();
    let (packed, publish) = (found.clone(), publish.clone());
    let work = tokio::task::spawn_blocking(move || {
        let folder = Folder::new(packed.path.parent().unwrap_or(Path::new(".")));
        let name = packed.name.parse()?;
        let mut report = |done: u64, all: u64| {
            publish.send_replace(Phase::Loading(UNPACKING * done as f32 / all.max(1) as f32));
            !given_up.is_cancelled()
        };
        let manifest = Package::open(&packed.path)?.unpack(&packed.path, &folder, &name, &mut report)?;
        Ok(Found { path: folder.gguf(&name), bytes: manifest.bytes, packed: false, ..packed })
    });
    match work.await {
        Ok(outcome) => outcome.map_err(|error: ModelError| Unavailable::Unpack(error.into())),
        // The runtime ends.
        Err(_) => Err(Unavailable::Stopping),
    }
}

/// Of a load that begins with unpacking, the share that this is: it reads and writes all bytes, the rest maps them.
const UNPACKING: f32 = 0.8;

async fn pass_on(
    mut progress: watch::Receiver<f32>,
    publish: &watch::Sender<Phase>,
    done: f32,
) -> std::convert::Infallible {
    while progress.changed().await.is_ok() {
        publish.send_replace(Phase::Loading(done + (1.0 - done) * *progress.borrow_and_update()));
    }
    // The loader has finished reporting; its result comes by the other way.
    std::future::pending().await
}
