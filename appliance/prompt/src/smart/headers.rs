//! Recognises the first line of a definition by its words, without a parser: one rule per family of languages.

use super::lines::Marks;
use crate::language::Language;

/// What a definition is, as far as choosing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A function, a type, a constant: kept or left out as one.
    Leaf,
    /// A class, an implementation, a namespace: holds definitions of its own.
    Container,
    /// `import`, `use`, `#include`.
    Import,
}

/// A definition's first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header<'a> {
    pub(super) shape: Shape,
    /// The name defined; empty for imports and nameless blocks.
    pub(super) name: &'a str,
}

/// Words before the one that says what is defined.
fn is_modifier(word: &str) -> bool {
    matches!(
        word,
        "pub"
            | "async"
            | "unsafe"
            | "static"
            | "inline"
            | "export"
            | "default"
            | "public"
            | "private"
            | "protected"
            | "final"
            | "abstract"
            | "override"
            | "virtual"
            | "declare"
            | "readonly"
            | "const"
            | "extern"
            | "open"
            | "data"
            | "sealed"
            | "suspend"
            | "internal"
            | "constexpr"
    )
}
/// Words after which a name with parentheses is no definition.
fn is_control(word: &str) -> bool {
    matches!(
        word,
        "if" | "for"
            | "while"
            | "switch"
            | "return"
            | "else"
            | "do"
            | "case"
            | "sizeof"
            | "new"
            | "throw"
            | "catch"
            | "try"
            | "match"
            | "foreach"
            | "await"
            | "yield"
            | "assert"
            | "defined"
            | "elif"
            | "with"
            | "delete"
    )
}

/// Reads a trimmed line; `follows` gives the lines after it, for headers that go on.
pub(super) fn header<'a>(
    line: &'a str,
    marks: Marks,
    language: Option<Language>,
    follows: &mut dyn Iterator<Item = &'a str>,
) -> Option<Header<'a>> {
    if !line.starts_with(|c: char| c.is_alphabetic() || matches!(c, '_' | '#' | '~' | '*' | '@' | '[')) {
        return None;
    }
    if let Some(found) = import(line, language) {
        return Some(found);
    }
    if let Some(directive) = line.strip_prefix('#') {
        return define(directive)
            .or_else(|| directive.starts_with(char::is_alphabetic).then(|| method(line, language, follows))?);
    }
    if let Some(found) = keyword(line, language) {
        return Some(found);
    }
    if marks.any(Marks::EQUALS.and(Marks::COLON))
        && let Some(found) = assigned(line)
    {
        return Some(found);
    }
    if marks.any(Marks::PAREN) { method(line, language, follows) } else { None }
}

fn import(line: &str, language: Option<Language>) -> Option<Header<'static>> {
    let first = line.split([' ', '(']).next().unwrap_or_default();
    let is_import = match first {
        "import" => true,
        "from" => line.contains(" import"),
        "use" => language == Some(Language::Rust),
        "using" => line.ends_with(';'),
        "#include" | "require" | "require_once" | "package" => true,
        "pub" => line.starts_with("pub use ") || line.starts_with("pub(crate) use "),
        "const" | "var" | "let" => line.contains("require(") && !line.ends_with('{'),
        "export" => line.contains(" from "),
        _ => false,
    };
    is_import.then_some(Header { shape: Shape::Import, name: "" })
}

fn define(directive: &str) -> Option<Header<'_>> {
    let name = identifier(directive.trim_start().strip_prefix("define ")?.trim_start());
    (!name.is_empty()).then_some(Header { shape: Shape::Leaf, name })
}

/// `def name`, `class Name`, `impl<T> Trait for Name`, `func (r *T) name`, `typedef struct name`.
fn keyword<'a>(line: &'a str, language: Option<Language>) -> Option<Header<'a>> {
    let mut rest = line;
    for _ in 0..6 {
        let word = identifier(rest);
        let after = rest[word.len()..].trim_start();
        if let Some(found) = after_keyword(word, after, language) {
            return Some(found);
        }
        if !is_modifier(word) {
            return None;
        }
        rest = skip_scope(after);
    }
    None
}

/// `(crate)` after `pub`, `"C"` after `extern`.
fn skip_scope(text: &str) -> &str {
    let skipped = match text.as_bytes().first() {
        Some(b'(') => text.split_once(')').map_or(text, |(_, rest)| rest),
        Some(b'"') => text[1..].split_once('"').map_or(text, |(_, rest)| rest),
        _ => text,
    };
    skipped.trim_start()
}

fn after_keyword<'a>(word: &str, after: &'a str, language: Option<Language>) -> Option<Header<'a>> {
    use Language::{C, Cpp, Go, JavaScript, Rust, TypeScript};
    let scripted = matches!(language, Some(JavaScript | TypeScript));
    let shape = match word {
        "def" | "fn" | "func" | "function" | "fun" | "record" | "macro_rules" | "type" | "typedef" => Shape::Leaf,
        "struct" | "enum" | "union" if matches!(language, Some(C)) && !opens_type(after) => return None,
        "struct" if matches!(language, Some(Cpp)) => Shape::Container,
        "struct" | "enum" | "union" => Shape::Leaf,
        "class" | "trait" | "interface" | "impl" | "mod" | "module" | "namespace" | "object" | "extension"
        | "protocol" => Shape::Container,
        // `const fn go` is a function, not a constant called "fn".
        "const" if matches!(identifier(after), "fn" | "unsafe" | "extern" | "async") => return None,
        // `static async go (` is a method, `static limit = 3` a field.
        "static" if scripted && !after[identifier(after).len()..].trim_start().starts_with('=') => return None,
        "const" | "static" | "let" | "var" if matches!(language, Some(Rust | Go)) || scripted => Shape::Leaf,
        _ => return None,
    };
    let name = match word {
        "impl" => implemented(after),
        "func" if after.starts_with('(') => identifier(after.split_once(')')?.1.trim_start()),
        "typedef" => typedef_name(after),
        _ => identifier(after.trim_start_matches(['!', '*', ' ', '(']).trim_start_matches("mut ")),
    };
    let nameless = matches!(word, "namespace" | "typedef" | "function" | "enum" | "union" | "struct" | "impl");
    (!name.is_empty() || nameless).then_some(Header { shape, name })
}

/// In C, `struct name {` defines and `struct name *f(void) {` does not.
fn opens_type(after: &str) -> bool {
    let rest = after[identifier(after).len()..].trim_start();
    rest.is_empty() || rest.starts_with('{')
}

/// The type that an `impl` is for.
fn implemented(after: &str) -> &str {
    let target = after.split_once(" for ").map_or(after, |(_, target)| target);
    let target = if target.starts_with('<') { target.split_once('>').map_or("", |(_, rest)| rest) } else { target };
    let path = target.trim_start().trim_start_matches(['&', ' ']).split(['<', ' ', '{']).next().unwrap_or_default();
    identifier(path.rsplit("::").next().unwrap_or_default())
}

fn typedef_name(after: &str) -> &str {
    match after.strip_suffix(';') {
        Some(whole) => last_identifier(whole.trim_end_matches(')').split(")(").next().unwrap_or_default()),
        None => {
            let tag = ["struct", "enum", "union"].iter().find_map(|word| after.strip_prefix(word)).unwrap_or_default();
            identifier(tag.trim_start())
        }
    }
}

/// `exports.name = function (`, `name: async (a) => {`, `Class.prototype.name = `, `NAME = value`.
fn assigned(line: &str) -> Option<Header<'_>> {
    let at = line.find([' ', ':'])?;
    let (target, rest) = line.split_at(at);
    let value = rest.trim_start_matches([' ', ':']).trim_start_matches("= ");
    let makes = rest.contains('=') || rest.starts_with(':');
    let function = value.starts_with("function") || value.starts_with("async ") || value.starts_with("class ");
    let arrow = value.contains("=> {") || value.ends_with("=>");
    let plain = target.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '$'));
    (makes && plain && (function || arrow)).then(|| Header { shape: Shape::Leaf, name: last_identifier(target) })
}

/// `int name(args) {`, `name(args) {` in a class, `Type Class::name(args) const` and the brace on a later line.
fn method<'a>(
    line: &'a str,
    language: Option<Language>,
    follows: &mut dyn Iterator<Item = &'a str>,
) -> Option<Header<'a>> {
    if matches!(language, Some(Language::Python | Language::Rust | Language::Go)) {
        return None;
    }
    let open = parameters(line)?;
    let before = line[..open].trim_end();
    let name = last_identifier(before);
    let first = identifier(line);
    if name.is_empty() || is_control(first) || is_control(name) || before.contains(['=', '.', ';', '{', '"']) {
        return None;
    }
    body_follows(&line[open..], follows).then_some(Header { shape: Shape::Leaf, name })
}

/// Where the parentheses of a C-like header open: the first ones that belong to no attribute.
fn parameters(line: &str) -> Option<usize> {
    let open = line.find('(')?;
    if !matches!(last_identifier(line[..open].trim_end()), "__attribute__" | "__declspec" | "alignas") {
        return Some(open);
    }
    let mut depth = 0usize;
    let closes = |byte: u8| {
        depth = match byte {
            b'(' => depth + 1,
            b')' => depth.saturating_sub(1),
            _ => depth,
        };
        byte == b')' && depth == 0
    };
    let close = open + line[open..].bytes().position(closes)?;
    line[close..].find('(').map(|at| close + at)
}

/// Whether parentheses close and a brace comes before any semicolon.
fn body_follows<'a>(first: &'a str, follows: &mut dyn Iterator<Item = &'a str>) -> bool {
    /// Lines that a list of parameters may go on for.
    const LINES: usize = 16;
    let mut depth = 0usize;
    let mut closed = false;
    for line in std::iter::once(first).chain(follows).take(LINES) {
        for byte in line.bytes() {
            match byte {
                b'(' => depth += 1,
                b')' => {
                    depth = depth.saturating_sub(1);
                    closed = depth == 0;
                }
                b'{' if depth == 0 => return closed,
                b';' | b'}' if depth == 0 => return false,
                b';' => return false,
                b'=' | b',' | b'"' if depth == 0 => return false,
                _ => {}
            }
        }
        if depth > 0 && (line.ends_with("=> {") || line.starts_with("function")) {
            return false;
        }
    }
    false
}

/// The identifier that a text begins with.
pub(super) fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '$'))).unwrap_or(text.len());
    &text[..end]
}

/// The identifier that a text ends with.
fn last_identifier(text: &str) -> &str {
    let start = text.rfind(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '$')));
    start.map_or(text, |at| &text[at + text[at..].chars().next().map_or(1, char::len_utf8)..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use Language::*;
    use Shape::*;

    #[test]
    fn headers() {
        for (language, line, expected) in [
            (Python, "def parse(self, x):", Some((Leaf, "parse"))),
            (Python, "async def parse(", Some((Leaf, "parse"))),
            (Python, "class Parser(Base):", Some((Container, "Parser"))),
            (Python, "from os import path", Some((Import, ""))),
            (Python, "if x(y):", None),
            (Rust, "pub(crate) unsafe fn go<T>(x: T) -> u8 {", Some((Leaf, "go"))),
            (Rust, "impl<T: Clone> fmt::Debug for Vec<T> {", Some((Container, "Vec"))),
            (Rust, "impl Lines {", Some((Container, "Lines"))),
            (Rust, "macro_rules! many {", Some((Leaf, "many"))),
            (Rust, "pub const LIMIT: usize = 3;", Some((Leaf, "LIMIT"))),
            (Rust, "pub const fn limit() -> usize {", Some((Leaf, "limit"))),
            (Rust, "pub(crate) const unsafe extern \"C\" fn raw() {", Some((Leaf, "raw"))),
            (Rust, "foo(a, b) {", None),
            (Go, "func (r *Reader) Read(p []byte) (int, error) {", Some((Leaf, "Read"))),
            (Go, "type Reader struct {", Some((Leaf, "Reader"))),
            (C, "static int go(const char *a, int b) {", Some((Leaf, "go"))),
            (C, "struct list *list_new(void) {", Some((Leaf, "list_new"))),
            (C, "struct list {", Some((Leaf, "list"))),
            (C, "typedef struct list list_t;", Some((Leaf, "list_t"))),
            (C, "int declared(int a);", None),
            (C, "#define MAX(a, b) ((a) > (b) ? (a) : (b))", Some((Leaf, "MAX"))),
            (C, "__attribute__((always_inline)) {", None),
            (C, "static __attribute__((noinline)) void go(int a) {", Some((Leaf, "go"))),
            (C, "#include <stdio.h>", Some((Import, ""))),
            (Cpp, "void Widget::draw(Canvas & c) const {", Some((Leaf, "draw"))),
            (Cpp, "namespace {", Some((Container, ""))),
            (JavaScript, "exports.go = function (a) {", Some((Leaf, "go"))),
            (JavaScript, "const go = async (a) => {", Some((Leaf, "go"))),
            (JavaScript, "static async go (a) {", Some((Leaf, "go"))),
            (JavaScript, "static limit = 3", Some((Leaf, "limit"))),
            (JavaScript, "constructor(a, b) {", Some((Leaf, "constructor"))),
            (JavaScript, "#hidden (a) {", Some((Leaf, "hidden"))),
            (JavaScript, "setKeys ({ keys, tokens }) {", Some((Leaf, "setKeys"))),
            (JavaScript, "describe('x', () => {", None),
            (JavaScript, "if (a) {", None),
            (Java, "public static void main(String[] args) throws IOException {", Some((Leaf, "main"))),
        ] {
            let found = header(line, Marks::of(line), Some(language), &mut std::iter::empty());
            assert_eq!(found.map(|header| (header.shape, header.name)), expected, "{line}");
        }
    }

    #[test]
    fn the_brace_may_come_later() {
        let mut follows = ["          int b)", "{"].into_iter();
        let marks = Marks::of("int go(int a,");
        let found = header("int go(int a,", marks, Some(C), &mut follows);
        assert_eq!(found, Some(Header { shape: Leaf, name: "go" }));
        assert_eq!(header("int go(int a,", marks, Some(C), &mut ["int b);"].into_iter()), None);
    }
}
