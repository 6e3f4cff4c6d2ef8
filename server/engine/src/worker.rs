//! The model's thread from load to free: takes the mail, lets the scheduler take steps, sleeps when there is nothing to do.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use crate::command::{Job, Question};
use crate::control::LoadControl;
use crate::embedding::Embedder;
use crate::handle::Mailbox;
use crate::scheduler::{Counters, Scheduler, Step};
use crate::{LoadError, Model};

/// Loads the model, hands out its mailbox and serves until stopped.
pub(crate) fn run<M, L>(control: &LoadControl, load: L, loaded: oneshot::Sender<Result<Mailbox, LoadError>>)
where
    M: Model,
    L: FnOnce(&LoadControl) -> Result<M, LoadError>,
{
    // Dropped after everything else here, the model included: its end is how `shut_down` knows.
    let (_alive, alive) = watch::channel(());
    let model = match load(control) {
        Ok(model) => model,
        Err(error) => return answer(loaded, Err(error)),
    };
    control.report(1.0);
    let file = model.prefix_file();
    let (mut worker, mailbox) = Worker::new(model, control, alive);
    if let Some(file) = &file {
        worker.scheduler.take_in(file.read());
    }
    answer(loaded, Ok(mailbox));
    worker.serve(control);
    if let Some(file) = &file {
        file.write(worker.scheduler.give_out());
    }
}

struct Worker<M: Model> {
    scheduler: Scheduler<M>,
    jobs: mpsc::Receiver<Job>,
    questions: mpsc::Receiver<Question>,
    embedder: Embedder,
    counters: Arc<Counters>,
}

impl<M: Model> Worker<M> {
    fn new(model: M, control: &LoadControl, alive: watch::Receiver<()>) -> (Self, Mailbox) {
        let limits = control.limits();
        let (jobs_in, jobs) = mpsc::channel(limits.slots + limits.queue);
        let (questions_in, questions) = mpsc::channel(QUESTION_PLACES);
        let counters = Arc::new(Counters::new(Instant::now()));
        let scheduler = Scheduler::new(model, limits, Arc::clone(&counters), control.interrupt(), Instant::now);
        let info = scheduler.model().info();
        let worker =
            Self { scheduler, jobs, questions, embedder: Embedder::default(), counters: Arc::clone(&counters) };
        (worker, Mailbox { info, jobs: jobs_in, questions: questions_in, counters, alive })
    }

    fn serve(&mut self, control: &LoadControl) {
        let interrupt = control.interrupt();
        let mut embedding = false;
        while !interrupt.is_stopping() {
            self.take_mail();
            let step = self.scheduler.step();
            // A chunk of each in turn: neither waits for more than one of the other's.
            if self.embedder.step(self.scheduler.model_mut(), &self.counters) {
                embedding = true;
                continue;
            }
            if step == Step::Idle {
                // Submitting, reading an event, cancelling and stopping all unpark; one that comes before this line is remembered.
                match (self.scheduler.has_queue(), embedding) {
                    (true, _) => thread::park_timeout(QUEUE_LOOK),
                    (false, true) => embedding = !self.rested(),
                    (false, false) => thread::park(),
                }
            }
        }
        // Nobody is to wait for the writing of files.
        self.scheduler.end();
        // The rest happens by dropping: every job left, here or in the channel, ends its caller's stream with `Failed(Stopped)`.
    }

    // Texts often come one after the other, and making a context for each would take longer than the text.
    fn rested(&mut self) -> bool {
        let begun = Instant::now();
        thread::park_timeout(EMBEDDER_STAYS);
        let long = begun.elapsed() >= EMBEDDER_STAYS;
        if long {
            self.scheduler.model_mut().rest();
        }
        long
    }

    fn take_mail(&mut self) {
        while let Ok(job) = self.jobs.try_recv() {
            self.scheduler.submit(job);
        }
        while let Ok(question) = self.questions.try_recv() {
            self.answer(question);
        }
    }

    fn answer(&mut self, question: Question) {
        let model = self.scheduler.model();
        match question {
            Question::Embed(order) => self.embedder.submit(order),
            Question::Tokenize { prompt, answer: to } => answer(to, model.tokenize(&prompt)),
            Question::Detokenize { tokens, answer: to } => {
                let mut bytes = Vec::new();
                tokens.into_iter().for_each(|token| model.piece(token, true, &mut bytes));
                answer(to, bytes);
            }
        }
    }
}

/// Sends an answer unless whoever asked has gone, which is their right.
fn answer<T>(to: oneshot::Sender<T>, value: T) {
    drop(to.send(value));
}

/// While all slots are paused by their readers: how often to see whether somebody has waited long enough.
const QUEUE_LOOK: Duration = Duration::from_millis(100);
/// What only embeddings need stays for so long after the last.
const EMBEDDER_STAYS: Duration = Duration::from_secs(20);
/// Tokenise questions that may wait between two steps; more wait in their callers.
const QUESTION_PLACES: usize = 8;
