//! GBNF, as llama.cpp reads it, into tables.

use std::collections::HashMap;

use super::Rules;
use super::rules::{Element, LAST};

/// The rules that a text writes down; they have a rule `root`, and every rule that is named.
///
/// # Errors
/// What is wrong, as the end of a sentence.
pub(super) fn rules(text: &str, token: &dyn Fn(&str) -> Option<i32>) -> Result<Rules, String> {
    if text.len() > BYTES {
        return Err(format!("at most {BYTES} bytes are expected"));
    }
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    let mut parser = Parser { text, at: 0, depth: 0, names: HashMap::new(), rules: Rules::default(), token };
    parser.space(true);
    while parser.peek().is_some() {
        parser.rule()?;
    }
    parser.finished()
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    names: HashMap<&'a str, u32>,
    rules: Rules,
    token: &'a dyn Fn(&str) -> Option<i32>,
}

impl<'a> Parser<'a> {
    fn finished(mut self) -> Result<Rules, String> {
        self.rules.root = *self.names.get("root").ok_or("a rule root is expected")?;
        let missing = self.names.iter().find(|(_, rule)| self.rules.rules[**rule as usize].is_none());
        if let Some((name, _)) = missing {
            return Err(format!("there is no rule {name}"));
        }
        self.rules.seal();
        Ok(self.rules)
    }

    fn rule(&mut self) -> Result<(), String> {
        let name = self.name()?;
        self.space(false);
        if !self.rest().starts_with("::=") {
            return Err(self.expected("::="));
        }
        self.at += 3;
        self.space(true);
        let rule = self.named(name)?;
        let alternatives = self.alternatives(false)?;
        self.rules.rules[rule as usize] = Some(alternatives);
        if !matches!(self.peek(), None | Some('\r' | '\n')) {
            return Err(self.expected("the end of a line"));
        }
        self.space(true);
        Ok(())
    }

    fn alternatives(&mut self, nested: bool) -> Result<Vec<u32>, String> {
        let mut alternatives = Vec::new();
        loop {
            let sequence = self.sequence(nested)?;
            alternatives.push(self.add(&sequence)?);
            if self.peek() != Some('|') {
                return Ok(alternatives);
            }
            self.at += 1;
            self.space(true);
        }
    }

    fn sequence(&mut self, nested: bool) -> Result<Vec<Element>, String> {
        let mut sequence = Vec::new();
        // Where the last item begins, to which a repetition belongs.
        let mut last = 0;
        while let Some(next) = self.peek() {
            let before = sequence.len();
            match next {
                '"' => self.literal(&mut sequence)?,
                '[' => sequence.push(self.class()?),
                '.' => {
                    self.at += 1;
                    sequence.push(Element::Chars(self.rules.set(vec![(0, LAST)], false)));
                }
                '<' | '!' => sequence.push(self.number()?),
                '(' => sequence.push(self.group()?),
                '*' | '+' | '?' | '{' => {
                    let (least, most) = self.times(nested)?;
                    self.repeat(&mut sequence, last, least, most)?;
                    last = sequence.len();
                    self.space(nested);
                    continue;
                }
                next if is_word(next) => {
                    let name = self.name()?;
                    sequence.push(Element::Rule(self.named(name)?));
                }
                _ => break,
            }
            last = before;
            self.space(nested);
        }
        Ok(sequence)
    }

    fn literal(&mut self, sequence: &mut Vec<Element>) -> Result<(), String> {
        self.at += 1;
        while self.peek() != Some('"') {
            let char = self.char()?;
            sequence.push(Element::Chars(self.rules.set(vec![(char, char)], false)));
        }
        self.at += 1;
        Ok(())
    }

    fn class(&mut self) -> Result<Element, String> {
        self.at += 1;
        let not = self.peek() == Some('^');
        self.at += usize::from(not);
        let mut ranges = Vec::new();
        while self.peek() != Some(']') {
            let low = self.char()?;
            let range = self.peek() == Some('-') && !self.rest().starts_with("-]");
            self.at += usize::from(range);
            let high = if range { self.char()? } else { low };
            ranges.push((low, high));
        }
        self.at += 1;
        Ok(Element::Chars(self.rules.set(ranges, not)))
    }

    // A token by its number, `<[12]>`, or as it is written.
    fn number(&mut self) -> Result<Element, String> {
        let not = self.peek() == Some('!');
        self.at += usize::from(not);
        let rest = self.rest();
        let end = rest.find('>').filter(|_| rest.starts_with('<')).ok_or_else(|| self.expected("a token <..>"))?;
        let written = &rest[..=end];
        let id = match written.strip_prefix("<[").and_then(|number| number.strip_suffix("]>")) {
            Some(number) => number.parse().ok().filter(|&id: &i32| id >= 0),
            None => (self.token)(written),
        };
        let id = id.ok_or_else(|| self.expected("a single token"))?;
        self.at += end + 1;
        self.rules.names_tokens = true;
        Ok(Element::Token { id, not })
    }

    fn group(&mut self) -> Result<Element, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("at most {DEPTH} levels of parentheses are expected"));
        }
        self.at += 1;
        self.space(true);
        let alternatives = self.alternatives(true)?;
        if self.peek() != Some(')') {
            return Err(self.expected(")"));
        }
        self.at += 1;
        self.depth -= 1;
        Ok(Element::Rule(self.made(Some(alternatives))))
    }

    // How often at least, and at most if there is a most.
    fn times(&mut self, nested: bool) -> Result<(usize, Option<usize>), String> {
        let sign = self.peek();
        self.at += 1;
        match sign {
            Some('*') => return Ok((0, None)),
            Some('+') => return Ok((1, None)),
            Some('?') => return Ok((0, Some(1))),
            _ => self.space(nested),
        }
        let least = self.integer().ok_or_else(|| self.expected("a number"))?;
        self.space(nested);
        let mut most = Some(least);
        if self.peek() == Some(',') {
            self.at += 1;
            self.space(nested);
            most = self.integer();
            self.space(nested);
        }
        if self.peek() != Some('}') {
            return Err(self.expected("}"));
        }
        self.at += 1;
        if least > TIMES || most.is_some_and(|most| most < least) {
            return Err(format!(
                "a repetition of {least} or more is found, at most {TIMES} and no more than its end is expected"
            ));
        }
        // As llama.cpp has it: so many are as good as any number.
        Ok((least, most.filter(|&most| most <= TIMES)))
    }

    fn repeat(
        &mut self,
        sequence: &mut Vec<Element>,
        from: usize,
        least: usize,
        most: Option<usize>,
    ) -> Result<(), String> {
        let item = match sequence[from..] {
            [] => return Err(self.expected("something before a repetition")),
            [item] => item,
            _ => {
                let start = self.add(&sequence[from..])?;
                Element::Rule(self.made(Some(vec![start])))
            }
        };
        sequence.truncate(from);
        sequence.extend(std::iter::repeat_n(item, least));
        let nothing = self.add(&[])?;
        match most {
            None => {
                let rule = self.made(None);
                let again = self.add(&[item, Element::Rule(rule)])?;
                self.rules.rules[rule as usize] = Some(vec![again, nothing]);
                sequence.push(Element::Rule(rule));
            }
            Some(most) => {
                let mut rest = None;
                for _ in least..most {
                    let more: Vec<_> = std::iter::once(item).chain(rest).collect();
                    let start = self.add(&more)?;
                    rest = Some(Element::Rule(self.made(Some(vec![start, nothing]))));
                }
                sequence.extend(rest);
            }
        }
        self.room(sequence.len())
    }

    fn add(&mut self, sequence: &[Element]) -> Result<u32, String> {
        self.room(sequence.len())?;
        let start = self.rules.elements.len() as u32;
        self.rules.elements.extend_from_slice(sequence);
        self.rules.elements.push(Element::End);
        Ok(start)
    }

    fn room(&self, more: usize) -> Result<(), String> {
        let fits = self.rules.elements.len() + more < ELEMENTS;
        fits.then_some(())
            .ok_or_else(|| format!("with its repetitions written out it has more than {ELEMENTS} elements"))
    }

    fn made(&mut self, alternatives: Option<Vec<u32>>) -> u32 {
        self.rules.rules.push(alternatives);
        self.rules.rules.len() as u32 - 1
    }

    fn named(&mut self, name: &'a str) -> Result<u32, String> {
        if let Some(&rule) = self.names.get(name) {
            return Ok(rule);
        }
        if self.names.len() >= NAMES {
            return Err(format!("at most {NAMES} rules are expected"));
        }
        let rule = self.made(None);
        self.names.insert(name, rule);
        Ok(rule)
    }

    fn name(&mut self) -> Result<&'a str, String> {
        let rest = self.rest();
        let end = rest.find(|char| !is_word(char)).unwrap_or(rest.len());
        if end == 0 {
            return Err(self.expected("a name"));
        }
        self.at += end;
        Ok(&rest[..end])
    }

    fn integer(&mut self) -> Option<usize> {
        let rest = self.rest();
        let end = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
        self.at += end;
        // More digits than a number has mean more than any limit.
        (end > 0).then(|| rest[..end].parse().unwrap_or(usize::MAX))
    }

    fn char(&mut self) -> Result<u32, String> {
        let mut chars = self.rest().chars();
        let (first, second) = (chars.next(), chars.next());
        let Some(first) = first.filter(|&char| char != '\0') else { return Err(self.expected("a character")) };
        if first != '\\' {
            self.at += first.len_utf8();
            return Ok(u32::from(first));
        }
        let plain = match second {
            Some('x') => return self.hexadecimal(2),
            Some('u') => return self.hexadecimal(4),
            Some('U') => return self.hexadecimal(8),
            Some('t') => '\t',
            Some('r') => '\r',
            Some('n') => '\n',
            Some(char @ ('\\' | '"' | '[' | ']' | '-')) => char,
            _ => return Err(self.expected("a known escape")),
        };
        self.at += 2;
        Ok(u32::from(plain))
    }

    fn hexadecimal(&mut self, digits: usize) -> Result<u32, String> {
        let written = self.rest().get(2..2 + digits).filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let char = written.and_then(|text| u32::from_str_radix(text, 16).ok()).filter(|&char| char <= LAST);
        let char = char.ok_or_else(|| self.expected(&format!("{digits} hexadecimal digits of a character")))?;
        self.at += 2 + digits;
        Ok(char)
    }

    // A comment is a space.
    fn space(&mut self, newline: bool) {
        while let Some(next) = self.peek() {
            match next {
                ' ' | '\t' => self.at += 1,
                '\r' | '\n' if newline => self.at += 1,
                '#' => self.at += self.rest().find(['\r', '\n']).unwrap_or(self.rest().len()),
                _ => return,
            }
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn expected(&self, what: &str) -> String {
        let found: String = self.rest().chars().take(SHOWN).collect();
        format!("found {found:?}, expected {what}")
    }
}

fn is_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '-'
}

/// A file of 1,500 lines as a literal.
const BYTES: usize = 128 << 10;
/// What a schema of 64 KB does not reach.
const NAMES: usize = 2_000;
/// Each is a few frames on the parser's stack.
const DEPTH: usize = 100;
/// As in llama.cpp.
const TIMES: usize = 2_000;
/// Of 16 bytes.
const ELEMENTS: usize = 1 << 18;
const SHOWN: usize = 20;
