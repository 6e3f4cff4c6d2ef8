//! Adapters.

use super::*;
use crate::AdapterChoice;

#[test]
fn only_equals_in_adapter_share_a_step_and_a_prefix() {
    let script = Script::saying("answer").adapters(&["code", "prose"]);
    // The scripted model panics where a sequence is continued with another adapter.
    let mut rig = Rig::new(script, Limits { slots: 3, queue: 9, prefix_bytes: 1 << 20, ..LIMITS });
    let with =
        |adapter: Option<&str>| Request { adapter: adapter.map(AdapterChoice::named), ..request(&prompt_of(80)) };
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
    let heard = rig.run(Request { adapter: Some(AdapterChoice::named("verse")), ..request("a") });
    let sentence = heard.failure().to_string();
    assert_eq!(sentence, "found no adapter called \"verse\", expected code, prose");
    let heard = Rig::new(Script::saying("x"), LIMITS)
        .run(Request { adapter: Some(AdapterChoice::named("verse")), ..request("a") });
    assert!(heard.failure().to_string().ends_with("expected none: the model has none"));
}

#[test]
fn how_much_of_an_adapter_makes_a_difference() {
    let mut rig = Rig::new(Script::saying("x").adapters(&["code"]), LIMITS);
    let at = |scale| Request { adapter: Some(AdapterChoice { name: "code".into(), scale }), ..request(&prompt_of(40)) };
    assert_eq!(rig.run(at(Some(0.5))).completion().cached_tokens, 0);
    assert_eq!(rig.run(at(Some(0.25))).completion().cached_tokens, 0);
    assert!(rig.run(at(Some(0.5))).completion().cached_tokens > 0);
}
