//! The state machine over the scripted model, without a thread: every step is one call.

mod adapters;
mod callers;
mod drafts;
mod ends;
mod faults;
mod logprobs;
mod order;
mod reuse;

use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::*;
use crate::scripted::{Script, ScriptedModel};
use crate::{Completion, Event, Generation, Interrupt, LoadControl, Prompt, Request};

const LIMITS: Limits = Limits { slots: 2, queue: 2, chunk_tokens: 16, prefix_bytes: 0, draft_tokens: 0 };
const DRAFTING: Limits = Limits { draft_tokens: 8, ..LIMITS };

struct Rig {
    scheduler: Scheduler<ScriptedModel>,
    places: Arc<Semaphore>,
    interrupt: Interrupt,
    script: Script,
}

impl Rig {
    fn new(script: Script, limits: Limits) -> Self {
        let interrupt = Interrupt::default();
        let control = LoadControl::new(limits, interrupt.clone(), watch::channel(0.0).0);
        let model = ScriptedModel::load(script.clone(), &control).unwrap();
        let counters = Arc::new(Counters::new(Instant::now()));
        let scheduler = Scheduler::new(model, limits, counters, interrupt.clone(), Instant::now);
        Self { scheduler, places: Arc::new(Semaphore::new(limits.slots + limits.queue)), interrupt, script }
    }

    fn submit(&mut self, request: Request) -> Generation {
        self.submit_at(request, Instant::now())
    }

    fn submit_at(&mut self, request: Request, submitted: Instant) -> Generation {
        let permit = Arc::clone(&self.places).try_acquire_owned().expect("a free place");
        let (outlet, generation) = Outlet::open(thread::current(), self.interrupt.clone());
        let tokens = self.scheduler.vocabulary().tokenize(&request.prompt);
        self.scheduler.submit(Job { request, outlet, tokens, submitted, permit });
        generation
    }

    // Steps, reading all the time, until every generation has ended.
    fn finish(&mut self, generations: &mut [(Generation, Heard)]) {
        for _ in 0..10_000 {
            self.interrupt.clear_step();
            let step = self.scheduler.step();
            let read = generations.iter_mut().map(|(generation, heard)| heard.listen(generation)).sum::<usize>();
            if step == Step::Idle && read == 0 {
                return;
            }
        }
        panic!("the scheduler does not come to rest");
    }

    fn run(&mut self, request: Request) -> Heard {
        let generation = self.submit(request);
        let mut all = [(generation, Heard::default())];
        self.finish(&mut all);
        let [(_, heard)] = all;
        heard
    }

    fn active(&self) -> usize {
        self.scheduler.counters.active()
    }

    // How many entries of each batch belong to each of the two sequences.
    fn shape(&self) -> Vec<[usize; 2]> {
        let count = |batch: &Batch, n| batch.entries.iter().filter(|entry| entry.sequence == Sequence(n)).count();
        self.script.batches().iter().map(|batch| [count(batch, 0), count(batch, 1)]).collect()
    }
}

#[derive(Debug, Default)]
struct Heard {
    text: String,
    progress: Vec<(usize, usize)>,
    logprobs: Vec<TokenLogprob>,
    end: Option<Result<Completion, Failure>>,
}

impl Heard {
    fn listen(&mut self, generation: &mut Generation) -> usize {
        let mut count = 0;
        while let Some(event) = generation.try_next() {
            count += 1;
            assert!(self.end.is_none(), "an event after the end: {event:?}");
            match event {
                Event::Progress { processed, total } => self.progress.push((processed, total)),
                Event::Text { text, .. } => {
                    assert!(!text.is_empty());
                    self.text += &text;
                }
                Event::Logprobs(mut tokens) => {
                    assert!(!tokens.is_empty());
                    self.logprobs.append(&mut tokens);
                }
                Event::Done(completion) => self.end = Some(Ok(completion)),
                Event::Failed(failure) => self.end = Some(Err(failure)),
            }
        }
        count
    }

    fn completion(&self) -> &Completion {
        self.end.as_ref().expect("an end").as_ref().expect("a completion")
    }

    fn failure(&self) -> &Failure {
        self.end.as_ref().expect("an end").as_ref().expect_err("a failure")
    }
}

fn request(prompt: &str) -> Request {
    Request::new(Prompt::plain(prompt))
}

fn prompt_of(length: usize) -> String {
    "p".repeat(length - 1)
}
