//! How likely the tokens of an answer were.

use super::*;

fn asking(prompt: &str, alternatives: u8) -> Request {
    Request { logprobs: Some(alternatives), ..request(prompt) }
}

// What the stub says of a token: minus the length of the sequence up to the row that it was sampled from.
fn told(heard: &Heard) -> Vec<(Vec<u8>, f32, usize)> {
    heard.logprobs.iter().map(|token| (token.bytes.clone(), token.logprob, token.top.len())).collect()
}

#[test]
fn each_token_has_its_own_also_where_several_make_a_character() {
    let mut rig = Rig::new(Script::saying("a€b"), LIMITS);
    let heard = rig.run(asking("pp", 2));
    // The prompt is three tokens long with the one that begins it.
    let expected: Vec<_> = "a€b".bytes().zip(3..).map(|(byte, row)| (vec![byte], -(row as f32), 2)).collect();
    assert_eq!(told(&heard), expected);
    let unasked = rig.run(request("pp"));
    assert!(unasked.logprobs.is_empty());
}

#[test]
fn they_come_before_the_text_of_their_tokens_and_not_earlier() {
    let mut rig = Rig::new(Script::saying("a€"), LIMITS);
    let mut generation = rig.submit(asking("p", 0));
    let mut seen = Vec::new();
    while seen.last() != Some(&"done".to_owned()) {
        rig.scheduler.step();
        while let Some(event) = generation.try_next() {
            match event {
                Event::Logprobs(tokens) => seen.push(format!("{} tokens", tokens.len())),
                Event::Text { text, .. } => seen.push(text),
                Event::Done(_) => seen.push("done".to_owned()),
                Event::Progress { .. } | Event::Failed(_) => {}
            }
        }
    }
    assert_eq!(seen, ["1 tokens", "a", "3 tokens", "€", "done"]);
}

#[test]
fn guessed_tokens_have_those_they_would_have_alone() {
    let source = "fn main() { let count = 1; println!(\"{count}\"); }\n";
    let run = |limits| Rig::new(Script::saying(source), limits).run(asking(&source.repeat(2), 1));
    let (plain, drafted) = (run(LIMITS), run(DRAFTING));
    assert_eq!(plain.logprobs.len(), source.len());
    assert_eq!(drafted.logprobs, plain.logprobs);
}

#[test]
fn of_a_stop_string_nothing_is_said_and_of_an_unfinished_character_all() {
    let mut rig = Rig::new(Script::saying("abEND"), LIMITS);
    let heard = rig.run(Request { stop: vec!["END".to_owned()], ..asking("p", 0) });
    assert_eq!((heard.text.as_str(), heard.logprobs.len()), ("ab", 2));
    let mut rig = Rig::new(Script::saying("a€"), LIMITS);
    let heard = rig.run(Request { max_tokens: 3, ..asking("p", 0) });
    assert_eq!((heard.text.as_str(), heard.logprobs.len()), ("a", 3));
}
