//! Texts as vectors.

use cerebrum_engine::{EmbeddingError, EmbeddingInput, Token};

use super::*;

fn text(text: &str) -> EmbeddingInput {
    EmbeddingInput::Text(text.to_owned())
}

fn likeness(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

#[tokio::test]
async fn vectors_tell_texts_apart_and_generations_go_on_beside_them() {
    let engine = engine(LIMITS).await;
    let alone = run(&engine, request(CODE, 120, Sampling::greedy())).await.0;
    let running = engine.submit(request(CODE, 120, Sampling::greedy())).unwrap();
    let read = "def read_lines(path):\n    with open(path) as file:\n        return file.readlines()";
    let inputs = vec![text(read), text(&read.replace("path", "name")), text("SELECT id FROM users;"), text(read)];
    let embeddings = engine.embed(inputs).await.unwrap();
    assert_eq!(finish(running).await.0, alone);

    let vectors = &embeddings.vectors;
    assert!(vectors.iter().all(|vector| vector.len() > 16 && (likeness(vector, vector) - 1.0).abs() < 1e-4));
    assert!(vectors[0] == vectors[3], "the same text has the same vector");
    assert!(likeness(&vectors[0], &vectors[1]) > likeness(&vectors[0], &vectors[2]));
    let tokens = engine.tokenize(Prompt::plain(read)).await.unwrap();
    let by_tokens = engine.embed(vec![EmbeddingInput::Tokens(tokens.clone())]).await.unwrap();
    assert!(likeness(&by_tokens.vectors[0], &vectors[0]) > 0.9);
    assert_eq!(by_tokens.tokens, tokens.len());
}

#[tokio::test]
async fn a_text_of_several_chunks_is_pooled_over_all_of_them() {
    let engine = engine(LIMITS).await;
    let long = CODE.repeat(20);
    assert!(engine.tokenize(Prompt::plain(&long)).await.unwrap().len() > 128);
    let both = engine.embed(vec![text(&long), text(&format!("{long}SELECT")), text("SELECT")]).await.unwrap().vectors;
    assert!(likeness(&both[0], &both[1]) > 0.95 && both[0] != both[1]);
    assert!(likeness(&both[0], &both[2]) < likeness(&both[0], &both[1]));
}

#[tokio::test]
async fn what_cannot_be_embedded_is_refused_and_harms_nothing() {
    let engine = engine(LIMITS).await;
    let long = engine.embed(vec![text(&CODE.repeat(200))]).await.unwrap_err();
    assert!(matches!(long, EmbeddingError::TooLong { index: 0, tokens, context: 1024 } if tokens > 1024), "{long}");
    let unknown = engine.embed(vec![EmbeddingInput::Tokens(vec![Token(-1)])]).await.unwrap_err();
    assert!(matches!(unknown, EmbeddingError::Token(_)), "{unknown}");
    assert_eq!(engine.embed(vec![text("x")]).await.unwrap().vectors.len(), 1);
}

// As many as one call may bring, beside an answer and beside somebody who has a single text: both are done long before.
#[tokio::test]
async fn two_thousand_texts_keep_neither_an_answer_nor_a_single_text_waiting() {
    let engine = engine(LIMITS).await;
    let alone = run(&engine, request(CODE, 60, Sampling::greedy())).await.0;
    let single = engine.embed(vec![text("x = 1")]).await.unwrap().vectors;
    let texts = |n: usize| text(&format!("x = {n}"));
    let mut many = std::pin::pin!(engine.embed((0..2000).map(texts).collect()));
    let beside = async {
        assert_eq!(engine.embed(vec![text("x = 1")]).await.unwrap().vectors, single);
        assert_eq!(run(&engine, request(CODE, 60, Sampling::greedy())).await.0, alone);
    };
    tokio::select! {
        // First, so that it is asked for first.
        biased;
        _ = &mut many => panic!("the two thousand were to be the last"),
        () = beside => {}
    }
    let many = many.await.unwrap();
    assert_eq!(many.vectors.len(), 2000);
    for n in [0, 999, 1999] {
        assert!(many.vectors[n] == engine.embed(vec![texts(n)]).await.unwrap().vectors[0], "text {n}");
    }
}
