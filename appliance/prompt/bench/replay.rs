//! Family D: commits of a git repository played again. The commit's subject is the instruction, the files are as they were
//! before, and gold are the lines that it changed, with the signatures of the functions that they are in.

use std::path::Path;
use std::process::Command;

use crate::case::{Case, Change, Random, distinctive, replay};
use crate::gold::{self, Definition, Grammar};
use crate::tree::{self, Group, Source};

/// Commits looked at.
const COMMITS: usize = 600;
/// Source files that a commit may change, and functions in them: larger ones are no single request.
const FILES: usize = 3;
const FUNCTIONS: usize = 4;
/// Bytes of a file that is taken.
const FILE_BYTES: usize = 120_000;

/// Cases from the history of `tree`, if it has one.
pub(crate) fn cases(tree: &Path, random: &mut Random, count: usize) -> Vec<Case> {
    let groups = tree::load(&[tree.to_owned()]);
    let log =
        git(tree, &["log", "--no-merges", "--diff-filter=M", "--format=%H %s", "-n", &COMMITS.to_string(), "--", "."]);
    let mut cases = Vec::new();
    for line in log.unwrap_or_default().lines() {
        if cases.len() >= count {
            break;
        }
        if let Some((commit, subject)) = line.split_once(' ') {
            cases.extend(case(tree, commit, subject, &groups, random));
        }
    }
    cases
}

fn git(tree: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(tree).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A commit that changed a few functions in place.
fn case(tree: &Path, commit: &str, subject: &str, groups: &[Group], random: &mut Random) -> Option<Case> {
    let names =
        git(tree, &["diff-tree", "-r", "--no-commit-id", "--name-only", "--diff-filter=M", "--relative", commit])?;
    let known: Vec<&str> = names.lines().filter(|path| Grammar::of(Path::new(path)).is_some()).collect();
    if known.is_empty() || known.len() > FILES {
        return None;
    }
    let (mut files, mut targets, mut gold) = (Vec::new(), Vec::new(), Vec::new());
    for path in known {
        let file = before(tree, commit, path)?;
        for (function, lines) in changed(tree, commit, &file)? {
            gold.extend(distinctive(&file.text[function.signature.clone()]));
            gold.extend(distinctive(&lines));
            targets.push(function);
        }
        files.push(file);
    }
    let target = targets.first().filter(|_| targets.len() <= FUNCTIONS)?.clone();
    let group = groups.iter().find(|group| group.files.iter().any(|file| file.grammar == files[0].grammar))?;
    Some(replay(group, Change { files, target, gold, subject: subject.to_owned() }, random))
}

fn before(tree: &Path, commit: &str, path: &str) -> Option<Source> {
    let grammar = Grammar::of(Path::new(path))?;
    let text = git(tree, &["show", &format!("{commit}^:./{path}")]).filter(|text| text.len() < FILE_BYTES)?;
    let definitions = gold::definitions(&text, grammar);
    Some(Source { path: path.to_owned(), text, grammar, definitions })
}

/// The functions that a commit changed in a file, each with its changed lines as they were.
fn changed(tree: &Path, commit: &str, file: &Source) -> Option<Vec<(Definition, String)>> {
    let diff = git(tree, &["diff", "-U0", &format!("{commit}^"), commit, "--", &file.path])?;
    let line_of = |at: usize| file.text[..at].matches('\n').count() + 1;
    let mut found: Vec<(Definition, String)> = Vec::new();
    for (first, last) in hunks(&diff) {
        let holds = |d: &&Definition| d.function && line_of(d.range.start) <= first && last <= line_of(d.range.end);
        let Some(function) = file.definitions.iter().find(holds) else { continue };
        let lines: String = file.text.split_inclusive('\n').skip(first - 1).take(last + 1 - first).collect();
        match found.iter_mut().find(|(known, _)| known.range == function.range) {
            Some((_, all)) => all.push_str(&lines),
            None => found.push((function.clone(), lines)),
        }
    }
    Some(found)
}

/// First and last line of every hunk before the change; for one that only adds, the line it adds behind.
fn hunks(diff: &str) -> Vec<(usize, usize)> {
    let hunk = |line: &str| {
        let old = line.strip_prefix("@@ -")?.split(' ').next()?;
        let (start, length) = old.split_once(',').unwrap_or((old, "1"));
        let (start, length): (usize, usize) = (start.parse().ok()?, length.parse().ok()?);
        (start > 0).then(|| (start, start + length.saturating_sub(1)))
    };
    diff.lines().filter_map(hunk).collect()
}
