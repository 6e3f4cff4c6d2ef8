//! Every file of `settings/valid` is taken, every one of `settings/invalid` gives exactly the problems in its `#!` lines
//! (of several lines of a problem, the first).

use std::path::Path;

use cerebrum_appliance::settings::Settings;
use cerebrum_common::corpus;
use cerebrum_common::program::Settings as _;

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
    assert_eq!(settings.listen.to_string(), "[::]:7443");
    assert_eq!((settings.admit.in_progress, settings.admit.queue), (4, 8));
    assert!(settings.tls.as_ref().unwrap().client_ca.as_ref().unwrap().ends_with("valid/ca.pem"));
    let names: Vec<_> = settings.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    assert_eq!(names, ["vps", "cluster", "spare"]);
    assert_eq!(settings.upstreams[0].key.as_ref().unwrap().expose(), "secret");
    // Named but absent: said when the daemon starts or is asked to check, before anything runs.
    assert_eq!(settings.tls_files().into_iter().filter(Result::is_err).count(), 2);
}
