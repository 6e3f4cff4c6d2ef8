//! Words: verbs of instructions, words that say nothing, and what abbreviations stand for. Data, and looking it up.

use crate::word_table::WordTable;

/// Verbs that instructions begin with; sorted.
#[rustfmt::skip]
const TASKS: [&str; 30] = [
    "add", "change", "check", "clean", "comment", "convert", "correct", "debug", "describe", "document", "explain",
    "extend", "find", "finish", "fix", "implement", "improve", "inline", "migrate", "optimise", "optimize", "port",
    "refactor", "rename", "repair", "review", "rewrite", "simplify", "test", "update",
];

/// English and request words that say nothing about which code is meant; sorted.
#[rustfmt::skip]
const STOP_WORDS: [&str; 114] = [
    "a", "about", "add", "after", "all", "also", "an", "and", "any", "are", "as", "at", "be", "been", "behaviour",
    "but", "by", "can", "change", "class", "code", "comments", "could", "do", "docstring", "does", "each",
    "explain", "find", "fix", "following", "for", "from", "function", "given", "has", "have", "here", "how", "i",
    "if", "implement", "improve", "in", "instruction", "into", "is", "it", "its", "keep", "make", "may", "me",
    "method", "might", "must", "need", "needs", "new", "no", "not", "now", "of", "on", "one", "only", "or",
    "other", "please", "python", "refactor", "rewrite", "rust", "same", "should", "simplify", "so", "some", "such",
    "task", "tests", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "those",
    "to", "todo", "use", "uses", "using", "was", "we", "what", "when", "where", "which", "while", "who", "why",
    "will", "with", "without", "work", "would", "write", "you", "your",
];

/// What programs write for the words that sentences use; sorted.
#[rustfmt::skip]
const ABBREVIATIONS: [(&str, &str); 110] = [
    ("addr", "address"), ("alloc", "allocate"), ("arg", "argument"), ("args", "argument"), ("attr", "attribute"),
    ("attrs", "attribute"), ("auth", "authenticate"), ("buf", "buffer"), ("calc", "calculate"),
    ("cfg", "configuration"), ("ch", "character"), ("char", "character"), ("chars", "character"), ("cls", "class"),
    ("cmd", "command"), ("cmp", "compare"), ("conf", "configuration"), ("config", "configuration"),
    ("conn", "connection"), ("ctx", "context"), ("cur", "current"), ("curr", "current"), ("db", "database"),
    ("decl", "declaration"), ("def", "definition"), ("defs", "definition"), ("del", "delete"),
    ("dest", "destination"), ("dict", "dictionary"), ("dir", "directory"), ("dirs", "directory"),
    ("doc", "documentation"), ("docs", "documentation"), ("dst", "destination"), ("elem", "element"),
    ("elems", "element"), ("env", "environment"), ("eq", "equal"), ("err", "error"), ("errs", "error"),
    ("exc", "exception"), ("exec", "execute"), ("expr", "expression"), ("ext", "extension"), ("fmt", "format"),
    ("fn", "function"), ("func", "function"), ("gen", "generate"), ("hdr", "header"), ("hex", "hexadecimal"),
    ("id", "identifier"), ("ident", "identifier"), ("idx", "index"), ("impl", "implementation"),
    ("info", "information"), ("init", "initialize"), ("int", "integer"), ("iter", "iterator"),
    ("lang", "language"), ("len", "length"), ("lib", "library"), ("loc", "location"), ("max", "maximum"),
    ("mem", "memory"), ("min", "minimum"), ("mod", "module"), ("msg", "message"), ("msgs", "message"),
    ("nav", "navigation"), ("num", "number"), ("obj", "object"), ("op", "operation"), ("ops", "operation"),
    ("opt", "option"), ("opts", "option"), ("orig", "original"), ("param", "parameter"), ("params", "parameter"),
    ("pkg", "package"), ("pos", "position"), ("prev", "previous"), ("proc", "process"), ("prop", "property"),
    ("props", "property"), ("ptr", "pointer"), ("recv", "receive"), ("ref", "reference"), ("refs", "reference"),
    ("reg", "register"), ("req", "request"), ("res", "response"), ("resp", "response"), ("sep", "separator"),
    ("seq", "sequence"), ("sig", "signature"), ("spec", "specification"), ("specs", "specification"),
    ("src", "source"), ("stmt", "statement"), ("str", "string"), ("sync", "synchronize"), ("temp", "temporary"),
    ("tmp", "temporary"), ("tok", "token"), ("val", "value"), ("vals", "value"), ("var", "variable"),
    ("vars", "variable"), ("vec", "vector"), ("ver", "version"),
];

/// Whether an instruction begins with this word.
pub(super) fn is_task(word: &str) -> bool {
    TASKS.binary_search(&word).is_ok()
}

/// Whether a word in lower case says nothing about which code is meant.
pub(super) fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.binary_search(&word).is_ok()
}

/// The word that an abbreviation stands for: programs say `msg`, sentences say "message".
#[inline]
pub(super) fn full(word: &[u8]) -> &[u8] {
    static TABLE: WordTable<{ ABBREVIATIONS.len() }> = WordTable::new(&ABBREVIATIONS);
    TABLE.find(word).map_or(word, |at| ABBREVIATIONS[at].1.as_bytes())
}

/// The abbreviations of a word.
pub(super) fn abbreviations(word: &str) -> impl Iterator<Item = &'static str> {
    ABBREVIATIONS.iter().filter(move |(_, full)| *full == word).map(|(short, _)| *short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        assert!(TASKS.is_sorted() && STOP_WORDS.is_sorted());
        assert!(ABBREVIATIONS.is_sorted_by_key(|(short, _)| *short));
    }

    #[test]
    fn both_ways() {
        assert_eq!(full(b"msg"), b"message");
        assert_eq!(full(b"words"), b"words");
        assert!(ABBREVIATIONS.iter().all(|(short, long)| full(short.as_bytes()) == long.as_bytes()));
        assert!([&b""[..], b"zz", b"7", b"Msg", b"\xff"].iter().all(|word| full(word) == *word));
        assert_eq!(abbreviations("message").collect::<Vec<_>>(), ["msg", "msgs"]);
    }
}
