//! Where texts become tokens: two threads beside the model's, so that a text of megabytes, which takes seconds, holds up no stream.
//!
//! Requests pass through one of them on their way to the model; questions about the vocabulary, which have no limit but the body's, are
//! answered by the other. A prompt that cannot fit is refused by its bytes before anybody divides it.

use std::sync::Arc;
use std::thread::{self, JoinHandle, Thread};

use tokio::sync::mpsc;

use crate::command::{Job, Question};
use crate::control::Interrupt;
use crate::embedding::Order;
use crate::{EmbeddingInput, Failure, LoadError, ModelInfo, Prompt, Token};

/// A model's vocabulary, which may be asked from any thread while the model computes.
pub trait Vocabulary: Send + Sync {
    /// The prompt's tokens, begun as the model wants it.
    fn tokenize(&self, prompt: &Prompt) -> Vec<Token>;

    /// The text's tokens as it stands by itself, begun and ended as the model wants it; nothing in it is a control token.
    fn tokenize_whole(&self, text: &str) -> Vec<Token>;

    /// Appends the token's bytes, which need not be whole characters. Control tokens have none unless `special` is set.
    fn piece(&self, token: Token, special: bool, out: &mut Vec<u8>);

    /// Bytes of the longest token: a text has no fewer tokens than its bytes divided by this.
    fn longest(&self) -> usize;
}

/// The threads. Dropping this ends them.
#[derive(Debug)]
pub(crate) struct Desk {
    threads: Vec<JoinHandle<()>>,
    interrupt: Interrupt,
}

/// Its work.
pub(crate) struct Work {
    pub(crate) vocabulary: Arc<dyn Vocabulary>,
    pub(crate) info: ModelInfo,
    pub(crate) jobs: mpsc::Receiver<Job>,
    pub(crate) questions: mpsc::Receiver<Question>,
    /// Where requests go on to, and whom to wake then.
    pub(crate) ready: mpsc::Sender<Job>,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) model: Thread,
}

impl Desk {
    pub(crate) fn open(work: Work, interrupt: Interrupt) -> Result<Self, LoadError> {
        let Work { vocabulary, info, jobs, questions, ready, orders, model } = work;
        let clerk = Arc::new(Clerk { vocabulary, info, ready, orders, model });
        let mut desk = Self { threads: Vec::new(), interrupt };
        let (prompts, answers) = (Arc::clone(&clerk), clerk);
        desk.spawn("prompts", jobs, move |job| prompts.pass_on(job))?;
        desk.spawn("answers", questions, move |question| answers.answer(question))?;
        Ok(desk)
    }

    fn spawn<T: Send + 'static>(
        &mut self,
        name: &str,
        mut from: mpsc::Receiver<T>,
        take: impl Fn(T) + Send + 'static,
    ) -> Result<(), LoadError> {
        let interrupt = self.interrupt.clone();
        let serve = move || {
            while !interrupt.is_stopping() {
                from.try_recv().map_or_else(|_| thread::park(), &take);
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(serve);
        self.threads.push(thread.map_err(|error| LoadError::Thread { reason: error.to_string() })?);
        Ok(())
    }

    /// Whom to wake when there is something in the mail.
    pub(crate) fn threads(&self) -> Vec<Thread> {
        self.threads.iter().map(|thread| thread.thread().clone()).collect()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.interrupt.stop();
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // Of a panic the log has been told.
            drop(thread.join());
        }
    }
}

struct Clerk {
    vocabulary: Arc<dyn Vocabulary>,
    info: ModelInfo,
    ready: mpsc::Sender<Job>,
    orders: mpsc::Sender<Order>,
    model: Thread,
}

impl Clerk {
    fn pass_on(&self, mut job: Job) {
        let (bytes, longest, context) = (job.request.prompt.len(), self.vocabulary.longest(), self.info.context);
        let least = bytes / longest.max(1);
        if least >= context {
            return job.refuse(Failure::ContextOverflow { prompt_tokens: least, context });
        }
        if !job.outlet.is_closed() {
            job.tokens = self.vocabulary.tokenize(&job.request.prompt);
        }
        // There are as many places as permits; closed means that the engine has ended, which the job's caller hears by its end.
        drop(self.ready.try_send(job));
        self.model.unpark();
    }

    fn answer(&self, question: Question) {
        match question {
            Question::Embed { inputs, answer, permit } => {
                let Some(texts) = self.divide(inputs, || answer.is_closed()) else { return };
                // Every order has a permit, and there is a place for each.
                drop(self.orders.try_send(Order { texts, answer, permit }));
                self.model.unpark();
            }
            Question::Tokenize { prompt, answer } => drop(answer.send(self.vocabulary.tokenize(&prompt))),
            Question::Lengths { prompts, answer } => {
                let mut all = 0_usize;
                let mut length = |prompt: &Prompt| {
                    let fits = all < self.info.context;
                    let tokens = if fits { self.vocabulary.tokenize(prompt).len() } else { usize::MAX };
                    all = all.saturating_add(tokens);
                    tokens
                };
                drop(answer.send(prompts.iter().map(&mut length).collect()));
            }
            Question::Detokenize { tokens, answer } => {
                let mut bytes = Vec::new();
                tokens.into_iter().for_each(|token| self.vocabulary.piece(token, true, &mut bytes));
                drop(answer.send(bytes));
            }
        }
    }

    // `None` where the caller went meanwhile.
    fn divide(&self, inputs: Vec<EmbeddingInput>, gone: impl Fn() -> bool) -> Option<Vec<Vec<Token>>> {
        let divided = |input| match input {
            _ if gone() => None,
            EmbeddingInput::Text(text) if text.is_empty() => Some(Vec::new()),
            EmbeddingInput::Text(text) => Some(self.vocabulary.tokenize_whole(&text)),
            EmbeddingInput::Tokens(tokens) => Some(tokens),
        };
        inputs.into_iter().map(divided).collect()
    }
}
