//! `cerebrum prepare`: what the appliance would make of a prompt: an account in words, and what is left out as a diff.

use std::collections::BTreeMap;
use std::process::ExitCode;

use cerebrum_prompt::Stage;
use serde::Deserialize;
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::cli::Prepare;
use super::console::Console;
use super::failure::Failure;
use super::figures::{count, grouped};
use super::input;
use super::interrupt::unless_interrupted;
use super::server::Server;

/// Lines shown around a change.
const CONTEXT: usize = 3;

/// What the appliance tells; later versions may tell more.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Account {
    prompt: String,
    model: String,
    language: String,
    language_source: String,
    profile: String,
    outcome: String,
    marker: Option<String>,
    instruction: Option<[usize; 2]>,
    original_chars: u64,
    final_chars: u64,
    chunks_total: u64,
    chunks_unique: u64,
    chunks_kept: u64,
    duplicate_lines: u64,
    saved_seconds: f64,
    stages_us: BTreeMap<String, u64>,
    anchors: Vec<String>,
    dropped: Vec<String>,
    warnings: Vec<String>,
}

/// Runs the command. The prompt itself goes to standard output only when it is asked for.
pub(super) async fn run(arguments: &Prepare, server: &Server, console: &mut Console) -> Result<ExitCode, Failure> {
    let prompt = input::prompt(arguments.prompt.as_deref(), arguments.file.as_deref())?;
    let mut body = serde_json::json!({ "prompt": prompt });
    for (field, value) in [("profile", &arguments.profile), ("language", &arguments.language)] {
        if let Some(value) = value {
            body[field] = Value::from(value.as_str());
        }
    }
    let answer: Value = unless_interrupted(server.ask("/v1/prepare", &body)).await?;
    if arguments.json {
        console.line(&format!("{answer:#}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let account = Account::deserialize(&answer).map_err(|error| Failure::NotCerebrum {
        authority: server.authority().to_owned(),
        found: format!("its JSON does not fit: {error}"),
    })?;
    for line in describe(&account, &prompt) {
        console.line(&line)?;
    }
    console.coloured(&diff(&prompt, &account.prompt, console.shows_answers()))?;
    Ok(ExitCode::SUCCESS)
}

fn describe(account: &Account, prompt: &str) -> Vec<String> {
    let share = match account.original_chars {
        0 => 0.0,
        chars => 100.0 - 100.0 * account.final_chars as f64 / chars as f64,
    };
    let mut lines = vec![
        format!("profile      {} ({})", account.profile, account.outcome.replace('_', " ")),
        format!("language     {} (by {}), answered by {}", account.language, account.language_source, account.model),
        format!("instruction  {}", instruction(account, prompt)),
        format!(
            "characters   {} -> {} ({share:.0} % less)",
            grouped(account.original_chars),
            grouped(account.final_chars)
        ),
    ];
    if account.chunks_total > 0 {
        lines.push(format!(
            "blocks       {}, {} of them different, {} sent",
            grouped(account.chunks_total),
            grouped(account.chunks_unique),
            grouped(account.chunks_kept)
        ));
    }
    if account.duplicate_lines > 0 {
        lines.push(format!("copies       {} left out", count(account.duplicate_lines, "line")));
    }
    for (title, names) in [("named        ", &account.anchors), ("shortened    ", &account.dropped)] {
        if !names.is_empty() {
            lines.push(format!("{title}{}", names.join(", ")));
        }
    }
    if account.saved_seconds > 0.0 {
        lines.push(format!("saves        about {:.0} s of reading on the server", account.saved_seconds));
    }
    lines.extend(stages(&account.stages_us));
    lines.extend(account.warnings.iter().map(|warning| format!("warning      {warning}")));
    lines
}

/// How long preparing took, and where.
fn stages(stages_us: &BTreeMap<String, u64>) -> Option<String> {
    let milliseconds = |us: u64| us as f64 / 1000.0;
    let each: Vec<String> = Stage::ALL
        .iter()
        .filter_map(|stage| Some(format!("{} {:.2}", stage.as_str(), milliseconds(*stages_us.get(stage.as_str())?))))
        .collect();
    let whole = milliseconds(stages_us.values().sum());
    (!each.is_empty()).then(|| format!("took         {whole:.2} ms: {}", each.join(", ")))
}

/// The instruction's first line: enough to see whether the right one was found.
fn instruction(account: &Account, prompt: &str) -> String {
    let text = account.instruction.and_then(|[start, end]| prompt.get(start..end));
    let marker = account.marker.as_ref().map(|marker| format!("after {marker:?}: ")).unwrap_or_default();
    match text.and_then(|text| text.trim().lines().next()) {
        Some(line) => format!("{marker}{line}"),
        None => "none found".to_owned(),
    }
}

/// What goes and what comes, with a few lines around it.
fn diff(before: &str, after: &str, colours: bool) -> String {
    let diff = TextDiff::from_lines(before, after);
    let mut out = String::new();
    for group in diff.grouped_ops(CONTEXT) {
        out.push_str("---\n");
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let (sign, colour) = match change.tag() {
                ChangeTag::Delete => ('-', "\x1b[31m"),
                ChangeTag::Insert => ('+', "\x1b[32m"),
                ChangeTag::Equal => (' ', ""),
            };
            let line = change.value().trim_end_matches(['\r', '\n']);
            // Control characters of a prompt could rewrite the terminal.
            let line: String = line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
            match colours && !colour.is_empty() {
                true => out.push_str(&format!("{colour}{sign}{line}\x1b[0m\n")),
                false => out.push_str(&format!("{sign}{line}\n")),
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_shows_what_goes_with_a_few_lines_around_it() {
        let before = "a\nb\nc\nd\ne\nf\x1b[2J\ng\nh\n";
        assert_eq!(diff(before, "a\nb\nc\nd\nf\x1b[2J\ng\nh\n", false), "---\n b\n c\n d\n-e\n f\u{fffd}[2J\n g\n h\n");
        assert!(diff("a\n", "b\n", true).contains("\x1b[31m-a\x1b[0m\n\x1b[32m+b\x1b[0m\n"));
        assert_eq!(diff("same\n", "same\n", true), "");
    }

    #[test]
    fn the_account_is_readable() {
        let account = Account {
            profile: "classic".into(),
            outcome: "reduced".into(),
            language: "python".into(),
            language_source: "keywords".into(),
            model: "qwen_7b".into(),
            marker: Some("# REFACTOR:".into()),
            instruction: Some([0, 8]),
            original_chars: 8558,
            final_chars: 1129,
            chunks_total: 10,
            chunks_unique: 2,
            chunks_kept: 1,
            stages_us: [("units".to_owned(), 250), ("lines".to_owned(), 120)].into(),
            ..Account::default()
        };
        let lines = describe(&account, "make one of it");
        assert_eq!(lines[0], "profile      classic (reduced)");
        assert_eq!(lines[2], "instruction  after \"# REFACTOR:\": make one");
        assert_eq!(lines[3], "characters   8,558 -> 1,129 (87 % less)");
        assert_eq!(lines[4], "blocks       10, 2 of them different, 1 sent");
        assert_eq!(lines[5], "took         0.37 ms: lines 0.12, units 0.25");
    }
}
