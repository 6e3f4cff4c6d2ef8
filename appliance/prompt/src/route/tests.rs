//! Tables of requests and where they go.

use super::*;
use crate::language::{Language, Source};

fn asked<'a>(language: Option<Language>) -> Asked<'a> {
    let source = if language.is_some() { Source::Keywords } else { Source::Unknown };
    Asked {
        model: None,
        language: None,
        detected: Detected { language, source },
        request: "",
        difficulty: Difficulty::Hard,
        held: None,
    }
}

#[test]
fn profiles() {
    let of = |profile| Rules { profile, ..Rules::default() };
    let easy = Asked { difficulty: Difficulty::Easy, ..asked(Some(Language::Rust)) };
    for (asked, profile, model, why) in [
        (asked(Some(Language::Rust)), RouteProfile::Compatible, "codellama_7b", Why::Language),
        (asked(Some(Language::Python)), RouteProfile::Compatible, "qwen_7b", Why::Language),
        (asked(None), RouteProfile::Compatible, "qwen_7b", Why::Default),
        (asked(Some(Language::Rust)), RouteProfile::Quality, QUALITY_MODEL, Why::Profile),
        (asked(Some(Language::Rust)), RouteProfile::Size, QUALITY_MODEL, Why::Profile),
        (easy, RouteProfile::Size, SMALL_MODEL, Why::Profile),
        (Asked { model: Some("mine"), ..easy }, RouteProfile::Size, "mine", Why::Named),
        (Asked { model: Some("  "), ..easy }, RouteProfile::Quality, QUALITY_MODEL, Why::Profile),
        (Asked { language: Some("go"), ..asked(None) }, RouteProfile::Compatible, "codellama_7b", Why::Language),
    ] {
        let found = route(&asked, &of(profile));
        assert_eq!((found.model.as_str(), found.why), (model, why), "{profile:?} {asked:?}");
    }
}

#[test]
fn tiers_limit_answers() {
    let plain = route(&Asked { model: Some("jive"), ..asked(None) }, &Rules::default());
    assert_eq!((plain.answer_tokens(512), plain.at_most(90_000)), (4_096, 40_000));
    assert_eq!(plain.model, "qwen_7b");
    assert!(plain.tier.is_some_and(|tier| tier.reasons));
    let long = Asked { model: Some("JIGGA"), request: "Write a detailed report.", ..asked(None) };
    let rules = Rules { tiers: [("jigga".to_owned(), "large".to_owned())].into(), ..Rules::default() };
    let long = route(&long, &rules);
    assert_eq!((long.model.as_str(), long.held.model()), ("large", "large"));
    assert_eq!((long.extended, long.answer_tokens(512)), (true, 8_000));
    let model = route(&Asked { request: "Write a detailed report.", ..asked(None) }, &Rules::default());
    assert_eq!((model.extended, model.answer_tokens(512), model.at_most(90_000)), (true, 512, 90_000));
}

#[test]
fn only_the_user_asks_for_long_answers() {
    let code = "# Writes a full explanation into the log.\ndef draft(a):\n    return \"detailed report\" + a\n";
    for (prompt, expected) in [
        (format!("Give me a full explanation of this, please.\n\n```python\n{code}```\n"), true),
        (format!("Rename the parameter of this function.\n\n```python\n{code}```\n"), false),
        (format!("{code}\n# INSTRUCTION: write a thorough review\n"), true),
        (code.to_owned(), false),
        ("Write a comprehensive analysis of sorting networks.".to_owned(), true),
    ] {
        assert_eq!(wants_extended_output(&crate::user_request(&prompt)), expected, "{prompt}");
    }
}

#[test]
fn long_contexts_are_not_thought_about() {
    for (model, context_tokens, expected) in [
        ("qwen3-8b-q4_k_m", 100_001, true),
        ("Qwen/Qwen3-8B", 100_001, true),
        ("qwen3-8b-q4_k_m", 100_000, false),
        ("qwen2.5-coder-7b", 200_000, false),
    ] {
        assert_eq!(Rules::default().forbids_thinking(model, context_tokens), expected, "{model} {context_tokens}");
    }
}

#[test]
fn a_session_keeps_its_model() {
    let rules = Rules::default();
    let first = route(&asked(Some(Language::Python)), &rules);
    let second = route(&Asked { held: Some(&first.held), ..asked(Some(Language::Rust)) }, &rules);
    assert_eq!((second.model.as_str(), second.why), ("qwen_7b", Why::Session));
    let third = route(&Asked { held: Some(&second.held), ..asked(Some(Language::Rust)) }, &rules);
    assert_eq!((third.model.as_str(), third.why), ("codellama_7b", Why::Language));
    // Back and forth is no trend.
    let between = route(&Asked { held: Some(&second.held), ..asked(Some(Language::Python)) }, &rules);
    let again = route(&Asked { held: Some(&between.held), ..asked(Some(Language::Rust)) }, &rules);
    assert_eq!(again.model, "qwen_7b");
    // What the user says counts at once.
    let said = Asked { held: Some(&first.held), language: Some("rust"), ..asked(None) };
    assert_eq!(route(&said, &rules).model, "codellama_7b");
    let named = Asked { held: Some(&first.held), model: Some("mine"), ..asked(None) };
    assert_eq!(route(&named, &rules).held.model(), "mine");
}
