//! Texts that are made to be slow, for both benchmarks.

/// What they are asked to do.
pub(crate) const INSTRUCTION: &str = "Refactor the function that reads the header.";

/// Each of about so many bytes, by what it consists of.
pub(crate) fn traps(bytes: usize) -> [(&'static str, String); 4] {
    let repeat = |text: &str| text.repeat(bytes / text.len());
    let units = (0..bytes / 24).map(|n| format!("def f{n}():\n    pass\n\n")).collect();
    [
        ("one line", repeat("x")),
        ("equal lines", repeat("    value = compute(value)\n")),
        ("tiny units", units),
        ("open brackets", repeat("function(\n")),
    ]
}
