//! Every file of `settings/valid` is taken, every one of `settings/invalid` gives exactly the problems in its `#!` lines (of
//! several lines of a problem, the first).

use std::path::Path;

use cerebrum_common::corpus;
use cerebrum_common::program::Settings as _;
use cerebrum_server::settings::Settings;

#[test]
fn valid_files_are_taken() {
    corpus::all_are_taken::<Settings>(Path::new("tests/settings/valid"));
}

#[test]
fn invalid_files_give_all_their_problems_at_once() {
    corpus::all_give_their_problems::<Settings>(Path::new("tests/settings/invalid"));
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
