//! Every file of `settings/valid` is taken, every one of `settings/invalid` gives exactly the problems in its `#!` lines
//! (of several lines of a problem, the first).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use cerebrum_appliance::settings::Settings;
use cerebrum_common::program::Settings as _;

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
    assert_eq!(settings.listen.to_string(), "[::]:7443");
    assert_eq!((settings.admit.in_progress, settings.admit.queue), (4, 8));
    assert!(settings.tls.as_ref().unwrap().client_ca.as_ref().unwrap().ends_with("valid/ca.pem"));
    let names: Vec<_> = settings.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    assert_eq!(names, ["vps", "spare"]);
    assert_eq!(settings.upstreams[0].key.as_ref().unwrap().expose(), "secret");
    // Named but absent: said when the daemon starts or is asked to check, before anything runs.
    assert_eq!(settings.tls_files().into_iter().filter(Result::is_err).count(), 2);
}
