//! Steps that fail or are interrupted.

use proptest::prelude::*;

use super::*;

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
