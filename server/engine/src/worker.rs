//! The model's thread from load to free: takes the mail, lets the scheduler take steps, sleeps when there is nothing to do.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use crate::command::Job;
use crate::control::LoadControl;
use crate::desk::{self, Desk};
use crate::embedding::{Embedder, Order};
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
    let opened = Worker::new(model, control, alive);
    let (mut worker, mailbox) = match opened {
        Ok(opened) => opened,
        Err(error) => return answer(loaded, Err(error)),
    };
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
    // Before its vocabulary goes, and with an end to what it still has.
    _desk: Desk,
    jobs: mpsc::Receiver<Job>,
    orders: mpsc::Receiver<Order>,
    embedder: Embedder,
    counters: Arc<Counters>,
}

impl<M: Model> Worker<M> {
    fn new(model: M, control: &LoadControl, alive: watch::Receiver<()>) -> Result<(Self, Mailbox), LoadError> {
        let limits = control.limits();
        let places = limits.slots + limits.queue;
        let (jobs_in, asked) = mpsc::channel(places);
        let (ready, jobs) = mpsc::channel(places);
        let (orders_in, orders) = mpsc::channel(places);
        let (questions_in, questions) = mpsc::channel(QUESTION_PLACES);
        let counters = Arc::new(Counters::new(Instant::now()));
        let scheduler = Scheduler::new(model, limits, Arc::clone(&counters), control.interrupt(), Instant::now);
        let info = scheduler.info().clone();
        let desk = desk::Work {
            vocabulary: scheduler.vocabulary(),
            info: info.clone(),
            jobs: asked,
            questions,
            ready,
            orders: orders_in,
            model: thread::current(),
        };
        let desk = Desk::open(desk, control.interrupt())?;
        let mailbox = Mailbox {
            info,
            jobs: jobs_in,
            questions: questions_in,
            counters: Arc::clone(&counters),
            desk: desk.threads(),
            alive,
        };
        Ok((Self { scheduler, _desk: desk, jobs, orders, embedder: Embedder::default(), counters }, mailbox))
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
        while let Ok(order) = self.orders.try_recv() {
            self.embedder.submit(order);
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
/// Questions about the vocabulary that may wait; more wait in their callers.
const QUESTION_PLACES: usize = 8;
