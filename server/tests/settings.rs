//! Every file of `settings/valid` is taken, every one of `settings/invalid` gives exactly the problems in its `#!` lines (of
//! several lines of a problem, the first).

use std::path::{Path, PathBuf};

use cerebrum_common::program::Settings as _;
use cerebrum_server::settings::Settings;

#[expect(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]
fn files(folder: &str) -> Vec<PathBuf> {
    let files: Vec<_> = std::fs::read_dir(Path::new("tests/settings").join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    assert!(files.len() >= 3, "the files of {folder} are missing");
    files
}

#[test]
fn valid_files_are_taken() {
    for path in files("valid") {
        Settings::read(&path).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn invalid_files_give_all_their_problems_at_once() {
    for path in files("invalid") {
        let text = std::fs::read_to_string(&path).unwrap();
        let expected: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("#! ")).collect();
        assert!(!expected.is_empty(), "{}: no #! line", path.display());
        let problems = Settings::read(&path).unwrap_err().problems;
        let sentences: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let found: Vec<_> = sentences.iter().map(|sentence| sentence.lines().next().unwrap_or_default()).collect();
        assert_eq!(found, expected, "{}", path.display());
    }
}

#[test]
fn the_file_with_every_key_says_what_it_says() {
    let settings = Settings::read(Path::new("tests/settings/valid/everything.toml")).unwrap();
    assert_eq!(settings.listen.to_string(), "[::]:9443");
    assert_eq!(settings.models.aliases["qwen_7b"], "cerebrum-tiny");
    assert_eq!((settings.models.threads, settings.models.context), (Some(2), Some(4096)));
    assert_eq!((settings.models.engine.slots, settings.models.engine.queue), (2, 0));
    assert_eq!(settings.guards.min_free_ram, 1 << 30);
    assert!(settings.models.folder.ends_with("valid/models"));
    assert!(settings.tls.unwrap().client_ca.unwrap().ends_with("valid/ca.pem"));
}
