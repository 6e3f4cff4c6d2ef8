//! Callers who go away, do not read, or read late.

use super::*;

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
fn a_step_is_interrupted_when_nobody_is_left_to_compute_for() {
    let interrupt = Interrupt::default();
    let open = || Outlet::open(thread::current(), interrupt.clone());
    let [(one, first), (two, second), (three, third)] = [open(), open(), open()];
    drop(first);
    interrupt.begin_step(3);
    [&one, &two, &three].into_iter().for_each(|outlet| outlet.join_step(&interrupt));
    drop(second);
    assert!(!interrupt.is_raised(), "one stays");
    drop(third);
    assert!(interrupt.is_raised());
    // Who has left a step that is over concerns no other.
    interrupt.begin_step(1);
    let (four, fourth) = open();
    four.leave_step();
    drop(fourth);
    assert!(!interrupt.is_raised());
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
