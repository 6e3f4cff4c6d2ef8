//! What holds for every prompt under the `smart` profile.

use std::collections::HashSet;

use cerebrum_prompt::{Mode, Outcome, Prepared, Profile, Request, Settings, prepare_request};
use proptest::prelude::*;

fn smart(request: &Request<'_>) -> Prepared {
    prepare_request(request, &Settings { profile: Profile::Smart })
}

const INSTRUCTION: &str = "Please refactor the function that parses the header.";

/// Code in pieces that repeat, any text, and an instruction at either end or nowhere.
fn prompts() -> impl Strategy<Value = String> {
    let function = (0usize..12, 1usize..12).prop_map(|(name, lines)| {
        let body: String = (0..lines).map(|n| format!("    value_{n} = compute_{name}({n}, 'text')\n")).collect();
        format!("def parse_{name}(x):\n{body}    return value_0\n\n")
    });
    let piece =
        prop_oneof![function, "\\PC{0,80}\n", "(class [A-Z][a-z]{1,8}:\n)", "([ \t]{0,9}[a-z(){};]{0,12}\n){0,8}"];
    (prop::collection::vec(piece, 0..40), 0usize..3).prop_map(|(pieces, end)| {
        let code = pieces.concat();
        match end {
            0 => format!("{INSTRUCTION}\n\n```python\n{code}\n```\n"),
            1 => format!("{code}\n\n# INSTRUCTION: {INSTRUCTION}\n"),
            _ => code,
        }
    })
}

proptest! {
    #[test]
    fn never_longer_never_without_the_instruction(prompt in prompts(), room in prop::option::of(50usize..3000)) {
        let prepared = smart(&Request { room, ..Request::new(&prompt) });
        prop_assert!(prepared.prompt.len() <= prompt.len());
        prop_assert_eq!(prepared.report.final_chars, prepared.prompt.chars().count());
        prop_assert!(prepared.prompt.contains(INSTRUCTION) == prompt.contains(INSTRUCTION));
        prop_assert!(prepared.report.outcome != Outcome::Doubtful, "a stage panicked");
    }

    #[test]
    fn every_kept_line_is_from_the_input(prompt in prompts(), room in prop::option::of(50usize..3000)) {
        let prepared = smart(&Request { room, ..Request::new(&prompt) });
        let lines: HashSet<&str> = prompt.lines().map(str::trim_end).collect();
        for line in prepared.prompt.lines().map(str::trim_end) {
            prop_assert!(line.is_empty() || lines.contains(line) || line.contains(" omitted"), "{:?}", line);
        }
    }

    #[test]
    fn deterministic_and_idempotent(prompt in prompts()) {
        let once = smart(&Request::new(&prompt));
        prop_assert_eq!(&once, &smart(&Request::new(&prompt)));
        prop_assert_eq!(&smart(&Request::new(&once.prompt)).prompt, &once.prompt);
    }

    #[test]
    fn a_completion_keeps_its_last_lines(prompt in prompts(), room in 600usize..3000) {
        let prepared = smart(&Request { mode: Mode::Completion, room: Some(room), ..Request::new(&prompt) });
        let tail = |text: &str| text.lines().rev().take(40).map(str::to_owned).collect::<Vec<_>>();
        prop_assert_eq!(tail(&prompt), tail(&prepared.prompt));
    }
}

/// Work while searching copies, per line: must not grow with the number of lines.
#[test]
fn no_quadratic_case() {
    let shapes: [fn(usize) -> String; 3] = [
        |lines| "    value = compute(value)\n".repeat(lines),
        |lines| (0..lines / 2).map(|n| format!("def f{n}():\n  pass\n")).collect(),
        |lines| (0..lines).map(|n| format!("line {}\n", n % 97)).collect(),
    ];
    for shape in shapes {
        let work = |lines: usize| {
            let prompt = format!("{INSTRUCTION}\n\n{}", shape(lines));
            smart(&Request::new(&prompt)).report.work as f64 / lines as f64
        };
        let (small, large) = (work(2_000), work(16_000));
        assert!(large <= small * 2.0 + 4.0, "work per line: {small} for 2,000 lines, {large} for 16,000");
    }
}
