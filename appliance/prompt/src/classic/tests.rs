use super::*;

fn classic(prompt: &str) -> Prepared {
    crate::prepare(prompt, Profile::Classic)
}

fn chunks(report: &Report) -> [usize; 3] {
    [report.chunks_total, report.chunks_unique, report.chunks_kept]
}

/// Distinct lines of code, exactly `period` characters, ending in a line end.
fn block(period: usize) -> String {
    let mut text: String = (0..).map(|n| format!("value_{n:03} = compute({n})\n")).take(period / 20 + 1).collect();
    text.truncate(period - 1);
    text.push('\n');
    text
}

/// A prompt of exactly `length` characters: code repeated with `period`, then the instruction.
fn repeated(period: usize, length: usize) -> String {
    let tail = "\n# INSTRUCTION: use async and await";
    let code: String = block(period).chars().cycle().take(length - tail.len()).collect();
    code + tail
}

#[test]
fn duplicates_are_found_only_when_the_period_fits_the_stride() {
    // (period, windows, unique, kept)
    for (period, unique, kept) in
        [(425, 2, 1), (850, 2, 1), (1700, 3, 2), (340, 3, 2), (500, 10, 3), (834, 10, 3), (1000, 10, 3), (2000, 10, 3)]
    {
        let prompt = repeated(period, 8344);
        assert_eq!(chunks(&classic(&prompt).report), [10, unique, kept], "period {period}");
    }
}

/// The first Cerebrum's own example: 8,344 characters of repeated code, of which its documentation says "10 chunks, 2
/// unique, the best 3 kept, 3,167 characters, 62 % saved". No run of its code gives that: 2 unique windows keep
/// min(3, 2 - 1) = 1 of them, about 1,100 characters and 87 % saved. Three windows (about 3,100 characters) are kept
/// only when at least 4 are unique, that is when the duplicates were *not* found.
#[test]
fn the_published_example_mixes_two_different_runs() {
    let aligned = classic(&repeated(850, 8344));
    assert_eq!(chunks(&aligned.report), [10, 2, 1]);
    assert_eq!((aligned.report.original_chars, aligned.report.final_chars), (8344, 1105));

    let unaligned = classic(&repeated(834, 8344));
    assert_eq!(chunks(&unaligned.report), [10, 10, 3]);
    assert_eq!((unaligned.report.original_chars, unaligned.report.final_chars), (8344, 3109));
}

#[test]
fn the_instruction_comes_first_in_the_published_wrapper() {
    let prepared = classic("def f():\n    return 1\n\n# TODO: add types\nand a docstring\n");
    let expected = "# TODO: add types\nand a docstring\n\nHere is the code to refactor:\n```python\ndef f():\n    return 1\n\n\
                    Refactored code:\n```python\n";
    assert_eq!(prepared.prompt, expected);
    assert_eq!(prepared.report.marker, Some("# TODO:"));
    assert_eq!(prepared.report.instruction, Some(23..56));
    assert_eq!(prepared.report.outcome, Outcome::InstructionFirst);
}

#[test]
fn markers() {
    let far = format!("INSTRUCTION: far\n{}", "x\n".repeat(12));
    let near = format!("INSTRUCTION: near\n{}", "x\n".repeat(11));
    for (prompt, found) in [
        ("INSTRUCTION: a", true),
        ("  # REFACTOR: a", true),
        ("code\nTODO: a\n\n\n", true),
        ("// TODO: another comment leader", false),
        ("# todo: lower case", false),
        ("see TODO: in mid-line", false),
        ("", false),
        (near.as_str(), true),
        (far.as_str(), false),
    ] {
        assert_eq!(classic(prompt).report.marker.is_some(), found, "{prompt:?}");
    }
}

#[test]
fn the_last_marker_wins() {
    let prepared = classic("x = 1\nTODO: first\nTODO: second");
    assert!(prepared.prompt.starts_with("TODO: second\n\nHere"));
    assert!(prepared.prompt.contains("TODO: first"));
}

#[test]
fn outcomes() {
    for (prompt, outcome) in [
        ("short".to_owned(), Outcome::Short),
        ("short\nTODO: x".to_owned(), Outcome::InstructionFirst),
        (block(4000), Outcome::SavingTooSmall),
        (format!("{}\n# TODO: go", block(1600)), Outcome::Reduced),
        (format!("{}\n# TODO: {}", block(1600), "go ".repeat(3000)), Outcome::SavingTooSmall),
        (format!("{}\n# TODO: go", "a".repeat(1850)), Outcome::NothingToChoose),
    ] {
        let prepared = classic(&prompt);
        assert_eq!(prepared.report.outcome, outcome, "{} bytes", prompt.len());
        assert_eq!(prepared.prompt == prompt, outcome.is_original());
    }
}

#[test]
fn the_first_1500_characters_are_never_divided() {
    let prompt = |code: usize| format!("{}\nTODO: go", "é".repeat(code));
    assert_eq!(classic(&prompt(1500)).report.chunks_total, 0);
    assert_eq!(classic(&prompt(1501)).report.chunks_total, 2);
}

#[test]
fn windows_come_in_order_of_shared_words() {
    assert_eq!(best(vec!["a b", "x y", "Parse X"], "# TODO: parse x", 2), ["Parse X", "x y"]);
    // Words end at white space only: a weakness that is kept.
    assert_eq!(best(vec!["parse(x)", "other"], "parse", 1), ["parse(x)"], "equals keep their order");
}
