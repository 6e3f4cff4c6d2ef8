use proptest::prelude::*;

use super::*;

fn follower(text: &str) -> Follower {
    Follower::new(text, &|token| (token == "<|end|>").then_some(7)).unwrap()
}

// Whether the grammar takes the text byte by byte, and then lets it end.
fn takes(follower: &mut Follower, text: &[u8]) -> bool {
    for byte in text {
        follower.begin_choice();
        if !follower.allows(-1, &[*byte]).unwrap() {
            return false;
        }
        follower.accept(-1, &[*byte]).unwrap();
    }
    follower.may_end()
}

#[test]
fn texts_are_taken_or_not_as_the_grammar_says() {
    let cases: [(&str, &[&str], &[&str]); 12] = [
        ("root ::= \"ab\" | \"c\"", &["ab", "c"], &["", "a", "abc", "d"]),
        ("root ::= \"ab\"* \"c\"+", &["c", "ababcc"], &["ab", "aab"]),
        ("root ::= [0-9]{2,3} [^a-c\\]]?", &["12", "123", "12x", "123é"], &["1", "1234a", "12a", "12]"]),
        ("root ::= [-a] [a-]", &["--", "a-"], &["b-", "ab"]),
        ("root ::= ( \"x\" # no end: \" (\n | \"\\\"\" ) .", &["x(", "\"🦀"], &["x", "("]),
        ("root ::= a\r\na ::= \"(\" a \")\" |", &["", "(())"], &["(()"]),
        ("root ::= \"a\"{2}\n\nother ::= root", &["aa"], &["a", "aaa"]),
        ("root ::= \"a\"{1,} \"b\"{0,2}", &["a", "aaabb"], &["b", "abbb"]),
        ("root ::= \"\\x41\\u00e9\\U0001f980\\n\\t\"", &["Aé🦀\n\t"], &["A"]),
        ("root ::= (\"a\"? \"b\"?)*", &["", "a", "abba"], &["c"]),
        ("root ::= \"\"", &[""], &["a"]),
        ("root ::=", &[""], &["a"]),
    ];
    for (grammar, right, wrong) in cases {
        for text in right {
            assert!(takes(&mut follower(grammar), text.as_bytes()), "{grammar:?} {text:?}");
        }
        for text in wrong {
            assert!(!takes(&mut follower(grammar), text.as_bytes()), "{grammar:?} {text:?}");
        }
    }
}

#[test]
fn what_is_no_grammar_is_refused_with_what_is_wrong() {
    let cases = [
        ("", "empty"),
        ("root", "expected ::="),
        ("root ::= (", "expected )"),
        ("root ::= nowhere", "no rule nowhere"),
        ("other ::= \"a\"", "rule root"),
        ("root ::= \"a", "expected a character"),
        ("root ::= [a", "expected a character"),
        ("root ::= \"\\q\"", "known escape"),
        ("root ::= \"\\U00110000\"", "hexadecimal"),
        ("root ::= \"\0\"", "expected a character"),
        ("root ::= *", "before a repetition"),
        ("root ::= \"a\"{5,2}", "no more than its end"),
        ("root ::= \"a\"{99999999999999999999999}", "at most 2000"),
        ("root ::= <nothing>", "single token"),
        ("root ::= root \"a\" | \"b\"", "ambiguous"),
        ("root ::= \"b\" a\na ::= \"c\"? a \"d\"", "ambiguous"),
        ("root ::= \"a\" )", "end of a line"),
    ];
    for (grammar, reason) in cases {
        let error = Follower::new(grammar, &|_| None).unwrap_err();
        assert!(error.contains(reason), "{grammar:?}: {error}");
    }
    let nested = format!("root ::= {}", "((((\"a\"{2000}){2000}){2000}){2000}) ".repeat(200));
    assert!(Follower::new(&nested, &|_| None).unwrap_err().contains("elements"));
}

#[test]
fn tokens_end_in_the_middle_of_characters() {
    let mut letters = follower("root ::= [a-é]+ \"🦀\"");
    for (piece, allowed) in [
        (&b"a\xc3"[..], true),
        (b"\xc3", true),
        (b"\xc4", false),
        (b"\xc0", false),
        (b"\xff", false),
        (b"a\xf0\x9f", true),
        (b"\xf0\x9f", false),
        (b"a\xf0\x9e", false),
        (b"", false),
        (b"\0", false),
    ] {
        assert_eq!(letters.allows(-1, piece), Ok(allowed), "{piece:x?}");
    }
    letters.accept(-1, b"a\xc3").unwrap();
    assert!(!letters.may_end());
    assert_eq!(letters.allows(-1, b"\xa9\xf0"), Ok(true));
    assert_eq!(letters.allows(-1, b"\xaa"), Ok(false), "beyond é");
    letters.accept(-1, b"\xa9\xf0\x9f\xa6\x80").unwrap();
    assert!(letters.may_end());
}

#[test]
fn a_grammar_may_name_tokens() {
    let mut tokens = follower("root ::= <|end|> \"a\" !<[9]> | \"b\"");
    assert_eq!(tokens.allows(7, b""), Ok(true));
    assert_eq!(tokens.allows(8, b""), Ok(false));
    assert_eq!(tokens.allows(8, b"b"), Ok(true));
    tokens.accept(7, b"").unwrap();
    tokens.accept(1, b"a").unwrap();
    assert_eq!(tokens.allows(9, b"x"), Ok(false));
    tokens.accept(5, b"x").unwrap();
    assert!(tokens.may_end());
}

#[test]
fn what_doubles_with_every_character_comes_to_an_end() {
    let mut doubling = follower("root ::= s\ns ::= \"a\" s s \"b\" | \"a\" s s \"c\" | \"a\"");
    let ended = (0..200).any(|_| doubling.accept(-1, b"a").is_err());
    assert!(ended);
    let mut many = follower(&format!("root ::= {}", "\"a\"? ".repeat(2000)));
    assert!(takes(&mut many, &b"a".repeat(2000)));
}

#[test]
fn what_is_forgotten_on_the_way_does_not_change_the_answer() {
    let mut nested = follower("root ::= \"(\" root \")\" | [0-9]* ");
    for depth in 0..3000 {
        nested.accept(-1, b"(").unwrap();
        if depth % 100 == 0 {
            nested.cursor.state = nested.states.forget_all_but(nested.cursor.state);
        }
    }
    assert!(!nested.may_end());
    assert!(takes(&mut nested, &b")".repeat(3000)));
}

proptest! {
    #[test]
    fn no_text_does_harm_as_a_grammar(text in "(root ::= )?[\"\\[\\]()|*+?{},0-9a-c<>!#.\\\\ \n-]{0,60}", said in "[a-c0-9]{0,8}") {
        if let Ok(mut follower) = Follower::new(&text, &|_| None) {
            for byte in said.bytes() {
                let allowed = follower.allows(-1, &[byte]);
                prop_assert!(allowed.is_ok() || allowed == Err(Ambiguous));
                if follower.accept(-1, &[byte]).is_err() {
                    break;
                }
            }
        }
    }
}
