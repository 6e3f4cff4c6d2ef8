//! One load: makes room, starts the engine, tells everybody who waits how far it is, and what came of it.
//!
//! A load goes on when those who asked for it have left: the next request finds the model there, and idle unloading takes
//! care of one that nobody wants. It is given up when the model is unloaded meanwhile or the program stops.

use cerebrum_engine::Engine;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Entry, Found, Inner, Registry, Unavailable, occupancy};

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
        let _turn = self.0.turn.lock().await;
        self.make_room(found).await?;
        tracing::info!(model = %found.name, mib = found.bytes >> 20, "loading");
        let starting = (self.0.parts.starter)(found);
        let progress = starting.progress();
        tokio::select! {
            loaded = starting.loaded() => Ok(loaded?),
            never = pass_on(progress, publish) => match never {},
        }
    }

    /// Unloads idle models, the least recently used first, until there is memory for `found`.
    async fn make_room(&self, found: &Found) -> Result<(), Unavailable> {
        let Inner { parts, .. } = &*self.0;
        let needed = occupancy::needs(found.bytes).max(parts.min_free_ram);
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

async fn pass_on(mut progress: watch::Receiver<f32>, publish: &watch::Sender<Phase>) -> std::convert::Infallible {
    while progress.changed().await.is_ok() {
        publish.send_replace(Phase::Loading(*progress.borrow_and_update()));
    }
    // The loader has finished reporting; its result comes by the other way.
    std::future::pending().await
}
