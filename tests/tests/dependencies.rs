//! Dependencies point one way: prompt, board <- appliance -> common <- server -> engine.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

const PRODUCT: [&str; 6] = [
    "cerebrum-appliance",
    "cerebrum-board",
    "cerebrum-common",
    "cerebrum-engine",
    "cerebrum-prompt",
    "cerebrum-server",
];

fn normal_dependencies() -> BTreeMap<String, Vec<String>> {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names = |package: &Value| {
        let list = package["dependencies"].as_array().unwrap().iter();
        let normal = list.filter(|dependency| dependency["kind"].is_null());
        normal.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect()
    };
    packages.iter().map(|package| (package["name"].as_str().unwrap().to_owned(), names(package))).collect()
}

#[test]
fn dependencies_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("cerebrum-prompt", &[][..]),
        ("cerebrum-board", &[]),
        ("cerebrum-common", &[]),
        ("cerebrum-engine", &[]),
        ("cerebrum-appliance", &["cerebrum-board", "cerebrum-common", "cerebrum-prompt"]),
        ("cerebrum-server", &["cerebrum-common", "cerebrum-engine"]),
    ]);
    let found = normal_dependencies();
    for name in PRODUCT {
        let inner: Vec<_> = found[name].iter().filter(|dependency| dependency.starts_with("cerebrum-")).collect();
        assert!(inner.iter().all(|dependency| allowed[name].contains(&dependency.as_str())), "{name} -> {inner:?}");
    }
}

#[test]
fn pure_crates_stay_pure_and_c_stays_in_the_engine() {
    let found = normal_dependencies();
    let impure = ["tokio", "hyper", "tracing", "rustls"];
    let prompt = &found["cerebrum-prompt"];
    assert!(prompt.iter().all(|dependency| !impure.contains(&dependency.as_str())), "{prompt:?}");
    for (name, dependencies) in &found {
        let speaks_c = dependencies.iter().any(|dependency| dependency.starts_with("llama-cpp"));
        assert_eq!(speaks_c, name == "cerebrum-engine", "{name}");
    }
}
