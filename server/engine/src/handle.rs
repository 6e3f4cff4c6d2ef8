//! The asynchronous side of a loaded model: [`Engine`], a cheap clone of a mailbox to the model's thread.
//!
//! Owns the admission (a semaphore of slots plus queue places) and the end of the thread. Never blocks, never touches the model.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::command::{Job, Question};
use crate::control::{Interrupt, LoadControl};
use crate::generation::{Generation, Outlet};
use crate::scheduler::Counters;
use crate::{
    EmbeddingError, EmbeddingInput, Embeddings, Limits, LoadError, Model, ModelInfo, Prompt, Request, Starting,
    Stopped, SubmitError, Token,
};

/// A loaded model. Clones share it; when the last is dropped, the thread ends by itself and frees the model.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Inner>);

/// What an engine is doing, at a glance.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The name given at start.
    pub name: String,
    /// Requests that can be generated at the same time.
    pub slots: usize,
    /// Slots in use.
    pub active: usize,
    /// Requests waiting for a slot.
    pub queued: usize,
    /// Tokens generated since the start.
    pub tokens_generated: u64,
    /// Requests that left their slot, complete or not.
    pub requests: u64,
    /// When a token was last computed for a request, or when the model was loaded. Nothing else moves it.
    pub last_used: Instant,
    /// Bytes of the weights.
    pub model_bytes: u64,
    /// Host memory that evicted prefixes take.
    pub stored_bytes: usize,
    /// Tokens that were guessed ahead and computed.
    pub drafted: u64,
    /// Those of them that were right: tokens that did not cost a step.
    pub drafts_accepted: u64,
    /// Tokens that prompt and answer of one request may have together.
    pub context: usize,
}

impl Engine {
    /// Starts a thread that loads a model and then serves it.
    ///
    /// The loader runs on that thread; the model is made, used and dropped there. `Limits` of zero slots or chunk tokens mean one.
    pub fn start<M, L>(name: impl Into<String>, limits: Limits, load: L) -> Starting
    where
        M: Model,
        L: FnOnce(&LoadControl) -> Result<M, LoadError> + Send + 'static,
    {
        Starting::spawn(name.into(), limits, load)
    }

    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    /// The name given at start.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What the model is.
    pub fn info(&self) -> &ModelInfo {
        &self.0.mailbox.info
    }

    /// The limits given at start.
    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    /// Takes the request or refuses it at once. What depends on its tokens (an empty or over-long prompt) is found on the model's threads
    /// and arrives as the stream's only event.
    pub fn submit(&self, request: Request) -> Result<Generation, SubmitError> {
        request.check()?;
        let Ok(permit) = Arc::clone(&self.0.places).try_acquire_owned() else { return Err(self.full()) };
        let (outlet, generation) = Outlet::open(self.0.thread.clone(), self.0.interrupt.clone());
        let job = Job { request, outlet, tokens: Vec::new(), submitted: Instant::now(), permit };
        // There are as many places in the channel as permits, so it can be closed but not full.
        self.0.mailbox.jobs.try_send(job).map_err(|_| SubmitError::Stopped)?;
        self.0.mailbox.wake();
        Ok(generation)
    }

    fn full(&self) -> SubmitError {
        let Limits { slots, queue, .. } = self.0.limits;
        let counters = &self.0.mailbox.counters;
        let ahead = self.0.taken().saturating_sub(counters.active());
        SubmitError::QueueFull { slots, queue, free_in: counters.free_in(slots, ahead) }
    }

    /// The prompt's tokens, exactly as a generation would see them.
    pub async fn tokenize(&self, prompt: Prompt) -> Result<Vec<Token>, Stopped> {
        self.ask(|answer| Question::Tokenize { prompt, answer }).await
    }

    /// How many tokens each of these prompts has, as far as they fit into the context together; of those after them, the most.
    pub async fn lengths(&self, prompts: Vec<Prompt>) -> Result<Vec<usize>, Stopped> {
        self.ask(|answer| Question::Lengths { prompts, answer }).await
    }

    /// The bytes of these tokens, control tokens included; not necessarily whole characters. Unknown tokens have none.
    pub async fn detokenize(&self, tokens: Vec<Token>) -> Result<Vec<u8>, Stopped> {
        self.ask(|answer| Question::Detokenize { tokens, answer }).await
    }

    /// The texts as vectors. Takes a place among the engine's requests until it has ended; dropping the future ends it within a step.
    ///
    /// # Errors
    /// [`EmbeddingError`].
    pub async fn embed(&self, inputs: Vec<EmbeddingInput>) -> Result<Embeddings, EmbeddingError> {
        let permit = Arc::clone(&self.0.places).try_acquire_owned().map_err(|_| EmbeddingError::Full)?;
        let answer = self.ask(|answer| Question::Embed { inputs, answer, permit }).await;
        answer.unwrap_or(Err(EmbeddingError::Stopped))
    }

    /// What the engine is doing now.
    pub fn snapshot(&self) -> Snapshot {
        let counters = &self.0.mailbox.counters;
        let (drafted, drafts_accepted) = counters.drafts();
        Snapshot {
            name: self.0.name.clone(),
            slots: self.0.limits.slots,
            active: counters.active(),
            // Every permit is a request either in a slot or waiting, in the channel or behind it.
            queued: self.0.taken().saturating_sub(counters.active()),
            tokens_generated: counters.tokens(),
            requests: counters.requests(),
            last_used: counters.last_used(),
            model_bytes: self.info().size_bytes,
            stored_bytes: counters.stored_bytes(),
            drafted,
            drafts_accepted,
            context: self.info().context,
        }
    }

    /// Ends all generations, frees the model and waits until the thread has ended. Any number of callers may wait.
    pub async fn shut_down(&self) {
        self.0.stop();
        self.stopped().await;
        let thread = self.0.join.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(_)) = thread.map(JoinHandle::join) {
            tracing::error!(model = %self.0.name, "the model's thread panicked");
        }
    }

    /// Waits until the thread has ended and the model is freed, for whatever reason.
    pub async fn stopped(&self) {
        let mut alive = self.0.mailbox.alive.clone();
        // Nothing is ever sent: the sender's end is the message.
        while alive.changed().await.is_ok() {}
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.0.mailbox.questions.send(question(answer)).await.map_err(|_| Stopped)?;
        self.0.mailbox.wake();
        answered.await.map_err(|_| Stopped)
    }
}

/// The senders to a model's thread, made by that thread once the model is loaded.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) info: ModelInfo,
    pub(crate) jobs: mpsc::Sender<Job>,
    pub(crate) questions: mpsc::Sender<Question>,
    pub(crate) counters: Arc<Counters>,
    /// Where jobs and questions go first.
    pub(crate) desk: Vec<Thread>,
    pub(crate) alive: watch::Receiver<()>,
}

impl Mailbox {
    fn wake(&self) {
        self.desk.iter().for_each(Thread::unpark);
    }
}

#[derive(Debug)]
pub(crate) struct Inner {
    name: String,
    limits: Limits,
    places: Arc<Semaphore>,
    mailbox: Mailbox,
    interrupt: Interrupt,
    thread: std::thread::Thread,
    join: Mutex<Option<JoinHandle<()>>>,
}

impl Inner {
    pub(crate) fn new(
        name: String,
        limits: Limits,
        mailbox: Mailbox,
        interrupt: Interrupt,
        join: JoinHandle<()>,
    ) -> Self {
        // A model may offer fewer sequences than were asked for.
        let limits = Limits { slots: limits.slots.min(mailbox.info.sequences), ..limits };
        let places = Arc::new(Semaphore::new(limits.slots + limits.queue));
        let thread = join.thread().clone();
        Self { name, limits, places, mailbox, interrupt, thread, join: Mutex::new(Some(join)) }
    }

    fn taken(&self) -> usize {
        (self.limits.slots + self.limits.queue).saturating_sub(self.places.available_permits())
    }

    fn stop(&self) {
        self.interrupt.stop();
        self.thread.unpark();
    }
}

impl Drop for Inner {
    // Not joined here: a destructor must not make an asynchronous caller wait. The thread ends within milliseconds.
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
