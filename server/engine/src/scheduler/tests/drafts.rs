//! Guessed tokens.

use super::*;

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
fn an_answer_that_another_generation_wrote_takes_fewer_steps_and_is_the_same() {
    let answer = "fn main() { let total = 1; println!(\"{total}\"); }\n";
    let steps = |limits| {
        let mut rig = Rig::new(Script::saying(answer), limits);
        assert_eq!(rig.run(request("a question")).text, answer);
        let before = rig.script.batches().len();
        assert_eq!(rig.run(request("put otherwise")).text, answer);
        rig.script.batches().len() - before
    };
    let (plain, drafted) = (steps(LIMITS), steps(DRAFTING));
    assert!(drafted * 2 < plain, "{drafted} steps instead of {plain}");
}
