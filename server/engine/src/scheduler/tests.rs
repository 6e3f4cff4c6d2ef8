//! The state machine over the scripted model, without a thread: every step is one call.

use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::{Semaphore, watch};

use super::*;
use crate::generation::Outlet;
use crate::scripted::{Script, ScriptedModel};
use crate::{Completion, Event, Generation, Interrupt, LoadControl, Prompt, Request};

const LIMITS: Limits = Limits { slots: 2, queue: 2, chunk_tokens: 16, prefix_bytes: 0, draft_tokens: 0 };

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
        let scheduler = Scheduler::new(model, limits, counters, Instant::now);
        Self { scheduler, places: Arc::new(Semaphore::new(limits.slots + limits.queue)), interrupt, script }
    }

    fn submit(&mut self, request: Request) -> Generation {
        self.submit_at(request, Instant::now())
    }

    fn submit_at(&mut self, request: Request, submitted: Instant) -> Generation {
        let permit = Arc::clone(&self.places).try_acquire_owned().expect("a free place");
        let (outlet, generation) = Outlet::open(thread::current(), self.interrupt.clone());
        self.scheduler.submit(Job { request, outlet, submitted, permit });
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

#[test]
fn a_generation_gives_its_text_and_its_account() {
    let mut rig = Rig::new(Script::answering(|prompt| format!("«{prompt}» 🦀")), LIMITS);
    let heard = rig.run(request("déjà"));
    assert_eq!(heard.text, "«déjà» 🦀");
    let completion = heard.completion();
    assert_eq!((completion.finish, completion.prompt_tokens, completion.cached_tokens), (Finish::Stop, 7, 0));
    assert_eq!(completion.completion_tokens, "«déjà» 🦀".len());
    assert_eq!((rig.active(), rig.places.available_permits()), (0, 4));
    assert_eq!(rig.scheduler.counters.tokens(), completion.completion_tokens as u64);
}

#[test]
fn a_long_prompt_is_processed_in_chunks_and_sampled_once() {
    let mut rig = Rig::new(Script::saying("ab"), LIMITS);
    let heard = rig.run(request(&prompt_of(40)));
    assert_eq!(rig.shape(), [[16, 0], [16, 0], [8, 0], [1, 0], [1, 0]]);
    let outputs = |batch: &Batch| batch.entries.iter().filter(|entry| entry.output).count();
    assert_eq!(rig.script.batches().iter().map(outputs).collect::<Vec<_>>(), [0, 0, 1, 1, 1]);
    assert_eq!(heard.progress, [(0, 40), (16, 40), (32, 40), (40, 40)]);
}

#[test]
fn a_long_prompt_delays_a_neighbour_by_one_chunk_at_most() {
    let mut rig = Rig::new(Script::saying("x".repeat(30)), LIMITS);
    let first = rig.submit(request("a"));
    rig.scheduler.step();
    let second = rig.submit(request(&prompt_of(100)));
    rig.finish(&mut [(first, Heard::default()), (second, Heard::default())]);
    let shape = rig.shape();
    let during_prefill = &shape[1..8];
    assert_eq!(during_prefill.iter().map(|step| step[1]).sum::<usize>(), 100);
    // The neighbour gets its token in every one of these steps.
    assert!(during_prefill.iter().all(|step| step[0] == 1 && step[1] <= 16), "{shape:?}");
}

#[test]
fn a_short_prompt_does_not_wait_for_all_of_a_long_one() {
    let mut rig = Rig::new(Script::saying("x"), LIMITS);
    let long = rig.submit(request(&prompt_of(100)));
    let short = rig.submit(request(&"q".repeat(15)));
    rig.finish(&mut [(long, Heard::default()), (short, Heard::default())]);
    assert_eq!(rig.shape()[..3], [[8, 8], [8, 8], [16, 1]]);
}

#[test]
fn requests_beyond_the_slots_wait_in_order() {
    let mut rig = Rig::new(Script::answering(str::to_owned), LIMITS);
    let mut all: Vec<_> = ["1111", "22222222", "3", "4"].map(|p| (rig.submit(request(p)), Heard::default())).into();
    rig.scheduler.step();
    assert_eq!((rig.active(), rig.scheduler.queue.len()), (2, 2));
    rig.finish(&mut all);
    assert_eq!(all.iter().map(|(_, heard)| heard.text.as_str()).collect::<Vec<_>>(), ["1111", "22222222", "3", "4"]);
    assert_eq!((rig.active(), rig.places.available_permits()), (0, 4));
}

#[test]
fn the_more_urgent_goes_first() {
    let mut rig = Rig::new(Script::answering(str::to_owned), Limits { slots: 1, queue: 4, ..LIMITS });
    let with = |prompt: &str, priority| Request { priority, ..request(prompt) };
    let mut order = Vec::new();
    let mut all: Vec<_> = [
        ("w", Priority::WarmUp),
        ("first chat", Priority::Chat),
        ("second chat", Priority::Chat),
        ("infill", Priority::Infill),
    ]
    .map(|(prompt, priority)| (rig.submit(with(prompt, priority)), Heard::default()))
    .into();
    for _ in 0..100 {
        rig.scheduler.step();
        for (generation, heard) in &mut all {
            let before = heard.end.is_some();
            heard.listen(generation);
            if heard.end.is_some() && !before {
                order.push(heard.text.clone());
            }
        }
    }
    assert_eq!(order, ["infill", "first chat", "second chat", "w"]);
}

#[test]
fn an_infill_prompt_is_not_slowed_by_a_long_chat() {
    let mut rig = Rig::new(Script::saying("x"), LIMITS);
    let chat = rig.submit(request(&prompt_of(100)));
    let infill = rig.submit(Request { priority: Priority::Infill, ..request(&"q".repeat(31)) });
    rig.finish(&mut [(chat, Heard::default()), (infill, Heard::default())]);
    // The more urgent is admitted first too. What it leaves of a chunk is the chat's.
    assert_eq!(rig.shape()[..4], [[16, 0], [16, 0], [1, 16], [0, 16]]);
}

#[test]
fn a_warm_up_is_computed_only_when_nothing_else_is_and_gives_its_slot_away() {
    let mut rig = Rig::new(Script::saying("x".repeat(8)), Limits { slots: 1, ..LIMITS });
    let warm = Request { priority: Priority::WarmUp, max_tokens: 0, ..request(&prompt_of(64)) };
    let warm_up = rig.submit(warm.clone());
    rig.scheduler.step();
    let chat = rig.submit(request("hello"));
    let mut all = [(warm_up, Heard::default()), (chat, Heard::default())];
    rig.scheduler.step();
    assert_eq!((rig.active(), rig.scheduler.queue.len()), (1, 1), "it waits again");
    rig.finish(&mut all);
    assert_eq!(all[1].1.text, "x".repeat(8));
    assert_eq!((all[0].1.completion().prompt_tokens, all[0].1.text.as_str()), (64, ""));
    assert_eq!((rig.active(), rig.places.available_permits()), (0, 3));

    let mut rig = Rig::new(Script::saying("x".repeat(8)), LIMITS);
    let chat = rig.submit(request("hello"));
    rig.scheduler.step();
    let warm_up = rig.submit(warm);
    rig.finish(&mut [(chat, Heard::default()), (warm_up, Heard::default())]);
    let busy: Vec<_> = rig.shape().into_iter().take_while(|step| step[0] > 0).collect();
    assert!(busy.len() == 9 && busy.iter().all(|step| step[1] == 0), "{:?}", rig.shape());
}

#[test]
fn who_would_not_wait_longer_is_told_and_when_a_slot_may_be_free() {
    let mut rig = Rig::new(Script::saying("x".repeat(400)), Limits { slots: 1, ..LIMITS });
    rig.run(request("first"));
    let long = rig.submit(request("a"));
    rig.scheduler.step();
    let hasty = rig.submit(Request { patience: Some(Duration::ZERO), ..request("b") });
    let patient = rig.submit(Request { patience: Some(Duration::from_secs(3600)), ..request("c") });
    let mut all = [(long, Heard::default()), (hasty, Heard::default()), (patient, Heard::default())];
    rig.finish(&mut all);
    assert!(matches!(all[1].1.failure(), Failure::NoSlotInTime { free_in: Some(_), .. }), "{:?}", all[1].1);
    assert_eq!((all[0].1.text.len(), all[2].1.text.len()), (400, 400));
    assert_eq!(rig.places.available_permits(), 3);
}

#[test]
fn a_caller_who_goes_frees_the_slot_before_the_next_step_in_every_state() {
    // Steps before the caller goes: none (queued), one (prefill), four (decode), and after the end with events unread.
    for steps in [0, 1, 4, 20] {
        let mut rig = Rig::new(Script::saying("abcdef"), Limits { slots: 1, ..LIMITS });
        let generation = rig.submit(request(&prompt_of(40)));
        let stepped: Vec<_> = (0..steps).map(|_| rig.scheduler.step()).collect();
        assert!(steps == 20 || stepped.iter().all(|step| *step == Step::Computed));
        let computed = rig.script.batches().len();
        drop(generation);
        assert_eq!(rig.scheduler.step(), Step::Idle, "after {steps} steps");
        assert_eq!(rig.script.batches().len(), computed, "nothing is computed for nobody");
        assert_eq!((rig.active(), rig.places.available_permits()), (0, 3), "after {steps} steps");
        assert_eq!(rig.run(request("next")).text, "abcdef");
    }
}

#[test]
fn only_a_cancelled_prefill_interrupts_the_running_step() {
    let mut rig = Rig::new(Script::saying("abcdef"), LIMITS);
    let generation = rig.submit(request(&prompt_of(40)));
    rig.scheduler.step();
    drop(generation);
    assert!(rig.interrupt.is_raised());
    rig.interrupt.clear_step();
    let generation = rig.submit(request("a"));
    rig.scheduler.step();
    drop(generation);
    assert!(!rig.interrupt.is_raised());
}

#[test]
fn a_caller_who_does_not_read_pauses_only_its_own_slot() {
    let mut rig = Rig::new(Script::saying("x".repeat(200)), LIMITS);
    let mut lagging = rig.submit(request("a"));
    let reading = rig.submit(request("b"));
    let mut all = [(reading, Heard::default())];
    rig.finish(&mut all);
    assert_eq!(all[0].1.text.len(), 200);
    // At rest with one slot held, and no more computed than there is room for.
    assert_eq!((rig.scheduler.step(), rig.active()), (Step::Idle, 1));
    let mut heard = Heard::default();
    heard.listen(&mut lagging);
    assert!(heard.text.len() < 40, "{}", heard.text.len());
    let mut all = [(lagging, heard)];
    rig.finish(&mut all);
    assert_eq!((all[0].1.text.len(), all[0].1.completion().finish), (200, Finish::Stop));
}

#[test]
fn a_caller_who_reads_late_gets_the_last_event_wherever_the_channel_fills() {
    for max_tokens in 1..80 {
        let mut rig = Rig::new(Script::saying("x".repeat(100)), LIMITS);
        let generation = rig.submit(Request { max_tokens, ..request("a") });
        while rig.scheduler.step() == Step::Computed {}
        let mut all = [(generation, Heard::default())];
        rig.finish(&mut all);
        assert_eq!(all[0].1.completion().completion_tokens, max_tokens as usize);
    }
}

#[test]
fn progress_takes_no_room_from_what_matters() {
    // As many chunks as the channel has places, and a few more and less.
    for chunks in 26..36 {
        let mut rig = Rig::new(Script::saying("ab"), LIMITS);
        let generation = rig.submit(Request { max_tokens: 1, ..request(&prompt_of(16 * chunks)) });
        while rig.scheduler.step() == Step::Computed {}
        let mut all = [(generation, Heard::default())];
        rig.finish(&mut all);
        assert_eq!((all[0].1.text.as_str(), all[0].1.completion().completion_tokens), ("a", 1));
    }
}

#[test]
fn the_common_beginning_of_prompts_is_computed_once() {
    let mut rig = Rig::new(Script::saying("ok"), LIMITS);
    let system = "s".repeat(50);
    assert_eq!(rig.run(request(&format!("{system}one"))).completion().cached_tokens, 0);
    assert_eq!(rig.run(request(&format!("{system}two"))).completion().cached_tokens, 51);
    // The answer is in the cache too: a chat goes on where it was.
    assert_eq!(rig.run(request(&format!("{system}twook?"))).completion().cached_tokens, 56);
    // The same prompt again: all but the last token, after which the first sample comes.
    let again = rig.run(request(&format!("{system}twook?")));
    assert_eq!(
        (again.completion().cached_tokens, again.completion().prompt_tokens, again.text.as_str()),
        (56, 57, "ok")
    );
}

#[test]
fn what_a_cancelled_prefill_computed_is_reused() {
    let mut rig = Rig::new(Script::saying("ok"), LIMITS);
    let generation = rig.submit(request(&prompt_of(100)));
    rig.scheduler.step();
    rig.scheduler.step();
    drop(generation);
    let heard = rig.run(request(&prompt_of(100)));
    assert_eq!((heard.completion().cached_tokens, heard.text.as_str()), (32, "ok"));
}

#[test]
fn a_prefix_that_another_slot_holds_is_copied_even_from_under_a_generation() {
    let mut rig = Rig::new(Script::saying("x".repeat(30)), LIMITS);
    let system = "s".repeat(50);
    let first = rig.submit(request(&format!("{system}one")));
    (0..6).for_each(|_| assert_eq!(rig.scheduler.step(), Step::Computed));
    let second = rig.submit(request(&format!("{system}two")));
    let mut all = [(first, Heard::default()), (second, Heard::default())];
    rig.finish(&mut all);
    assert_eq!(all[1].1.completion().cached_tokens, 51);
    assert_eq!((all[0].1.text.len(), all[1].1.text.len()), (30, 30));
    assert_eq!(rig.shape().iter().map(|step| step[1]).sum::<usize>(), 3 + 30 - 1 + 1);
}

#[test]
fn prompts_that_come_together_have_their_beginning_computed_once() {
    for cancelled in [false, true] {
        let mut rig = Rig::new(Script::saying("ok"), LIMITS);
        let system = "s".repeat(50);
        let first = rig.submit(request(&format!("{system}one")));
        let second = rig.submit(request(&format!("{system}two")));
        rig.scheduler.step();
        assert_eq!(rig.shape(), [[16, 0]], "the second waits for the first, which gets the whole chunk");
        let mut all = vec![(second, Heard::default())];
        match cancelled {
            true => drop(first),
            false => all.push((first, Heard::default())),
        }
        rig.finish(&mut all);
        // When the first goes, what it had computed is still there.
        let cached = if cancelled { 16 } else { 51 };
        assert_eq!((all[0].1.completion().cached_tokens, all[0].1.text.as_str()), (cached, "ok"));
    }
}

#[test]
fn an_evicted_prefix_comes_back_from_host_memory() {
    for (prefix_bytes, cached) in [(0, 1), (2000, 81)] {
        let mut rig = Rig::new(Script::saying("ok"), Limits { slots: 1, prefix_bytes, ..LIMITS });
        rig.run(request(&"a".repeat(80)));
        assert_eq!(rig.run(request(&"b".repeat(80))).completion().cached_tokens, 1);
        let again = rig.run(request(&format!("{}!", "a".repeat(80))));
        assert_eq!((again.completion().cached_tokens, again.text.as_str()), (cached, "ok"));
        assert!(rig.scheduler.counters.stored_bytes() <= prefix_bytes);
    }
}

const DRAFTING: Limits = Limits { draft_tokens: 8, ..LIMITS };

#[test]
fn an_answer_that_copies_its_prompt_takes_fewer_steps_and_is_the_same() {
    let source = "fn main() { let count = 1; println!(\"{count}\"); }\n";
    let steps = |limits| {
        let mut rig = Rig::new(Script::saying(source.replace("count", "n")), limits);
        let heard = rig.run(request(source));
        assert_eq!(heard.text, source.replace("count", "n"));
        assert_eq!(heard.completion().completion_tokens, heard.text.len());
        (rig.script.batches().len(), rig.scheduler.counters.drafts())
    };
    let ((plain, none), (drafted, (guessed, right))) = (steps(LIMITS), steps(DRAFTING));
    assert_eq!(none, (0, 0));
    assert!(drafted * 2 < plain, "{drafted} steps instead of {plain}");
    assert!(guessed >= right && right as usize >= plain - drafted, "{right} of {guessed}");
}

#[test]
fn a_generation_ends_where_it_should_in_the_middle_of_a_draft() {
    let source = "one two three four five six seven eight nine ten ";
    for max_tokens in 1..30 {
        let mut rig = Rig::new(Script::saying(source), DRAFTING);
        let heard = rig.run(Request { max_tokens, ..request(source) });
        assert_eq!((heard.text.as_str(), heard.completion().finish), (&source[..max_tokens as usize], Finish::Length));
        // What is kept after the end is what was computed: the scripted model checks the next request against it.
        assert_eq!(rig.run(request(&format!("{source}{}!", &source[..max_tokens as usize]))).text, source);
    }
    let mut rig = Rig::new(Script::saying(source), DRAFTING);
    let heard = rig.run(Request { stop: vec!["six".into()], ..request(source) });
    assert_eq!((heard.text.as_str(), heard.completion().finish), ("one two three four five ", Finish::StopString(0)));
    assert_eq!(rig.run(request(source)).text, source);
}

#[test]
fn a_model_that_cannot_go_back_gets_no_drafts() {
    let source = "one two three four five six seven eight nine ten ";
    let mut rig = Rig::new(Script::saying(source).forgetful(), DRAFTING);
    assert_eq!(rig.run(request(source)).text, source);
    assert_eq!(rig.scheduler.counters.drafts(), (0, 0));
}

#[test]
fn limits_of_length_end_a_generation() {
    let context = Script::saying("abcdefgh").context(12);
    type Case = (&'static str, u32, &'static str, Finish, usize);
    let cases: [Case; 5] = [
        ("12", 3, "abc", Finish::Length, 3),
        ("12", 0, "", Finish::Length, 0),
        ("12", 100, "abcdefgh", Finish::Stop, 8),
        // Prompt and answer fill the context of 12: one token to begin with, 8 of text, 3 generated.
        ("12345678", 100, "abc", Finish::Length, 3),
        ("1234567890", 100, "a", Finish::Length, 1),
    ];
    for (prompt, max_tokens, text, finish, tokens) in cases {
        let mut rig = Rig::new(context.clone(), LIMITS);
        let heard = rig.run(Request { max_tokens, ..request(prompt) });
        assert_eq!((heard.text.as_str(), heard.completion().finish), (text, finish), "{prompt} {max_tokens}");
        assert_eq!(heard.completion().completion_tokens, tokens, "{prompt} {max_tokens}");
    }
}

#[test]
fn a_prompt_that_fills_the_context_is_refused_with_both_numbers() {
    let mut rig = Rig::new(Script::saying("a").context(12), LIMITS);
    let heard = rig.run(request("12345678901"));
    assert_eq!(heard.failure(), &Failure::ContextOverflow { prompt_tokens: 12, context: 12 });
    assert_eq!(rig.places.available_permits(), 4);
    assert!(rig.script.batches().is_empty());
}

#[test]
fn limits_of_time_end_a_prompt_at_once_and_an_answer_with_its_line() {
    let mut rig = Rig::new(Script::saying("one\ntwo\nthree"), LIMITS);
    let generation = rig.submit(Request { prompt_within: Some(Duration::from_millis(1)), ..request(&prompt_of(100)) });
    rig.scheduler.step();
    thread::sleep(Duration::from_millis(2));
    let mut all = [(generation, Heard::default())];
    rig.finish(&mut all);
    assert_eq!((all[0].1.text.as_str(), all[0].1.completion().finish), ("", Finish::Length));
    // What was computed is there for the next.
    assert_eq!(rig.run(request(&prompt_of(100))).completion().cached_tokens, 16);
    let heard = rig.run(Request { answer_within: Some(Duration::ZERO), ..request("a") });
    assert_eq!((heard.text.as_str(), heard.completion().finish), ("one\n", Finish::Length));
}

#[test]
fn control_tokens_that_the_model_lacks_are_refused() {
    let mut rig = Rig::new(Script::saying("x").without_infill(), LIMITS);
    let heard = rig.run(Request::new(Prompt::plain("a").control(crate::Control::InfillMiddle)));
    assert_eq!(heard.failure(), &Failure::NoInfill);
}

#[test]
fn stop_strings_end_a_generation_across_tokens() {
    let mut rig = Rig::new(Script::saying("one\n\ntwo"), LIMITS);
    let heard = rig.run(Request { stop: vec!["zzz".into(), "\n\n".into()], ..request("a") });
    assert_eq!((heard.text.as_str(), heard.completion().finish), ("one", Finish::StopString(1)));
    // A beginning that is never completed is part of the text, even at the very end.
    let heard = rig.run(Request { stop: vec!["two!".into()], ..request("a") });
    assert_eq!((heard.text.as_str(), heard.completion().finish), ("one\n\ntwo", Finish::Stop));
}

#[test]
fn a_character_cut_by_the_token_limit_is_left_out() {
    let mut rig = Rig::new(Script::saying("a€"), LIMITS);
    assert_eq!(rig.run(Request { max_tokens: 3, ..request("a") }).text, "a");
}

#[test]
fn users_text_is_never_parsed_for_control_tokens() {
    let mut rig = Rig::new(Script::saying("x"), LIMITS);
    let plain = rig.run(Request::new(Prompt::plain("<|im_start|>")));
    let markup = rig.run(Request::new(Prompt::new().markup("<|im_start|>")));
    assert_eq!((plain.completion().prompt_tokens, markup.completion().prompt_tokens), (13, 2));
}

#[test]
fn a_failed_step_ends_its_requests_and_no_others() {
    let failed = DecodeError::Failed(ModelError::new("broken"));
    let mut rig = Rig::new(Script::answering(str::to_owned).fail_at(1, failed), LIMITS);
    let mut all: Vec<_> = ["one", "two", "three"].map(|p| (rig.submit(request(p)), Heard::default())).into();
    rig.finish(&mut all);
    assert_eq!(all[0].1.failure(), &Failure::Model(ModelError::new("broken")));
    assert_eq!(all[1].1.failure(), &Failure::Model(ModelError::new("broken")));
    assert_eq!(all[2].1.text, "three");
    assert_eq!(rig.places.available_permits(), 4);
}

#[test]
fn a_full_cache_costs_free_prefixes_before_it_costs_a_request() {
    let mut rig = Rig::new(Script::saying("ok").fail_at(3, DecodeError::CacheFull), LIMITS);
    rig.run(request("a"));
    // Step 3 finds the cache full; what the first request left is given up and the step repeated.
    let heard = rig.run(request("b"));
    assert_eq!(heard.text, "ok");
    let mut rig = Rig::new(Script::saying("ok").fail_at(0, DecodeError::CacheFull), LIMITS);
    assert!(matches!(rig.run(request("a")).failure(), Failure::Model(_)));
    assert_eq!(rig.run(request("a")).text, "ok");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn interrupted_steps_change_no_text(steps in prop::collection::btree_set(0_usize..40, 0..12), forgetful in any::<bool>()) {
        let script = steps.into_iter().fold(Script::answering(|p| format!("{p}{p}")), |script, step| {
            script.fail_at(step, DecodeError::Interrupted)
        });
        let script = if forgetful { script.forgetful() } else { script };
        let mut rig = Rig::new(script, DRAFTING);
        let prompts = ["a long enough prompt to need several chunks", "short", "and another one"];
        let mut all: Vec<_> = prompts.map(|p| (rig.submit(request(p)), Heard::default())).into();
        rig.finish(&mut all);
        for ((_, heard), prompt) in all.iter().zip(prompts) {
            prop_assert_eq!(&heard.text, &prompt.repeat(2));
            prop_assert_eq!(heard.completion().completion_tokens, prompt.len() * 2);
        }
    }

    #[test]
    fn places_are_conserved_whatever_callers_do(acts in prop::collection::vec((0_u8..4, 0_usize..4, 1_usize..60), 0..80)) {
        let mut rig = Rig::new(Script::answering(|p| format!("<{p}>")), Limits { prefix_bytes: 1500, ..DRAFTING });
        let mut live: Vec<(Generation, Heard, String)> = Vec::new();
        for (act, which, length) in acts {
            match act {
                0 if rig.places.available_permits() > 0 => {
                    // Of two beginnings, so that what slots and store hold is shared, evicted and brought back.
                    let prompt = ["p", "q"][length % 2].repeat(length * 2);
                    live.push((rig.submit(request(&prompt)), Heard::default(), prompt));
                }
                1 if which < live.len() => drop(live.swap_remove(which)),
                2 if which < live.len() => {
                    let (generation, heard, _) = &mut live[which];
                    heard.listen(generation);
                }
                _ => {
                    rig.scheduler.step();
                }
            }
            let busy = rig.scheduler.slots.iter().filter(|slot| slot.work.is_some()).count();
            prop_assert_eq!(rig.active(), busy);
            prop_assert_eq!(4 - rig.places.available_permits(), busy + rig.scheduler.queue.len());
        }
        let (mut all, prompts): (Vec<_>, Vec<_>) = live.into_iter().map(|(g, heard, prompt)| ((g, heard), prompt)).unzip();
        rig.finish(&mut all);
        for ((_, heard), prompt) in all.iter().zip(prompts) {
            prop_assert_eq!(&heard.text, &format!("<{prompt}>"));
        }
        prop_assert_eq!((rig.active(), rig.places.available_permits()), (0, 4));
    }
}

#[test]
fn only_equals_in_adapter_share_a_step_and_a_prefix() {
    let script = Script::saying("answer").adapters(&["code", "prose"]);
    // The scripted model panics where a sequence is continued with another adapter.
    let mut rig = Rig::new(script, Limits { slots: 3, queue: 9, prefix_bytes: 1 << 20, ..LIMITS });
    let with = |adapter: Option<&str>| Request { adapter: adapter.map(str::to_owned), ..request(&prompt_of(80)) };
    let all = [None, Some("code"), Some("prose"), Some("code"), None, Some("prose")];
    for round in 0..2 {
        let mut running: Vec<_> = all.iter().map(|adapter| (rig.submit(with(*adapter)), Heard::default())).collect();
        rig.finish(&mut running);
        for ((_, heard), adapter) in running.iter().zip(all) {
            assert_eq!(heard.text, "answer", "{adapter:?} in round {round}");
        }
        if round == 1 {
            // Each finds what its own adapter computed, in a slot or in the store.
            assert!(running.iter().all(|(_, heard)| heard.completion().cached_tokens > 0));
        }
    }
    let mut fresh = Rig::new(Script::saying("answer").adapters(&["code"]), LIMITS);
    fresh.run(with(None));
    assert_eq!(fresh.run(with(Some("code"))).completion().cached_tokens, 0);
    assert!(fresh.run(with(Some("code"))).completion().cached_tokens > 0);
}

#[test]
fn an_adapter_that_the_model_lacks_is_refused_by_name() {
    let mut rig = Rig::new(Script::saying("x").adapters(&["code", "prose"]), LIMITS);
    let heard = rig.run(Request { adapter: Some("verse".into()), ..request("a") });
    let sentence = heard.failure().to_string();
    assert_eq!(sentence, "found no adapter called \"verse\", expected code, prose");
    let heard = Rig::new(Script::saying("x"), LIMITS).run(Request { adapter: Some("verse".into()), ..request("a") });
    assert!(heard.failure().to_string().ends_with("expected none: the model has none"));
}

#[test]
fn who_has_waited_long_is_as_urgent_as_a_completion_and_a_warm_up_never() {
    let now = Instant::now();
    let ages = |priority, seconds| slot::urgency(priority, now, now + Duration::from_secs(seconds));
    assert_eq!((ages(Priority::Chat, 19), ages(Priority::Chat, 20)), (Priority::Chat, Priority::Infill));
    assert_eq!(ages(Priority::WarmUp, 1 << 20), Priority::WarmUp);
    assert_eq!(ages(Priority::Infill, 0), Priority::Infill);

    // One slot, taken; an old chat and a fresh completion wait: the chat came first.
    let mut rig = Rig::new(Script::saying("x"), Limits { slots: 1, ..LIMITS });
    let submitted = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
    for (priority, submitted, first) in [(Priority::Chat, submitted, true), (Priority::Chat, Instant::now(), false)] {
        let running = rig.submit(request("running"));
        rig.scheduler.step();
        let chat = rig.submit_at(Request { priority, ..request("chat") }, submitted);
        let now = Instant::now();
        let infill = rig.submit_at(Request { priority: Priority::Infill, ..request("infill") }, now);
        let mut all = [(running, Heard::default()), (chat, Heard::default()), (infill, Heard::default())];
        rig.finish(&mut all);
        let admitted = |heard: &Heard, submitted: Instant| submitted + heard.completion().queued;
        assert_eq!(admitted(&all[1].1, submitted) < admitted(&all[2].1, now), first);
    }
}
