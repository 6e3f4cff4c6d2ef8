//! What must survive, found by tree-sitter and so by other means than those of the selector.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use tree_sitter::{Node, Parser};

/// A language with a grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grammar {
    Python,
    Rust,
    JavaScript,
    C,
    Cpp,
    Go,
    Java,
}

impl Grammar {
    pub(crate) const ALL: [Self; 7] =
        [Self::Python, Self::Rust, Self::JavaScript, Self::C, Self::Cpp, Self::Go, Self::Java];

    pub(crate) fn of(path: &Path) -> Option<Self> {
        Some(match path.extension()?.to_str()? {
            "py" => Self::Python,
            "rs" => Self::Rust,
            "js" | "mjs" | "cjs" => Self::JavaScript,
            "c" => Self::C,
            "cpp" | "cc" => Self::Cpp,
            "go" => Self::Go,
            "java" => Self::Java,
            _ => return None,
        })
    }

    pub(crate) fn tag(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Rust => "rust",
            Self::JavaScript => "javascript",
            Self::C => "c",
            Self::Cpp => "cpp",
            Self::Go => "go",
            Self::Java => "java",
        }
    }

    pub(crate) fn comment(self) -> &'static str {
        if self == Self::Python { "#" } else { "//" }
    }

    pub(crate) fn language(self) -> tree_sitter::Language {
        match self {
            Self::Python => tree_sitter_python::LANGUAGE.into(),
            Self::Rust => tree_sitter_rust::LANGUAGE.into(),
            Self::JavaScript => tree_sitter_javascript::LANGUAGE.into(),
            Self::C => tree_sitter_c::LANGUAGE.into(),
            Self::Cpp => tree_sitter_cpp::LANGUAGE.into(),
            Self::Go => tree_sitter_go::LANGUAGE.into(),
            Self::Java => tree_sitter_java::LANGUAGE.into(),
        }
    }
}

/// One definition of a file.
#[derive(Clone)]
pub(crate) struct Definition {
    pub(crate) name: String,
    pub(crate) function: bool,
    /// Bytes of the whole definition, from the start of its first line.
    pub(crate) range: Range<usize>,
    /// Bytes of the line its name is on.
    pub(crate) signature: Range<usize>,
    /// Bytes of its documentation, and the first sentence of it.
    pub(crate) doc: Option<(Range<usize>, String)>,
    /// Identifiers in its body.
    pub(crate) uses: HashSet<String>,
}

/// All definitions of a text, outer ones before those in them.
pub(crate) fn definitions(text: &str, grammar: Grammar) -> Vec<Definition> {
    let mut parser = Parser::new();
    let mut found = Vec::new();
    if parser.set_language(&grammar.language()).is_ok()
        && let Some(tree) = parser.parse(text, None)
    {
        collect(tree.root_node(), text, grammar, &mut found);
    }
    found
}

fn collect(node: Node<'_>, text: &str, grammar: Grammar, found: &mut Vec<Definition>) {
    let function = is_function(node.kind());
    if function || is_type(node.kind()) {
        found.extend(definition(node, text, grammar, function));
    }
    if !function {
        let mut cursor = node.walk();
        for child in node.children(&mut cursor) {
            collect(child, text, grammar, found);
        }
    }
}

fn is_function(kind: &str) -> bool {
    ["function_definition", "function_item", "function_declaration", "method_definition", "method_declaration"]
        .contains(&kind)
}

fn is_type(kind: &str) -> bool {
    ["class_definition", "struct_item", "enum_item", "trait_item", "class_declaration", "struct_specifier", "type_spec"]
        .contains(&kind)
}

fn definition(node: Node<'_>, text: &str, grammar: Grammar, function: bool) -> Option<Definition> {
    let name_node = name(node)?;
    let name = name_node.utf8_text(text.as_bytes()).ok()?.to_owned();
    let body = node.child_by_field_name("body")?;
    let start = line_start(text, node.start_byte());
    let at = line_start(text, name_node.start_byte());
    let signature = at..text[at..].find('\n').map_or(text.len(), |end| at + end);
    let mut uses = HashSet::new();
    identifiers(node, text, &mut uses);
    uses.remove(&name);
    let doc = doc(node, body, text, grammar);
    Some(Definition { name, function, range: start..node.end_byte(), signature, doc, uses })
}

fn name(node: Node<'_>) -> Option<Node<'_>> {
    let mut node = node.child_by_field_name("name").or_else(|| node.child_by_field_name("declarator"))?;
    while let Some(inner) = node.child_by_field_name("declarator") {
        node = inner;
    }
    node.kind().ends_with("identifier").then_some(node)
}

fn identifiers(node: Node<'_>, text: &str, found: &mut HashSet<String>) {
    if node.kind().ends_with("identifier")
        && let Ok(name) = node.utf8_text(text.as_bytes())
    {
        found.insert(name.to_owned());
    }
    let mut cursor = node.walk();
    for child in node.children(&mut cursor) {
        identifiers(child, text, found);
    }
}

/// The docstring, or the comments right before the definition.
fn doc(node: Node<'_>, body: Node<'_>, text: &str, grammar: Grammar) -> Option<(Range<usize>, String)> {
    let range = if grammar == Grammar::Python {
        let first = body.named_child(0)?;
        let string = if first.kind() == "expression_statement" { first.named_child(0)? } else { first };
        (string.kind() == "string").then(|| line_start(text, string.start_byte())..line_end(text, string.end_byte()))?
    } else {
        let mut first = node.prev_named_sibling().filter(|node| node.kind().contains("comment"))?;
        let end = line_end(text, first.end_byte().saturating_sub(1));
        if text[end..line_start(text, node.start_byte()).max(end)].contains("\n\n") {
            return None;
        }
        while let Some(before) = first.prev_named_sibling().filter(|before| {
            before.kind().contains("comment") && first.start_position().row <= before.end_position().row + 1
        }) {
            first = before;
        }
        line_start(text, first.start_byte())..end
    };
    let sentence = sentence(&text[range.clone()])?;
    Some((range, sentence))
}

fn sentence(doc: &str) -> Option<String> {
    let words: Vec<&str> = doc
        .split_whitespace()
        .map(|word| word.trim_matches(['/', '*', '"', '!', '#', '\'']))
        .filter(|word| !word.is_empty())
        .collect();
    let end = words.iter().position(|word| word.ends_with('.')).map_or(words.len(), |at| at + 1).min(30);
    let plain =
        words[..end].iter().filter(|word| word.chars().all(|c| c.is_alphabetic() || ".,'-".contains(c))).count();
    // Shorter ones describe half the file, and notes describe nothing.
    (end >= 6 && plain * 4 >= end * 3 && !words[0].starts_with("TODO")).then(|| words[..end].join(" "))
}

pub(crate) fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |newline| at + newline + 1)
}
