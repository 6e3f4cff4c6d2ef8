//! Prefixes computed once.

use super::*;

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
