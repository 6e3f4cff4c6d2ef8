//! LoRA adapters, per request.

use cerebrum_engine::AdapterChoice;
use cerebrum_engine::llama::AdapterFile;

use super::*;

/// An adapter of random numbers for the bundled model's attention, as large as they have to be to change what it says.
fn random_adapter(path: &Path, seed: u32) {
    let header = cerebrum_engine::gguf::Header::of(&model()).expect("the bundled model");
    let rank = 4_u64;
    let mut random = seed;
    let mut number = move || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (f64::from(random >> 8) / f64::from(1 << 24) - 0.5) as f32
    };
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let (mut tensors, mut data, mut count) = (Vec::new(), Vec::new(), 0_u64);
    for tensor in header.tensors.iter().filter(|tensor| tensor.name.ends_with("attn_q.weight")) {
        for (part, shape) in [("lora_a", [tensor.shape[0], rank]), ("lora_b", [rank, tensor.shape[1]])] {
            tensors.extend(text(&format!("{}.{part}", tensor.name)));
            tensors.extend(2_u32.to_le_bytes());
            tensors.extend(shape.iter().flat_map(|side| side.to_le_bytes()));
            tensors.extend(0_u32.to_le_bytes());
            tensors.extend((data.len() as u64).to_le_bytes());
            data.extend((0..shape[0] * shape[1]).flat_map(|_| number().to_le_bytes()));
            data.resize(data.len().next_multiple_of(32), 0);
            count += 1;
        }
    }
    assert!(count >= 2, "the bundled model has changed its tensors");
    let pair = |key: &str, value: &str| [text(key), 8_u32.to_le_bytes().to_vec(), text(value)].concat();
    let alpha = [text("adapter.lora.alpha"), 6_u32.to_le_bytes().to_vec(), 4.0_f32.to_le_bytes().to_vec()].concat();
    let mut bytes = [b"GGUF\x03\0\0\0".to_vec(), count.to_le_bytes().to_vec(), 4_u64.to_le_bytes().to_vec()].concat();
    bytes.extend(pair("general.type", "adapter"));
    bytes.extend(pair("general.architecture", "llama"));
    bytes.extend(pair("adapter.type", "lora"));
    bytes.extend(alpha);
    bytes.extend(tensors);
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.extend(data);
    std::fs::write(path, bytes).expect("a folder that can be written");
}

#[tokio::test]
async fn adapters_are_switched_per_request_and_share_nothing() {
    let folder = std::env::temp_dir().join(format!("cerebrum-adapters-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| AdapterFile { name: name.into(), path: folder.join(format!("{name}.gguf")), scale: 1.0 };
    let adapters = vec![file("one"), file("two")];
    random_adapter(&adapters[0].path, 1);
    random_adapter(&adapters[1].path, 2);
    let options = Options { threads: Some(1), adapters: adapters.clone(), ..Options::new(model()) };
    let engine = Engine::start("adapted", LIMITS, options.clone().loader()).loaded().await.unwrap();
    assert_eq!(engine.info().adapters, ["one", "two"]);
    let with = |adapter: Option<&str>| Request {
        adapter: adapter.map(AdapterChoice::named),
        ..request(CODE, 40, Sampling::greedy())
    };

    let bare = run(&self::engine(LIMITS).await, request(CODE, 40, Sampling::greedy())).await.0;
    assert_eq!(run(&engine, with(None)).await.0, bare, "adapters that nobody asks for change nothing");
    let (one, completion) = run(&engine, with(Some("one"))).await;
    assert_eq!(completion.cached_tokens, 0, "what the bare model computed is of no use");
    let (two, _) = run(&engine, with(Some("two"))).await;
    assert!(one != bare && two != bare && one != two);
    for _ in 0..2 {
        let asked = [None, Some("one"), Some("two"), Some("one"), None, Some("two")];
        let running: Vec<_> = asked.iter().map(|adapter| engine.submit(with(*adapter)).unwrap()).collect();
        for (generation, adapter) in running.into_iter().zip(asked) {
            let expected = adapter.map_or(&bare, |name| if name == "one" { &one } else { &two });
            assert_eq!(&finish(generation).await.0, expected, "{adapter:?} beside others");
        }
    }

    // As much of it as the request says: none of it is the bare model, more of it is another.
    let scaled = |scale| Request {
        adapter: Some(AdapterChoice { scale: Some(scale), ..AdapterChoice::named("one") }),
        ..with(None)
    };
    assert_eq!(run(&engine, scaled(1.0)).await.0, one);
    assert_eq!(run(&engine, scaled(0.0)).await.0, bare);
    let (more, completion) = run(&engine, scaled(2.0)).await;
    assert!(more != one && completion.cached_tokens == 0, "{completion:?}");

    // Files that are no adapters of this model.
    let other = folder.join("other.gguf");
    std::fs::write(&other, b"text").unwrap();
    for (path, expected) in
        [(other, "not a GGUF file"), (model(), "cannot be loaded"), (folder.join("none"), "no such file")]
    {
        let wrong = Options { adapters: vec![AdapterFile { path, ..file("one") }], ..options.clone() };
        let error = Engine::start("wrong", LIMITS, wrong.loader()).loaded().await.expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
