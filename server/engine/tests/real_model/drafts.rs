//! Guessed tokens change nothing.

use super::*;

// With the penalty that is usual, which makes near ties of what the model would repeat: at the last of these prompts one was once decided
// otherwise with drafts.
#[tokio::test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "elsewhere ggml has kernels that add up in other orders")]
async fn near_ties_are_decided_as_without_drafts() {
    let block = "def read_lines(path):\n    with open(path) as file:\n        return file.readlines()\n\n";
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    let plain = engine(Limits { draft_tokens: 0, ..LIMITS }).await;
    let drafting = engine(Limits { draft_tokens: 32, ..LIMITS }).await;
    for n in [0, 2, 15, 18] {
        let prompt = format!("# file {n}\n{}def f{n}(a, b):\n    return", block.repeat(n % 8));
        let asking = || request(&prompt, 150, sampling.clone());
        let expected = run(&plain, asking()).await.0;
        for round in ["alone", "from the cache"] {
            assert_eq!(run(&drafting, asking()).await.0, expected, "# file {n}, {round}");
        }
    }
    assert!(drafting.snapshot().drafted > 40, "{:?}", drafting.snapshot());
}

#[tokio::test]
async fn drafts_change_no_text() {
    let file = format!("{}\n", CODE.repeat(3));
    let prompt = format!("{file}# again\n{file}# again\n");
    let sampling = Sampling::greedy();
    let plain = engine(Limits { draft_tokens: 0, ..LIMITS }).await;
    let drafting = engine(LIMITS).await;
    let (expected, _) = run(&plain, request(&prompt, 200, sampling.clone())).await;
    let (text, _) = run(&drafting, request(&prompt, 200, sampling.clone())).await;
    assert_eq!(text, expected);
    assert_eq!(plain.snapshot().drafted, 0);
    let snapshot = drafting.snapshot();
    assert!(snapshot.drafts_accepted > 40, "the model repeats what it reads: {snapshot:?}");
    // Again from the cache and beside others.
    let running: Vec<_> = (0..3).map(|_| drafting.submit(request(&prompt, 200, sampling.clone())).unwrap()).collect();
    for generation in running {
        assert_eq!(finish(generation).await.0, expected);
    }
}
