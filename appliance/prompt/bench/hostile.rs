//! Family H: prompts that break careless shorteners. Each says what must still be there.

use crate::case::{Case, Random, make};
use crate::tree::Group;

/// The hostile cases, made from ordinary ones where that is possible.
pub(crate) fn cases(groups: &[Group], random: &mut Random, count: usize) -> Vec<Case> {
    let mut cases = fixed();
    for number in 0..count {
        let group = &groups[random.below(groups.len())];
        if let Some(case) = make('A', group, [8, 32][number % 2] << 10, random) {
            cases.push(twist(case, number % 5));
        }
    }
    cases
}

fn twist(mut case: Case, kind: usize) -> Case {
    case.family = 'H';
    case.signatures.clear();
    match kind {
        0 => case.prompt = case.prompt.replace('\n', "\r\n"),
        1 => {
            case.prompt = case.prompt.replace("    ", "\t");
            case.gold.iter_mut().for_each(|line| *line = line.replace("    ", "\t"));
        }
        2 => {
            case.prompt = format!("{}\n\n{}", "Überprüfe 漢字 🦀 für alle Fälle.", case.prompt);
        }
        3 if !case.prompt.contains("```") => {
            let middle = case.prompt.len() / 2;
            let at = case.prompt[middle..].find("\n\n").map_or(case.prompt.len(), |at| middle + at);
            let twin = case.prompt.split_off(at);
            case.prompt = case.prompt.replace(&case.instruction, "");
            case.prompt.push_str(&format!("\n\n{}\n", case.instruction));
            // The marker goes along with its instruction.
            let marked =
                [format!("// INSTRUCTION: {}", case.instruction), format!("# INSTRUCTION: {}", case.instruction)];
            case.prompt.push_str(&twin.replace(&marked[0], "").replace(&marked[1], ""));
        }
        _ => case.prompt = case.prompt.replace("```\n", "```\n\n```text\n```js\nlet inner = 1;\n```\n```\n"),
    }
    case
}

fn fixed() -> Vec<Case> {
    let minified = "function a(b){return b+1};var c=a(2);".repeat(4000);
    let sentences = "The quick brown fox jumps over the lazy dog and thinks about it. ".repeat(200);
    let one_line = "x".repeat(1 << 20);
    let equal_lines = "    value = compute(value)\n".repeat(40_000);
    let tiny = (0..20_000).map(|n| format!("def f{n}():\n  pass\n")).collect::<String>();
    let blank = "\n".repeat(200_000);
    let texts = [minified, sentences, one_line, equal_lines, tiny, blank];
    let case = |text: String| {
        let instruction = "Please explain what this does in one sentence.".to_owned();
        Case {
            family: 'H',
            group: "made".to_owned(),
            prompt: format!("{instruction}\n\n{text}\n"),
            gold: vec![instruction.clone()],
            instruction,
            signatures: Vec::new(),
            completion: false,
        }
    };
    texts.into_iter().map(case).collect()
}
