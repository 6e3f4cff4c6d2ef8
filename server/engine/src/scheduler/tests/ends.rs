//! What an answer is and where it ends.

use super::*;

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
