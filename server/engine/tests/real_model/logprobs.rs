//! How likely tokens were, by the model's own numbers.

use cerebrum_engine::TokenLogprob;

use super::*;

async fn told(engine: &Engine, request: Request) -> (String, Vec<TokenLogprob>) {
    let mut generation = engine.submit(request).expect("a place");
    let (mut text, mut tokens) = (String::new(), Vec::new());
    while let Some(event) = timeout(PATIENCE, generation.next()).await.expect("an event in time") {
        match event {
            Event::Text { text: more, .. } => text += &more,
            Event::Logprobs(mut more) => tokens.append(&mut more),
            Event::Failed(failure) => panic!("{failure}"),
            Event::Done(_) | Event::Progress { .. } => {}
        }
    }
    (text, tokens)
}

fn asking(prompt: &str, sampling: Sampling) -> Request {
    Request { logprobs: Some(4), ..request(prompt, 60, sampling) }
}

#[tokio::test]
async fn they_belong_to_the_text_and_are_those_of_a_distribution() {
    let engine = engine(LIMITS).await;
    let (text, tokens) = told(&engine, asking(CODE, Sampling::greedy())).await;
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.bytes.clone()).collect();
    assert_eq!(String::from_utf8_lossy(&bytes), text);
    for token in &tokens {
        assert!(token.logprob <= 0.0 && token.top.len() == 4, "{token:?}");
        assert!(token.top.is_sorted_by(|a, b| a.1 >= b.1));
        assert!(token.top.iter().map(|(_, logprob)| f64::from(*logprob).exp()).sum::<f64>() <= 1.0 + 1e-5);
        // Without penalties the likeliest is taken.
        assert_eq!(token.top[0].1, token.logprob);
    }
}

#[tokio::test]
async fn neither_drafts_nor_a_grammar_nor_temperature_change_what_the_model_thinks() {
    let prompt = format!("{0}# again\n{0}# again\n", CODE.repeat(3));
    let plain = engine(Limits { draft_tokens: 0, ..LIMITS }).await;
    let drafting = engine(LIMITS).await;
    let (text, expected) = told(&plain, asking(&prompt, Sampling::greedy())).await;
    let (again, tokens) = told(&drafting, asking(&prompt, Sampling::greedy())).await;
    assert!(drafting.snapshot().drafts_accepted > 0);
    assert_eq!((again, &tokens), (text.clone(), &expected), "to the last bit");

    // A grammar that forces the same text, and one that forces another: what was likely stays what it was.
    let forced = |text: &str| {
        let literal = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        grammars::following(Grammar::Gbnf(format!("root ::= \"{literal}\"")))
    };
    let (same, tokens) = told(&plain, asking(&prompt, forced(&text))).await;
    assert!(text.starts_with(&same) && !tokens.is_empty());
    assert_eq!(tokens[0].logprob, expected[0].logprob);
    let (other, tokens) = told(&plain, asking(&prompt, forced("zebra"))).await;
    assert_eq!(other, "zebra");
    assert_eq!(tokens[0].top, expected[0].top);
    assert!(tokens[0].logprob < expected[0].logprob);

    let hot = Sampling { temperature: 1.5, ..Sampling::greedy() };
    let (_, tokens) = told(&plain, asking(&prompt, hot)).await;
    assert_eq!(tokens[0].top, expected[0].top);
}
