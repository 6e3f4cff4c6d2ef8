//! What holds for every prompt under the `classic` profile.

use cerebrum_prompt::{Outcome, Profile, prepare};
use proptest::prelude::*;

/// The wrapper's fixed words: the most by which a short prompt with an instruction may grow.
const WRAPPER_CHARS: usize = "\n\nHere is the code to refactor:\n```python\n\n\nRefactored code:\n```python\n".len();

/// Any text, text with a marker, and repeated text with one.
fn prompts() -> impl Strategy<Value = String> {
    let line = prop_oneof!["[a-z ]{0,60}", "\\PC{0,40}", Just("TODO: x".to_owned())];
    (prop::collection::vec(line, 0..30), 1usize..12, prop::option::of("[a-z ]{0,50}")).prop_map(
        |(lines, times, instruction)| {
            let mut text = lines.join("\n").repeat(times);
            if let Some(instruction) = instruction {
                text.push_str("\n# INSTRUCTION: ");
                text.push_str(&instruction);
            }
            text
        },
    )
}

proptest! {
    #[test]
    fn grows_only_by_the_wrapper_of_a_short_prompt(prompt in prompts()) {
        let prepared = prepare(&prompt, Profile::Classic);
        let report = &prepared.report;
        prop_assert_eq!(report.final_chars, prepared.prompt.chars().count());
        let short = report.outcome == Outcome::InstructionFirst;
        let limit = if short { report.original_chars + WRAPPER_CHARS } else { report.original_chars };
        prop_assert!(report.final_chars <= limit);
    }

    #[test]
    fn the_instruction_is_never_lost(prompt in prompts()) {
        let prepared = prepare(&prompt, Profile::Classic);
        if let Some(range) = prepared.report.instruction {
            prop_assert!(prepared.prompt.contains(&prompt[range]));
        }
    }

    #[test]
    fn the_same_prompt_gives_the_same_bytes(prompt in prompts()) {
        let (one, two) = (prepare(&prompt, Profile::Classic), prepare(&prompt, Profile::Classic));
        prop_assert_eq!(one.prompt, two.prompt);
        prop_assert_eq!(one.report, two.report);
    }

    #[test]
    fn an_original_outcome_means_the_original(prompt in prompts(), off in any::<bool>()) {
        let prepared = prepare(&prompt, if off { Profile::Off } else { Profile::Classic });
        if prepared.report.outcome.is_original() {
            prop_assert_eq!(&prepared.prompt, &prompt);
        }
        prop_assert_eq!(off, prepared.report.outcome == Outcome::Off);
    }
}
