//! Prefixes that outlive the model.

use super::*;

const KEEPING: Limits = Limits { prefix_bytes: 64 << 20, ..LIMITS };

async fn keeping(folder: &Path, context: Option<u32>) -> Engine {
    let keep_prefixes = Some((folder.to_owned(), 64 << 20));
    let options = Options { threads: Some(1), context, keep_prefixes, ..Options::new(model()) };
    Engine::start("tiny", KEEPING, options.loader()).loaded().await.expect("the bundled model loads")
}

#[tokio::test]
async fn the_next_load_of_the_same_model_knows_them_and_another_does_not() {
    let folder = std::env::temp_dir().join(format!("cerebrum-kept-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    let prompt = CODE.repeat(20);
    let asking = || request(&prompt, 60, Sampling::greedy());
    let first = keeping(&folder, None).await;
    let (text, completion) = run(&first, asking()).await;
    assert_eq!(completion.cached_tokens, 0);
    first.shut_down().await;

    let again = keeping(&folder, None).await;
    assert!(again.snapshot().stored_bytes > 0);
    let (same, cached) = run(&again, asking()).await;
    assert_eq!((same, cached.cached_tokens), (text.clone(), completion.prompt_tokens - 1));
    again.shut_down().await;

    // Of another shape: what was kept is not for it.
    let other = keeping(&folder, Some(512)).await;
    let (_, completion) = run(&other, asking()).await;
    assert_eq!(completion.cached_tokens, 0);
    other.shut_down().await;

    // Damaged files are removed, and the model is loaded all the same.
    let files = || std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    assert_eq!(files().len(), 2);
    for file in files() {
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
    }
    let damaged = keeping(&folder, None).await;
    assert_eq!((damaged.snapshot().stored_bytes, files().len()), (0, 1));
    assert_eq!(run(&damaged, asking()).await.0, text);
    std::fs::remove_dir_all(&folder).unwrap();
}
