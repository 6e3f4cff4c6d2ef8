//! Gaps that editors write as one prompt, in the control tokens of the model that they expect. Control tokens in a prompt are
//! text here, as in anybody's prompt; what such a prompt means is a gap, which any model that can fills in its own tokens.

/// Before the prefix, before the suffix, and where the model goes on.
const MARKS: [(&str, &str, &str); 4] = [
    // Qwen, CodeGemma.
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    // StarCoder, Granite.
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    // Code Llama.
    ("<PRE> ", " <SUF>", " <MID>"),
    // DeepSeek Coder.
    ("<\u{ff5c}fim\u{2581}begin\u{ff5c}>", "<\u{ff5c}fim\u{2581}hole\u{ff5c}>", "<\u{ff5c}fim\u{2581}end\u{ff5c}>"),
];

/// What is before and behind the gap, where the prompt as a whole is one.
pub(super) fn gap(prompt: &str) -> Option<(&str, &str)> {
    MARKS
        .iter()
        .find_map(|(prefix, suffix, middle)| prompt.strip_prefix(prefix)?.strip_suffix(middle)?.split_once(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_that_is_a_gap_as_a_whole_is_one() {
        assert_eq!(gap("<|fim_prefix|>a\n<|fim_suffix|>\nb<|fim_middle|>"), Some(("a\n", "\nb")));
        assert_eq!(gap("<fim_prefix>a<fim_suffix><fim_middle>"), Some(("a", "")));
        assert_eq!(gap("<PRE> a <SUF>b <MID>"), Some(("a", "b")));
        assert_eq!(gap("what does <|fim_prefix|>a<|fim_suffix|>b<|fim_middle|> mean?"), None);
        assert_eq!(gap("<|fim_prefix|>a<|fim_middle|>"), None);
    }
}
