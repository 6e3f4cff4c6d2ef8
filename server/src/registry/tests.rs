//! The registry over scripted models: shared loads, their failures, and who is unloaded when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use cerebrum_engine::scripted::Script;
use cerebrum_engine::{Event, Generation, Limits, LoadError, Prompt};

use super::*;
use crate::models::{Folder, Packing, pack};

/// No test waits longer; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

const LIMITS: Limits = Limits { slots: 2, queue: 0, chunk_tokens: 64, prefix_bytes: 0, draft_tokens: 0 };

/// The scripted model says that its weights are so large.
const WEIGHTS: u64 = 1 << 20;

/// Models load and generate on threads of their own, in real time. A paused clock runs ahead whenever the test waits for
/// one of them, so tests pause it only when the models they look at have been used.
struct Bench {
    registry: Registry,
    starts: Arc<AtomicUsize>,
    available: Arc<AtomicU64>,
    tasks: Tasks,
    folder: tempfile::TempDir,
}

/// Models `a`, `b` and `c`; `scripts(n)` is what the n-th load gives.
fn bench(scripts: impl Fn(usize) -> Script + Send + Sync + 'static) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        std::fs::write(folder.path().join(format!("{name}.gguf")), "GGUF").unwrap();
    }
    let tasks = Tasks::new();
    let (starts, available) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(u64::MAX)));
    let (counted, memory) = (starts.clone(), available.clone());
    let registry = Registry::new(Parts {
        catalog: Catalog { folder: folder.path().into(), ..Catalog::default() },
        starter: Box::new(move |found| {
            let script = scripts(counted.fetch_add(1, Ordering::SeqCst));
            Engine::start(&found.name, LIMITS, script.loader())
        }),
        memory: Box::new(move || memory.load(Ordering::SeqCst)),
        min_free_ram: 0,
        cache: Box::new(|_| 1),
        tasks: tasks.clone(),
    });
    Bench { registry, starts, available, tasks, folder }
}

fn request() -> Request {
    Request::new(Prompt::plain("x"))
}

impl Bench {
    /// Submits, waiting for the load where there is one.
    async fn run(&self, name: &str) -> Result<Generation, Unavailable> {
        let mut submission = self.registry.submit(name, request())?;
        loop {
            match submission {
                Submission::Taken(taken) => return Ok(taken.generation),
                Submission::Waiting(mut load, request) => {
                    ended(&mut load).await?;
                    submission = self.registry.submit(name, *request)?;
                }
            }
        }
    }

    async fn complete(&self, name: &str) {
        let mut generation = self.run(name).await.unwrap();
        while generation.next().await.is_some() {}
        eventually(|| self.registry.snapshots().iter().all(occupancy::is_idle)).await;
    }

    async fn complete_beside(&self, name: &str) {
        let mut generation = self.run(name).await.unwrap();
        while generation.next().await.is_some() {}
    }

    fn waiting(&self, name: &str) -> Load {
        match self.registry.submit(name, request()).unwrap() {
            Submission::Waiting(load, _) => load,
            Submission::Taken(_) => panic!("{name} is loaded already"),
        }
    }
}

async fn ended(load: &mut Load) -> Result<(), Unavailable> {
    loop {
        match load.next().await {
            Phase::Loading(_) => {}
            Phase::Ready => return Ok(()),
            Phase::Failed(reason) => return Err(reason),
        }
    }
}

async fn eventually(condition: impl Fn() -> bool) {
    let until = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < until, "it never came true");
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn everybody_who_waits_shares_one_load_and_sees_its_progress() {
    let bench = bench(|_| Script::saying("x").load_delay(Duration::from_millis(100)));
    let (mut first, mut second) = (bench.waiting("a"), bench.waiting("a"));
    assert!(matches!(first.next().await, Phase::Loading(_)));
    assert!(matches!(second.next().await, Phase::Loading(_)));
    assert_eq!(bench.registry.loading(), ["a"]);
    let mut shares = Vec::new();
    while let Phase::Loading(share) = first.next().await {
        shares.push(share);
    }
    assert!(shares.is_sorted() && shares.last().is_some_and(|&share| share > 0.0), "{shares:?}");
    ended(&mut second).await.unwrap();
    bench.complete("a").await;
    assert_eq!((bench.starts.load(Ordering::SeqCst), bench.registry.loaded()), (1, vec!["a".to_owned()]));
    assert_eq!(bench.registry.counts(), [("a".to_owned(), 1)].into());
}

#[tokio::test]
async fn a_failed_load_is_told_to_all_and_tried_again_by_the_next() {
    let bench = bench(|attempt| {
        let script = Script::saying("x").load_delay(Duration::from_millis(50));
        let error = LoadError::NotGguf { path: "a.gguf".into(), found: "junk".into() };
        if attempt == 0 { script.load_error(error) } else { script }
    });
    let mut waiters = [bench.waiting("a"), bench.waiting("a")];
    for waiter in &mut waiters {
        assert!(matches!(ended(waiter).await, Err(Unavailable::Load(LoadError::NotGguf { .. }))));
    }
    bench.complete("a").await;
    assert_eq!(bench.starts.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn one_load_at_a_time() {
    let bench = bench(|_| Script::saying("x").load_delay(Duration::from_millis(50)));
    let (mut first, mut second) = (bench.waiting("a"), bench.waiting("b"));
    assert_eq!(bench.registry.loading(), ["a", "b"]);
    ended(&mut first).await.unwrap();
    assert!(bench.registry.loaded() == ["a"], "b was loaded beside a");
    ended(&mut second).await.unwrap();
    assert_eq!(bench.registry.loaded(), ["a", "b"]);
}

#[tokio::test]
async fn the_least_recently_used_idle_model_makes_room() {
    let bench = bench(|_| Script::saying("x"));
    bench.complete("a").await;
    bench.complete("b").await;
    bench.complete("a").await; // b is now the one not used for longest
    // Enough for what is loaded and not for more.
    bench.available.store(2 * WEIGHTS, Ordering::SeqCst);
    bench.complete("c").await;
    assert_eq!(bench.registry.loaded(), ["a", "c"]);
}

#[tokio::test]
async fn a_model_at_work_never_makes_room() {
    let bench = bench(|_| Script::saying("y".repeat(3000)).step_delay(Duration::from_millis(5)));
    let mut generation = bench.run("a").await.unwrap();
    assert!(generation.next().await.is_some());
    bench.available.store(WEIGHTS, Ordering::SeqCst);
    let Err(reason) = bench.run("b").await else { panic!("loaded without memory") };
    assert!(matches!(&reason, Unavailable::Memory { model, needed: 5, free: 0 } if model == "b"), "{reason}");
    assert_eq!(bench.registry.loaded(), ["a"]);
    drop(generation);
    eventually(|| bench.registry.snapshots().iter().all(occupancy::is_idle)).await;
    assert!(bench.run("b").await.is_ok());
    assert_eq!(bench.registry.loaded(), ["b"]);
}

#[tokio::test]
async fn an_unused_model_is_really_unloaded_and_looking_is_no_use() {
    let bench = bench(|_| Script::saying("x"));
    let limit = Duration::from_secs(3600);
    bench.complete("a").await;
    tokio::time::pause();
    let keeper = Tasks::new();
    keeper.spawn(keep_idle_unloaded(bench.registry.clone(), limit, keeper.clone()));
    let mut passed = Duration::ZERO;
    while !bench.registry.loaded().is_empty() {
        tokio::time::sleep(Duration::from_secs(10)).await;
        passed += Duration::from_secs(10);
        assert_eq!(bench.registry.catalog().list().len(), 3); // what /v1/models does
        assert!(passed < 2 * limit, "it never went");
    }
    assert!(passed > limit - Duration::from_secs(60), "gone after {passed:?}");
    tokio::time::resume();
    assert!(keeper.drain(PATIENCE).await);
    bench.complete("a").await;
    assert_eq!(bench.starts.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_long_generation_is_not_idle() {
    let bench = bench(|_| Script::saying("y".repeat(3000)).step_delay(Duration::from_millis(5)));
    let mut generation = bench.run("a").await.unwrap();
    assert!(generation.next().await.is_some());
    let limit = Duration::from_secs(60);
    tokio::time::pause();
    bench.tasks.spawn(keep_idle_unloaded(bench.registry.clone(), limit, bench.tasks.clone()));
    tokio::time::sleep(10 * limit).await;
    assert_eq!(bench.registry.loaded(), ["a"]);
    assert!(!matches!(generation.next().await, None | Some(Event::Failed(_))));
    drop(generation);
    eventually(|| bench.registry.snapshots().iter().all(occupancy::is_idle)).await;
    tokio::time::sleep(2 * limit).await;
    eventually(|| bench.registry.loaded().is_empty()).await;
}

#[tokio::test]
async fn the_last_request_says_for_how_long_a_model_stays() {
    let bench = bench(|_| Script::saying("x"));
    // The settings would keep it for ever, and after a request that says nothing they decide again.
    bench.tasks.spawn(keep_idle_unloaded(bench.registry.clone(), None, bench.tasks.clone()));
    bench.complete("a").await;
    bench.registry.keep("a", Some(KeepAlive::Seconds(0)));
    eventually(|| bench.registry.loaded().is_empty()).await;
    // What was said of a model's last stay is nothing to its next.
    bench.complete("a").await;
    bench.complete("b").await;
    bench.registry.keep("b", Some(KeepAlive::Seconds(0)));
    eventually(|| bench.registry.loaded() == ["a"]).await;
}

#[tokio::test]
async fn a_model_that_is_to_stay_does_and_one_that_is_not_waits_for_its_generations() {
    let slow = || Script::saying("y".repeat(3000)).step_delay(Duration::from_millis(5));
    let bench = bench(move |load| if load == 0 { Script::saying("x") } else { slow() });
    bench.complete("a").await;
    bench.registry.keep("a", Some(KeepAlive::Forever));
    let mut generation = bench.run("b").await.unwrap();
    bench.registry.keep("b", Some(KeepAlive::Seconds(0)));
    assert!(generation.next().await.is_some());
    tokio::time::pause();
    bench.tasks.spawn(keep_idle_unloaded(bench.registry.clone(), Duration::from_secs(60), bench.tasks.clone()));
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(bench.registry.loaded(), ["a", "b"]);
    drop(generation);
    eventually(|| bench.registry.snapshots().iter().all(occupancy::is_idle)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    eventually(|| bench.registry.loaded() == ["a"]).await;
    bench.registry.keep("a", None);
    tokio::time::sleep(Duration::from_secs(120)).await;
    eventually(|| bench.registry.loaded().is_empty()).await;
}

#[tokio::test]
async fn unloading_gives_up_a_load_in_progress() {
    let bench = bench(|_| Script::saying("x").load_delay(Duration::from_millis(200)));
    let mut load = bench.waiting("a");
    assert_eq!(bench.registry.unload("a").await.as_deref(), Some("a"));
    assert!(matches!(ended(&mut load).await, Err(Unavailable::Unloaded { .. })));
    assert!(bench.registry.loaded().is_empty() && bench.registry.loading().is_empty());
    assert_eq!(bench.registry.unload("a").await, None);
    bench.complete("a").await;
}

#[tokio::test]
async fn nothing_is_loaded_after_the_end() {
    let bench = bench(|_| Script::saying("x"));
    bench.complete("a").await;
    bench.registry.shut_down().await;
    assert!(bench.registry.loaded().is_empty());
    assert!(matches!(bench.registry.submit("a", request()), Err(Unavailable::Stopping)));
}

#[tokio::test]
async fn a_package_is_unpacked_once_and_then_loaded() {
    let bench = bench(|_| Script::saying("x").load_delay(Duration::from_millis(50)));
    let (folder, name) = (Folder::new(bench.folder.path()), "p".parse().unwrap());
    let bundled = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/cerebrum-tiny.gguf");
    let packing = Packing { level: 1, ..Packing::default() };
    pack(&bundled, &folder, &folder.package(&name), &name, &packing, &mut |_, _| true).unwrap();
    let mut load = bench.waiting("p");
    let mut shares = Vec::new();
    while let Phase::Loading(share) = load.next().await {
        shares.push(share);
    }
    assert!(shares.is_sorted() && shares.last().is_some_and(|&share| share > 0.8), "{shares:?}");
    bench.complete("p").await;
    assert_eq!(std::fs::read(folder.gguf(&name)).unwrap(), std::fs::read(&bundled).unwrap());
    assert!(bench.registry.catalog().find("p").is_ok_and(|found| !found.packed));

    // One that is damaged: told to who asked, nothing left of it, and the others are served as before.
    let bytes = std::fs::read(folder.package(&name)).unwrap();
    std::fs::write(bench.folder.path().join("q.gguf.zst"), &bytes[..bytes.len() / 2]).unwrap();
    let Err(reason) = bench.run("q").await else { panic!("half a package was loaded") };
    assert!(
        matches!(&reason, Unavailable::Unpack(_)) && reason.to_string().contains("not a usable package"),
        "{reason}"
    );
    assert!(!bench.folder.path().join("q.gguf").exists() && !bench.folder.path().join(".q.gguf.part").exists());
    bench.complete("p").await;
}

#[tokio::test]
async fn a_loaded_model_stays_when_its_file_goes() {
    let bench = bench(|_| Script::saying("x"));
    bench.complete("a").await;
    std::fs::remove_file(bench.folder.path().join("a.gguf")).unwrap();
    bench.complete("a").await;
    assert_eq!(bench.registry.unload("a").await.as_deref(), Some("a"));
    assert!(matches!(bench.registry.submit("a", request()), Err(Unavailable::Unknown { .. })));
}

#[tokio::test]
async fn a_model_that_hangs_keeps_neither_the_program_nor_others_from_ending() {
    let (free, stuck) = std::sync::mpsc::sync_channel::<()>(0);
    let stuck = Arc::new(std::sync::Mutex::new(stuck));
    let begun = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let begins = begun.clone();
    let hangs = move |_: &str| {
        begins.store(true, Ordering::SeqCst);
        // Until the test lets it go.
        stuck.lock().unwrap().recv().ok();
        "x".to_owned()
    };
    let bench = bench(move |n| if n == 0 { Script::answering(hangs.clone()) } else { Script::saying("x") });
    let _hanging = bench.run("a").await.unwrap();
    bench.complete_beside("b").await;
    eventually(|| begun.load(Ordering::SeqCst)).await;
    let other = bench.registry.engine("b").await.unwrap();
    tokio::time::pause();
    tokio::time::timeout(PATIENCE, bench.registry.shut_down()).await.expect("an end");
    tokio::time::resume();
    other.stopped().await;
    drop(free);
}
