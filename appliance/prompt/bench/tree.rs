//! Source trees: files by language, in groups that belong together (a crate, a package).

use std::fs;
use std::path::{Path, PathBuf};

use crate::gold::{self, Definition, Grammar};

/// One source file.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) grammar: Grammar,
    pub(crate) definitions: Vec<Definition>,
}

/// Files of one crate or package and language.
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) files: Vec<Source>,
}

/// Smallest and largest file that is used, in bytes.
const FILE_BYTES: std::ops::Range<usize> = 1_500..90_000;
/// Files of a group that are read.
const FILES: usize = 40;

/// Reads the trees; each subfolder of a tree with enough code is a group.
pub(crate) fn load(trees: &[PathBuf]) -> Vec<Group> {
    let mut groups = Vec::new();
    for tree in trees {
        let mut files = Vec::new();
        walk(tree, &mut files, 0);
        files.sort();
        for grammar in Grammar::ALL {
            let own: Vec<&PathBuf> = files.iter().filter(|file| Grammar::of(file) == Some(grammar)).collect();
            let group = group(tree, &own, grammar);
            if group.files.len() >= 3 {
                groups.push(group);
            }
        }
    }
    groups
}

fn group(tree: &Path, files: &[&PathBuf], grammar: Grammar) -> Group {
    // Spread over the tree, so that a large one is not known by its first folder only.
    let step = (files.len() / FILES).max(1);
    let read = |path: &&&PathBuf| source(tree, path, grammar);
    let name = tree.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Group {
        name: format!("{name}/{}", grammar.tag()),
        files: files.iter().step_by(step).filter_map(|path| read(&path)).collect(),
    }
}

fn source(tree: &Path, path: &Path, grammar: Grammar) -> Option<Source> {
    let text = fs::read_to_string(path).ok().filter(|text| FILE_BYTES.contains(&text.len()))?;
    let definitions = gold::definitions(&text, grammar);
    let relative = path.strip_prefix(tree).unwrap_or(path).to_string_lossy().into_owned();
    let path = if relative.contains('/') { relative } else { format!("src/{relative}") };
    Some(Source { path, text, grammar, definitions })
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>, depth: usize) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let skipped = name.starts_with('.')
            || ["test", "tests", "node_modules", "target", "benches", "__pycache__", "dist-packages"]
                .contains(&name.as_str());
        if path.is_dir() && !path.is_symlink() && depth < 7 && !skipped {
            walk(&path, files, depth + 1);
        } else if Grammar::of(&path).is_some() {
            files.push(path);
        }
    }
}
