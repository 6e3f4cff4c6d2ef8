//! The engine as its callers see it, over the scripted model: threads, waiting, cancelling and ending.

use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::scripted::Script;
use crate::{Completion, Event, Failure, Finish};

const LIMITS: Limits = Limits { slots: 2, queue: 1, chunk_tokens: 16, prefix_bytes: 0, draft_tokens: 0 };
/// Far beyond what anything here takes; a test that waits so long hangs.
const PATIENCE: Duration = Duration::from_secs(20);

async fn started(script: Script) -> Engine {
    Engine::start("scripted", LIMITS, script.loader()).loaded().await.unwrap()
}

fn request(prompt: &str) -> Request {
    Request::new(Prompt::plain(prompt))
}

async fn finish(mut generation: Generation) -> (String, Result<Completion, Failure>) {
    let mut text = String::new();
    loop {
        match timeout(PATIENCE, generation.next()).await.expect("an event in time") {
            Some(Event::Text { text: more, .. }) => text += &more,
            Some(Event::Done(completion)) => break (text, Ok(completion)),
            Some(Event::Failed(failure)) => break (text, Err(failure)),
            Some(Event::Progress { .. } | Event::Logprobs(_)) => {}
            None => panic!("the stream ended without a last event"),
        }
    }
}

async fn until(engine: &Engine, condition: impl Fn(&Snapshot) -> bool) {
    let wait = async {
        while !condition(&engine.snapshot()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{:?}", engine.snapshot()));
}

#[tokio::test]
async fn an_engine_generates_counts_and_ends() {
    let engine = started(Script::answering(|prompt| format!("re: {prompt}"))).await;
    let loaded = engine.snapshot();
    let mut generation = engine.submit(request("hello")).unwrap();
    while let Some(event) = timeout(PATIENCE, generation.next()).await.unwrap() {
        if let Event::Done(completion) = event {
            assert_eq!((completion.finish, completion.completion_tokens), (Finish::Stop, 9));
        }
    }
    assert_eq!(generation.next().await, None);
    let snapshot = engine.snapshot();
    assert_eq!((snapshot.active, snapshot.queued, snapshot.tokens_generated, snapshot.requests), (0, 0, 9, 1));
    assert!(snapshot.last_used > loaded.last_used);
    engine.tokenize(Prompt::plain("x")).await.unwrap();
    assert_eq!(engine.snapshot().last_used, snapshot.last_used, "only inference is use");
    engine.shut_down().await;
    assert!(matches!(engine.submit(request("x")), Err(SubmitError::Stopped)));
    assert_eq!(engine.tokenize(Prompt::plain("x")).await, Err(Stopped));
}

#[tokio::test]
async fn requests_beyond_slots_and_queue_are_refused_at_once() {
    let engine = started(Script::saying("x".repeat(500)).step_delay(Duration::from_millis(5))).await;
    let busy: Vec<_> = (0..3).map(|_| engine.submit(request("a")).unwrap()).collect();
    assert!(matches!(engine.submit(request("a")), Err(SubmitError::QueueFull { slots: 2, queue: 1, free_in: None })));
    until(&engine, |snapshot| snapshot.active == 2 && snapshot.queued == 1).await;
    drop(busy);
    until(&engine, |snapshot| snapshot.active == 0 && snapshot.queued == 0).await;
    assert!(engine.submit(request("a")).is_ok());
}

#[tokio::test]
async fn a_slow_reader_gets_everything_and_wakes_the_engine_again() {
    let engine = started(Script::saying("0123456789".repeat(30))).await;
    let slow = engine.submit(request("a")).unwrap();
    let (text, _) = finish(engine.submit(request("b")).unwrap()).await;
    assert_eq!(text.len(), 300);
    assert_eq!(engine.snapshot().active, 1);
    assert_eq!(finish(slow).await.0, "0123456789".repeat(30));
}

#[tokio::test]
async fn cancelling_interrupts_a_long_prompt_but_nothing_that_a_neighbour_waits_for() {
    // A chunk takes over a second; without the interrupt the slot would be busy for that long.
    let script = Script::answering(str::to_owned).token_delay(Duration::from_millis(80));
    let engine = started(script.clone()).await;
    let long = engine.submit(request(&"long ".repeat(100))).unwrap();
    until(&engine, |snapshot| snapshot.active == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = Instant::now();
    drop(long);
    until(&engine, |snapshot| snapshot.active == 0).await;
    assert!(before.elapsed() < Duration::from_millis(900), "{:?}", before.elapsed());

    let neighbour = engine.submit(request("neighbour")).unwrap();
    let long = engine.submit(request(&"long ".repeat(100))).unwrap();
    until(&engine, |snapshot| snapshot.active == 2).await;
    drop(long);
    assert_eq!(finish(neighbour).await.0, "neighbour");
}

#[tokio::test]
async fn shutting_down_interrupts_a_step_and_ends_every_stream() {
    let engine = started(Script::saying("x").step_delay(Duration::from_secs(60))).await;
    let streams: Vec<_> = (0..3).map(|_| engine.submit(request("a")).unwrap()).collect();
    until(&engine, |snapshot| snapshot.active > 0).await;
    timeout(PATIENCE, engine.shut_down()).await.expect("an end in time");
    for stream in streams {
        assert_eq!(finish(stream).await.1, Err(Failure::Stopped));
    }
    timeout(PATIENCE, engine.shut_down()).await.expect("a second time does no harm");
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_thread() {
    let engine = started(Script::saying("x").step_delay(Duration::from_secs(60))).await;
    let mut alive = engine.0.mailbox.alive.clone();
    let stream = engine.submit(request("a")).unwrap();
    drop(engine.clone());
    assert!(alive.has_changed().is_ok(), "a clone is not the last");
    drop(engine);
    assert_eq!(finish(stream).await.1, Err(Failure::Stopped));
    assert!(timeout(PATIENCE, alive.changed()).await.expect("an end in time").is_err());
}

#[tokio::test]
async fn a_load_reports_fails_and_can_be_given_up() {
    let starting = Engine::start("a", LIMITS, Script::saying("x").load_delay(Duration::from_millis(50)).loader());
    let mut progress = starting.progress();
    timeout(PATIENCE, progress.wait_for(|progress| *progress >= 0.5)).await.unwrap().unwrap();
    let engine = starting.loaded().await.unwrap();
    assert_eq!(*progress.borrow(), 1.0);
    drop(engine);

    let error = LoadError::NotFound { path: "m.gguf".into() };
    let failed = Engine::start("b", LIMITS, Script::saying("x").load_error(error.clone()).loader()).loaded().await;
    assert_eq!(failed.unwrap_err(), error);

    let panicked = Engine::start("c", LIMITS, |_: &LoadControl| -> Result<crate::scripted::ScriptedModel, LoadError> {
        panic!("on purpose")
    });
    assert!(matches!(panicked.loaded().await, Err(LoadError::Thread { .. })));

    let abandoned = Engine::start("d", LIMITS, Script::saying("x").load_delay(Duration::from_secs(60)).loader());
    let mut progress = abandoned.progress();
    drop(abandoned);
    // The thread ends at its next report, ten of which divide the load.
    let ended = async { while progress.changed().await.is_ok() {} };
    timeout(PATIENCE, ended).await.expect("an end in time");
}

#[tokio::test]
async fn tokens_and_text_convert_both_ways() {
    let engine = started(Script::saying("x")).await;
    let tokens = engine.tokenize(Prompt::new().markup("<|im_start|>").text("a€")).await.unwrap();
    assert_eq!(tokens.len(), 6);
    assert_eq!(engine.detokenize(tokens).await.unwrap(), "<|im_start|>a€".as_bytes());
}

#[tokio::test]
async fn texts_become_vectors_beside_generations_and_are_counted() {
    let engine = started(Script::saying("y".repeat(200)).step_delay(Duration::from_millis(1))).await;
    let texts = |texts: &[&str]| texts.iter().map(|text| EmbeddingInput::Text((*text).to_owned())).collect();
    let running = engine.submit(request("x")).unwrap();
    let embeddings = timeout(PATIENCE, engine.embed(texts(&["ab", "c"]))).await.unwrap().unwrap();
    // Each begins and ends with a token of its own, and the stub's vector is that of the last: 1 and the token's number.
    assert_eq!((embeddings.tokens, embeddings.vectors.len()), (7, 2));
    let length = |vector: &[f32]| vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    assert!(embeddings.vectors.iter().all(|vector| (length(vector) - 1.0).abs() < 1e-6));
    let tokens = vec![EmbeddingInput::Tokens(vec![Token(1), Token(0)])];
    assert_eq!(engine.embed(tokens).await.unwrap(), Embeddings { vectors: vec![vec![1.0, 0.0]], tokens: 2 });
    assert!(finish(running).await.1.is_ok());
    until(&engine, |snapshot| (snapshot.active, snapshot.queued) == (0, 0)).await;
}

#[tokio::test]
async fn texts_that_cannot_become_vectors_are_named() {
    let engine = started(Script::saying("x").context(64)).await;
    let text = |length| EmbeddingInput::Text("a".repeat(length));
    let error = engine.embed(vec![text(3), text(99)]).await.unwrap_err();
    assert_eq!(error, EmbeddingError::TooLong { index: 1, tokens: 101, context: 64 });
    let error = engine.embed(vec![EmbeddingInput::Tokens(Vec::new())]).await.unwrap_err();
    assert_eq!(error, EmbeddingError::Empty { index: 0 });
    // Whoever goes away leaves no work behind, and its place is free.
    let slow = vec![text(60); 500];
    drop(timeout(Duration::ZERO, engine.embed(slow)).await);
    until(&engine, |snapshot| snapshot.queued == 0).await;
    engine.shut_down().await;
    assert_eq!(engine.embed(vec![text(1)]).await, Err(EmbeddingError::Stopped));
}

#[tokio::test]
async fn callers_who_come_and_go_do_not_hold_up_those_who_stay() {
    let script = Script::saying("x".repeat(60)).step_delay(Duration::from_millis(5));
    let engine = started(script.clone()).await;
    let stays = tokio::time::timeout(PATIENCE, finish(engine.submit(request("a")).unwrap()));
    let come_and_go = async {
        loop {
            let gone = engine.submit(request(&"p".repeat(4000)));
            tokio::time::sleep(Duration::from_millis(7)).await;
            drop(gone);
        }
    };
    let (text, end) = tokio::select! {
        ended = stays => ended.expect("the neighbour never gets on"),
        () = come_and_go => unreachable!(),
    };
    assert_eq!((text.len(), end.unwrap().completion_tokens), (60, 60));
    let steps = script.batches().len();
    assert!(steps < 80, "{steps} steps for 60 tokens");
}

#[tokio::test]
async fn a_long_text_is_divided_beside_the_streams_and_one_too_long_not_at_all() {
    let script = Script::saying("x".repeat(60)).step_delay(Duration::from_millis(5));
    let engine = started(script.reading_delay(Duration::from_secs(2))).await;
    let neighbour = engine.submit(request("a")).unwrap();
    until(&engine, |snapshot| snapshot.active == 1).await;
    let mut long = engine.submit(request(&"p".repeat(2000))).unwrap();
    assert_eq!(finish(neighbour).await.0.len(), 60);
    assert_eq!(long.try_next(), None, "the stream waited for it");
    finish(long).await.1.unwrap();
    // Nor does a question about a long text hold up those who come after it.
    let mut question = std::pin::pin!(engine.tokenize(Prompt::plain("p".repeat(2000))));
    let next = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        finish(engine.submit(request("b")).unwrap()).await.0
    };
    tokio::select! {
        biased;
        _ = &mut question => panic!("the question was answered first"),
        text = next => assert_eq!(text.len(), 60),
    }
    let (_, end) = finish(engine.submit(request(&"p".repeat(100_000))).unwrap()).await;
    assert_eq!(end, Err(Failure::ContextOverflow { prompt_tokens: 100_000 / 16, context: 4096 }));
}
