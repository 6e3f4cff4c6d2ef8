//! The engine over llama.cpp with the bundled model.

mod adapters;
mod drafts;
mod embeddings;
mod grammars;
mod logprobs;
mod prefixes;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cerebrum_engine::llama::Options;
use cerebrum_engine::{
    Completion, Control, Engine, Event, Failure, Finish, Generation, Grammar, Limits, LoadError, Prompt, Request,
    Sampling,
};
use tokio::time::timeout;

const LIMITS: Limits = Limits { slots: 3, queue: 8, chunk_tokens: 32, prefix_bytes: 0, draft_tokens: 16 };
const PATIENCE: Duration = Duration::from_secs(60);
const CODE: &str = "def read_lines(path):\n    with open(path) as file:\n        ";

fn model() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/cerebrum-tiny.gguf");
    assert!(path.exists(), "the bundled model is part of the tree");
    path
}

async fn engine(limits: Limits) -> Engine {
    // One thread: barriers between threads spin, and tests share the machine's cores with others.
    let options = Options { threads: Some(1), ..Options::new(model()) };
    Engine::start("tiny", limits, options.loader()).loaded().await.expect("the bundled model loads")
}

fn request(prompt: &str, max_tokens: u32, sampling: Sampling) -> Request {
    Request { max_tokens, seed: Some(42), sampling, ..Request::new(Prompt::plain(prompt)) }
}

async fn finish(mut generation: Generation) -> (String, Result<Completion, Failure>) {
    let mut text = String::new();
    while let Some(event) = timeout(PATIENCE, generation.next()).await.expect("an event in time") {
        match event {
            Event::Text { text: more, .. } => text += &more,
            Event::Done(completion) => return (text, Ok(completion)),
            Event::Failed(failure) => return (text, Err(failure)),
            Event::Progress { .. } | Event::Logprobs(_) => {}
        }
    }
    panic!("a stream without a last event");
}

async fn run(engine: &Engine, request: Request) -> (String, Completion) {
    let (text, end) = finish(engine.submit(request).expect("a place")).await;
    (text, end.expect("a completion"))
}

#[tokio::test]
async fn the_model_says_what_it_is() {
    let engine = engine(LIMITS).await;
    let info = engine.info();
    assert_eq!(
        (info.architecture.as_str(), info.vocabulary, info.context, info.context_train),
        ("llama", 4096, 1024, 1024)
    );
    assert_eq!((info.sequences, info.batch_entries), (3, 35));
    assert!(info.chat_template.as_ref().is_some_and(|template| template.contains("<|im_start|>")));
    assert!(info.size_bytes > 4_000_000 && info.parameters > 4_000_000, "{info:?}");
    assert!(info.description.contains("llama"), "{}", info.description);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_text_and_another_a_different_one() {
    let engine = engine(LIMITS).await;
    let warm = Sampling { temperature: 0.9, ..Sampling::default() };
    let (first, completion) = run(&engine, request(CODE, 60, warm.clone())).await;
    assert!(completion.completion_tokens > 0 && completion.prompt_tokens > 10, "{completion:?}");
    let (again, completion) = run(&engine, request(CODE, 60, warm.clone())).await;
    assert!(completion.cached_tokens > 10, "{completion:?}");
    assert_eq!(first, again);
    let (other, _) = run(&engine, Request { seed: Some(43), ..request(CODE, 60, warm) }).await;
    assert_ne!(first, other);
}

#[tokio::test]
async fn greedy_text_is_the_same_alone_with_neighbours_and_from_the_cache() {
    let prompts: Vec<_> = (0..6).map(|n| format!("# file {n}\nimport os\n{}", CODE.repeat(n + 1))).collect();
    let mut alone = Vec::new();
    for prompt in &prompts {
        alone.push(run(&engine(LIMITS).await, request(prompt, 80, Sampling::greedy())).await.0);
    }
    let shared = engine(LIMITS).await;
    for round in ["fresh", "cached"] {
        let running: Vec<_> =
            prompts.iter().map(|p| shared.submit(request(p, 80, Sampling::greedy())).unwrap()).collect();
        for (generation, expected) in running.into_iter().zip(&alone) {
            assert_eq!(&finish(generation).await.0, expected, "{round}");
        }
    }
}

#[tokio::test]
async fn control_tokens_of_the_vocabulary_are_single_tokens() {
    let engine = engine(LIMITS).await;
    assert!(engine.info().infill);
    let prompt = |gap: Prompt| Prompt::new().control(Control::InfillPrefix).text("a = ").then(gap);
    let plain = engine.tokenize(Prompt::plain("a = ")).await.unwrap();
    let with = prompt(Prompt::new().control(Control::InfillSuffix).text("").control(Control::InfillMiddle));
    let tokens = engine.tokenize(with.clone()).await.unwrap();
    assert_eq!(tokens.len(), plain.len() + 3);
    let text = String::from_utf8(engine.detokenize(tokens).await.unwrap()).unwrap();
    assert!(text.contains("<|fim_prefix|>a = <|fim_suffix|><|fim_middle|>"), "{text}");
    let request = Request { prompt: with, ..request("", 5, Sampling::greedy()) };
    assert!(run(&engine, request).await.1.completion_tokens > 0);
}

#[tokio::test]
async fn a_cancelled_generation_frees_its_slot() {
    let engine = engine(Limits { slots: 1, queue: 1, chunk_tokens: 32, prefix_bytes: 0, draft_tokens: 16 }).await;
    let mut long = engine.submit(request(CODE, 900, Sampling::greedy())).unwrap();
    while !matches!(timeout(PATIENCE, long.next()).await.unwrap(), Some(Event::Text { .. })) {}
    let next = engine.submit(request(CODE, 5, Sampling::greedy())).unwrap();
    drop(long);
    let (_, end) = finish(next).await;
    let completion = end.unwrap();
    assert!(completion.queued < Duration::from_secs(1), "{completion:?}");
    assert!(completion.cached_tokens > 0, "what the cancelled one computed is reused: {completion:?}");
    assert_eq!(engine.snapshot().active, 0);
}

#[tokio::test]
async fn stop_strings_token_limits_and_the_context_end_a_generation() {
    let engine = engine(LIMITS).await;
    let (text, completion) = run(&engine, request(CODE, 20, Sampling::greedy())).await;
    assert!(completion.completion_tokens == 20 && completion.finish == Finish::Length, "{completion:?}");
    let middle: String = text.chars().skip(5).take(4).collect();
    let at = text.find(&middle).unwrap();
    let stopping = Request { stop: vec![middle], ..request(CODE, 20, Sampling::greedy()) };
    let (stopped, completion) = run(&engine, stopping).await;
    assert_eq!((stopped.as_str(), completion.finish), (&text[..at], Finish::StopString(0)));

    let forever = Sampling {
        logit_bias: vec![
            (cerebrum_engine::Token(0), f32::NEG_INFINITY),
            (cerebrum_engine::Token(2), f32::NEG_INFINITY),
        ],
        ..Sampling::greedy()
    };
    let (_, completion) = run(&engine, request(CODE, 5000, forever)).await;
    assert_eq!(completion.finish, Finish::Length);
    assert_eq!(completion.prompt_tokens + completion.completion_tokens, 1024);
}

#[tokio::test]
async fn a_prompt_over_the_context_is_refused_with_both_numbers() {
    let engine = engine(LIMITS).await;
    let (_, end) = finish(engine.submit(request(&CODE.repeat(200), 5, Sampling::greedy())).unwrap()).await;
    let Err(Failure::ContextOverflow { prompt_tokens, context }) = end else { panic!("{end:?}") };
    assert!(prompt_tokens > 1024 && context == 1024, "{prompt_tokens} {context}");
}

#[tokio::test]
async fn control_tokens_are_recognised_in_markup_only() {
    let engine = engine(LIMITS).await;
    let markup = engine.tokenize(Prompt::new().markup("<|im_start|>")).await.unwrap();
    let text = engine.tokenize(Prompt::plain("<|im_start|>")).await.unwrap();
    assert!(markup.len() < text.len(), "{markup:?} {text:?}");
    assert!(engine.detokenize(text).await.unwrap().ends_with(b"<|im_start|>"));
    let all = engine.tokenize(Prompt::plain("caf\u{e9} \u{1f980}\0 x")).await.unwrap();
    assert!(engine.detokenize(all).await.unwrap().ends_with("caf\u{e9} \u{1f980}\0 x".as_bytes()));
    let unknown = vec![cerebrum_engine::Token(-1), cerebrum_engine::Token(1 << 20)];
    assert_eq!(engine.detokenize(unknown).await.unwrap(), b"");
}

#[tokio::test]
async fn files_that_are_no_models_are_refused_with_a_reason() {
    let folder = std::env::temp_dir().join(format!("cerebrum-engine-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let whole = std::fs::read(model()).unwrap();
    let mut unknown = whole.clone();
    let at = unknown.windows(20).position(|bytes| bytes == b"general.architecture").unwrap() + 20 + 4 + 8;
    unknown[at..at + 5].copy_from_slice(b"llamq");
    let mut wild = whole.clone();
    wild[8..24].fill(0xff);
    let files: [(&str, &[u8]); 6] = [
        ("empty.gguf", b""),
        ("text.gguf", b"hello, I am not a model"),
        ("header.gguf", &whole[..64]),
        ("truncated.gguf", &whole[..whole.len() / 2]),
        ("architecture.gguf", &unknown),
        ("counts.gguf", &wild),
    ];
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = Engine::start(name, LIMITS, Options::new(&path).loader()).loaded().await.expect_err(name);
        let expected = match name {
            "empty.gguf" | "text.gguf" => matches!(error, LoadError::NotGguf { .. }),
            "architecture.gguf" => matches!(error, LoadError::Unsupported { .. }),
            _ => matches!(error, LoadError::Damaged { .. }),
        };
        assert!(expected, "{name}: {error:?}");
        assert!(!error.to_string().contains("no reason"), "{name}: {error}");
    }
    let missing = Engine::start("missing", LIMITS, Options::new(folder.join("none")).loader()).loaded().await;
    assert!(matches!(missing, Err(LoadError::NotFound { .. })));
    let directory = Engine::start("directory", LIMITS, Options::new(&folder).loader()).loaded().await;
    assert!(matches!(directory, Err(LoadError::Unreadable { .. })));
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn an_engine_can_be_loaded_again_after_it_was_shut_down() {
    let limits = Limits::default();
    let first = engine(limits).await;
    let (text, _) = run(&first, request(CODE, 20, Sampling::greedy())).await;
    first.shut_down().await;
    assert_eq!(run(&engine(limits).await, request(CODE, 20, Sampling::greedy())).await.0, text);
}

// Figures, not a test: `cargo nextest run -p cerebrum-engine --run-ignored only --no-capture`.
#[tokio::test]
#[ignore = "prints figures"]
async fn figures() {
    let engine = engine(Limits { slots: 4, queue: 8, chunk_tokens: 128, prefix_bytes: 0, draft_tokens: 16 }).await;
    let (_, completion) = run(&engine, request(&CODE.repeat(30), 1, Sampling::greedy())).await;
    println!("prefill {:.0} tokens/s", completion.prompt_tokens as f64 / completion.prefill.as_secs_f64());
    for streams in [1_u32, 4] {
        let started = Instant::now();
        let running: Vec<_> =
            (0..streams).map(|_| engine.submit(request(CODE, 400, Sampling::default())).unwrap()).collect();
        let mut tokens = 0;
        for generation in running {
            tokens += finish(generation).await.1.unwrap().completion_tokens;
        }
        let (drafted, accepted) = (engine.snapshot().drafted, engine.snapshot().drafts_accepted);
        println!(
            "{streams} streams: {accepted} of {drafted} drafts, {:.0} tokens/s",
            tokens as f64 / started.elapsed().as_secs_f64()
        );
    }
}
