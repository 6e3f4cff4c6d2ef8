//! A model being loaded: its progress, and the engine once it is there.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::{oneshot, watch};

use crate::control::{Interrupt, LoadControl};
use crate::handle::{Inner, Mailbox};
use crate::{Engine, Limits, LoadError, Model, worker};

/// A load in progress. Dropping it gives the load up at the loader's next progress report.
#[derive(Debug)]
pub struct Starting {
    name: String,
    limits: Limits,
    progress: watch::Receiver<f32>,
    ready: oneshot::Receiver<Result<Mailbox, LoadError>>,
    // In an option because it leaves for the engine while `Drop` guards the rest.
    guard: Option<(Interrupt, JoinHandle<()>)>,
}

impl Starting {
    pub(crate) fn spawn<M, L>(name: String, limits: Limits, load: L) -> Self
    where
        M: Model,
        L: FnOnce(&LoadControl) -> Result<M, LoadError> + Send + 'static,
    {
        let interrupt = Interrupt::default();
        let (report, progress) = watch::channel(0.0);
        let (loaded, ready) = oneshot::channel();
        let limits = Limits { slots: limits.slots.max(1), chunk_tokens: limits.chunk_tokens.max(1), ..limits };
        let control = LoadControl::new(limits, interrupt.clone(), report);
        let thread = thread::Builder::new().name(format!("model-{name}")).stack_size(STACK);
        let guard = match thread.spawn(move || worker::run(&control, load, loaded)) {
            Ok(thread) => Some((interrupt, thread)),
            Err(reason) => {
                tracing::error!(%reason, "no thread for a model");
                None
            }
        };
        Self { name, limits, progress, ready, guard }
    }

    /// How far the load is, from 0 to 1. The receiver outlives this value and may be given to all who wait.
    pub fn progress(&self) -> watch::Receiver<f32> {
        self.progress.clone()
    }

    /// Waits for the model.
    pub async fn loaded(mut self) -> Result<Engine, LoadError> {
        let died = || LoadError::Thread { reason: "it ended before the model was there".to_owned() };
        let mailbox = (&mut self.ready).await.map_err(|_| died())??;
        let (interrupt, thread) = self.guard.take().ok_or_else(died)?;
        let name = std::mem::take(&mut self.name);
        Ok(Engine::new(Arc::new(Inner::new(name, self.limits, mailbox, interrupt, thread))))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some((interrupt, thread)) = self.guard.take() {
            interrupt.stop();
            thread.thread().unpark();
        }
    }
}

/// What a thread of C has by default; llama.cpp's grammars recurse.
const STACK: usize = 8 << 20;
