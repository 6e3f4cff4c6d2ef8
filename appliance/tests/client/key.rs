//! `cerebrum key`.

use cerebrum_common::keys::{KeyFile, Keys};

use crate::program::Home;

#[test]
fn a_key_is_made_listed_and_revoked() {
    let home = Home::new();
    let file = home.0.path().join("keys.toml");
    let run = |arguments: &[&str]| {
        let arguments = [&["key"], arguments, &["--file", file.to_str().unwrap()]].concat();
        home.run("", &arguments)
    };
    let added = run(&["add", "laptop"]);
    let key = added.out.trim_end().to_owned();
    assert!(added.code == Some(0) && key.starts_with("cbr_") && added.out.lines().count() == 1, "{added:?}");

    let keys = Keys::Known(KeyFile::read(&file).unwrap().known().unwrap());
    let mut headers = http::HeaderMap::new();
    headers.insert("x-api-key", key.parse().unwrap());
    assert_eq!(&*keys.authenticate(&headers).unwrap().name, "laptop");

    assert_eq!(run(&["add", "laptop"]).code, Some(64), "two keys of one name cannot be told apart");
    assert_eq!(run(&["list"]).out, "laptop  no use on record\n");
    assert_eq!(run(&["revoke", "desktop"]).code, Some(1));
    assert_eq!(run(&["revoke", "laptop"]).code, Some(0));
    let empty = run(&["list"]);
    assert_eq!((empty.code, empty.out.as_str()), (Some(0), ""));
}
