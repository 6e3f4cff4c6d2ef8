//! Answers of a given language.

use super::*;

pub(super) fn following(grammar: Grammar) -> Sampling {
    Sampling { grammar: Some(grammar), ..Sampling::greedy() }
}

#[tokio::test]
async fn an_answer_follows_its_grammar_and_ends_with_it() {
    let engine = engine(LIMITS).await;
    let literal = "def wrong(path):\n    return \"é🦀\"\n";
    let gbnf = format!("root ::= {:?}", literal.replace('\n', "\u{1}")).replace("\\u{1}", "\\n");
    let hot = |grammar| Sampling { temperature: 1.0, repetition_penalty: 1.1, ..following(grammar) };
    for sampling in [following(Grammar::Gbnf(gbnf.clone())), hot(Grammar::Gbnf(gbnf))] {
        let (text, completion) = run(&engine, request(CODE, 100, sampling)).await;
        assert_eq!((text.as_str(), completion.finish), (literal, Finish::Stop));
    }
    let digits = Grammar::Gbnf("root ::= [0-9]{4,6} end\nend ::= \"!\"".into());
    let (text, _) = run(&engine, request(CODE, 100, hot(digits))).await;
    assert!(text.ends_with('!') && text.trim_end_matches('!').chars().all(|c| c.is_ascii_digit()), "{text}");
    let schema =
        r#"{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"],"additionalProperties":false}"#;
    let (text, completion) = run(&engine, request(CODE, 100, following(Grammar::JsonSchema(schema.into())))).await;
    assert_eq!(completion.finish, Finish::Stop);
    let bare: String = text.split_whitespace().collect();
    assert!([r#"{"ok":true}"#, r#"{"ok":false}"#].contains(&bare.as_str()), "{text}");
}

#[tokio::test]
async fn a_grammar_that_cannot_be_used_is_refused_and_nothing_else_happens() {
    let engine = engine(LIMITS).await;
    let deep = |n| format!("root ::= {}\"a\"{}", "(".repeat(n), ")".repeat(n));
    let chain: String = (0..3000).map(|n| format!("a{n} ::= a{}\n", n + 1)).collect();
    let texts = [
        String::new(),
        "root ::= (".into(),
        "root ::= nowhere".into(),
        "other ::= \"a\"".into(),
        "root ::= root \"a\"".into(),
        "root ::= \"a\"{5,2}".into(),
        "root ::= \"a\"{99999999999999999999999}".into(),
        "root ::= \"a\\".into(),
        "root ::= [a".into(),
        "root ::= \"\0\"".into(),
        "x".repeat(1 << 20),
        deep(50_000),
        // Quotes that begin no string: in a comment, in a class of characters.
        format!("# \"\nroot ::= {} [a] {}", "(".repeat(50_000), ")".repeat(50_000)),
        format!("root ::= [\"] {}\"a\"{}", "(".repeat(50_000), ")".repeat(50_000)),
        format!("root ::= a0\n{chain}a3000 ::= \"x\""),
    ];
    let schemas = ["", "{", "[1,2]", r#"{"type":"nonsense"}"#, r##"{"$ref":"#/nowhere"}"##];
    // What llama.cpp would take for any string.
    let patterns = ["[0-9]+", "^(?=a)b$", "^(a)\\\\1$", &format!("^{}a{}$", "(".repeat(500), ")".repeat(500))];
    let patterns =
        patterns.map(|pattern| format!(r#"{{"type":"object","properties":{{"a":{{"pattern" : "{pattern}"}}}}}}"#));
    let schemas = schemas.map(str::to_owned).into_iter().chain(patterns).chain([format!(
        "{}{}",
        "[".repeat(99_999),
        "]".repeat(99_999)
    )]);
    for grammar in texts.map(Grammar::Gbnf).into_iter().chain(schemas.map(Grammar::JsonSchema)) {
        let (_, end) = finish(engine.submit(request(CODE, 5, following(grammar.clone()))).unwrap()).await;
        assert!(matches!(end, Err(Failure::Sampling(_))), "{grammar:?}: {end:?}");
    }
    // Of use, though strange: nothing at all, and what never ends.
    for nothing in ["root ::= \"\"", "root ::="] {
        let (text, _) = run(&engine, request(CODE, 5, following(Grammar::Gbnf(nothing.into())))).await;
        assert_eq!(text, "");
    }
    let endless = Grammar::Gbnf("root ::= (\"a\"? \"b\"?)*".into());
    let (_, completion) = run(&engine, request(CODE, 20, following(endless))).await;
    assert!(completion.completion_tokens <= 20);
    assert!(run(&engine, request(CODE, 5, Sampling::greedy())).await.1.completion_tokens > 0);
}

// What a client wrote is no failure of the server, at the beginning of an answer as in its middle.
#[tokio::test]
async fn a_grammar_that_leads_nowhere_is_its_authors_mistake() {
    let engine = engine(LIMITS).await;
    for grammar in ["root ::= root", "root ::= \"\\x00\"", "root ::= \"def\" \"\\x00\""] {
        let greedy = following(Grammar::Gbnf(grammar.into()));
        for sampling in [greedy.clone(), Sampling { temperature: 1.0, ..greedy }] {
            let (_, end) = finish(engine.submit(request(CODE, 9, sampling)).unwrap()).await;
            assert!(
                matches!(&end, Err(Failure::Sampling(error)) if error.to_string().contains("allows none")),
                "{grammar}: {end:?}"
            );
        }
    }
    assert!(run(&engine, request(CODE, 5, Sampling::greedy())).await.1.completion_tokens > 0);
}

#[tokio::test]
async fn an_ambiguous_grammar_costs_nobody_anything() {
    let engine = engine(LIMITS).await;
    let many = format!("root ::= {}", "\"a\"? ".repeat(2000));
    let twelve = format!("root ::={}\nx ::= (\"a\"|\"a\"|\"a\"|[a-z])*", " x".repeat(12));
    for grammar in [many, twelve] {
        let hot = Sampling { temperature: 1.0, ..following(Grammar::Gbnf(grammar)) };
        let (text, _) = run(&engine, request(CODE, 6, hot)).await;
        assert!(text.chars().all(|c| c.is_ascii_lowercase()), "{text}");
    }
    // Each step doubles what may come next: it ends with a sentence, not with the machine's memory.
    let doubling = "root ::= s\ns ::= \"a\" s s \"b\" | \"a\" s s \"c\" | \"a\"".to_owned();
    let forever = Sampling {
        logit_bias: vec![(engine.tokenize(Prompt::plain("a")).await.unwrap()[1], 100.0)],
        ..following(Grammar::Gbnf(doubling))
    };
    let (_, end) = finish(engine.submit(request(CODE, 200, forever)).unwrap()).await;
    assert!(matches!(&end, Err(Failure::Sampling(error)) if error.to_string().contains("ambiguous")), "{end:?}");
    assert!(run(&engine, request(CODE, 5, Sampling::greedy())).await.1.completion_tokens > 0);
}
