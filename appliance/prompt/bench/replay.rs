//! Family D: commits of a git repository played again. The commit's subject is the instruction, the function that it changed is
//! the gold, and the file is as it was before.

use std::path::Path;
use std::process::Command;

use crate::case::{Case, Random, make_from};
use crate::gold::{self, Grammar};
use crate::tree::{Group, Source};

/// Commits looked at.
const COMMITS: usize = 600;

/// Cases from the history of `tree`, if it has one.
pub(crate) fn cases(tree: &Path, groups: &[Group], random: &mut Random, count: usize) -> Vec<Case> {
    let log =
        git(tree, &["log", "--no-merges", "--diff-filter=M", "--format=%H %s", "-n", &COMMITS.to_string(), "--", "."]);
    let mut cases = Vec::new();
    for line in log.unwrap_or_default().lines() {
        if cases.len() >= count {
            break;
        }
        if let Some((commit, subject)) = line.split_once(' ') {
            cases.extend(case(tree, commit, subject, groups, random));
        }
    }
    cases
}

fn git(tree: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(tree).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A commit that changed one function of one file in place.
fn case(tree: &Path, commit: &str, subject: &str, groups: &[Group], random: &mut Random) -> Option<Case> {
    let names =
        git(tree, &["diff-tree", "-r", "--no-commit-id", "--name-only", "--diff-filter=M", "--relative", commit])?;
    let mut known = names.lines().filter(|path| Grammar::of(Path::new(path)).is_some());
    let (path, None) = (known.next()?, known.next()) else { return None };
    let grammar = Grammar::of(Path::new(path))?;
    let text = git(tree, &["show", &format!("{commit}^:./{path}")])?;
    let changed = changed_lines(&git(tree, &["diff", "-U0", &format!("{commit}^"), commit, "--", path])?)?;
    let definitions = gold::definitions(&text, grammar);
    let line_of = |at: usize| text[..at].matches('\n').count() + 1;
    let holds =
        |d: &&gold::Definition| d.function && line_of(d.range.start) <= changed.0 && changed.1 <= line_of(d.range.end);
    let target = definitions.iter().find(holds)?.clone();
    let group = groups.iter().find(|group| group.files.iter().any(|file| file.grammar == grammar))?;
    let source = Source { path: path.to_owned(), text, grammar, definitions };
    (target.range.len() < 4000 && source.text.len() < 120_000)
        .then(|| make_from(group, &source, &target, subject, random))
        .flatten()
}

/// First and last line before the change.
fn changed_lines(diff: &str) -> Option<(usize, usize)> {
    let ranges = diff.lines().filter(|line| line.starts_with("@@ -")).filter_map(|line| {
        let old = line[4..].split(' ').next()?;
        let (start, length) = old.split_once(',').unwrap_or((old, "1"));
        let (start, length): (usize, usize) = (start.parse().ok()?, length.parse().ok()?);
        Some((start, start + length.saturating_sub(1)))
    });
    ranges.reduce(|one, two| (one.0.min(two.0), one.1.max(two.1)))
}
