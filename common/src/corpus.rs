//! Folders of settings files as tests. For the tests of the programs: it panics where it finds something wrong.

use std::path::{Path, PathBuf};

use crate::program::Settings;

/// A folder with fewer files than this has lost some.
const FILES: usize = 3;

/// Every `.toml` file of `folder` is taken.
///
/// # Panics
/// With the problems of one that is not, and when files are missing.
pub fn all_are_taken<S: Settings>(folder: &Path) {
    for path in files(folder) {
        if let Err(error) = S::read(&path) {
            panic!("{error}");
        }
    }
}

/// Every `.toml` file of `folder` gives exactly the problems in its `#!` lines (of several lines of a problem, the first).
///
/// # Panics
/// Where the problems are others, and when files are missing.
pub fn all_give_their_problems<S: Settings>(folder: &Path) {
    for path in files(folder) {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let expected: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("#! ")).collect();
        assert!(!expected.is_empty(), "{}: no #! line", path.display());
        let problems = S::read(&path).err().map(|error| error.problems).unwrap_or_default();
        let sentences: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let found: Vec<_> = sentences.iter().map(|sentence| sentence.lines().next().unwrap_or_default()).collect();
        assert_eq!(found, expected, "{}", path.display());
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    assert!(files.len() >= FILES, "{}: found {} files, expected {FILES} or more", folder.display(), files.len());
    files
}
