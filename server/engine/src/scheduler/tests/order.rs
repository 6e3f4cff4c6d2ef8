//! Who is computed when.

use super::*;

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
