//! What holds for chats, for text around a cursor, and for the turns of a session.

use cerebrum_prompt::{
    Message, Prepared, Profile, Request, Role, Settings, Slot, prepare_chat, prepare_infill, prepare_request,
};
use proptest::prelude::*;

fn smart() -> Settings {
    Settings { profile: Profile::Smart }
}

fn code(functions: usize) -> String {
    (0..functions)
        .map(|number| {
            let body: String =
                (0..8).map(|line| format!("    value_{line} = step_{number}({line}, 'text')\n")).collect();
            format!("def work_{number}(x):\n{body}    return value_0\n\n\n")
        })
        .collect()
}

fn messages() -> impl Strategy<Value = Vec<(usize, Option<String>)>> {
    let text = prop_oneof![
        "\\PC{0,60}",
        (1usize..40, 0usize..40)
            .prop_map(|(functions, name)| format!("{}\n# TASK: refactor `work_{name}`\n", code(functions))),
        (1usize..40).prop_map(code),
    ];
    prop::collection::vec((0usize..4, prop::option::weighted(0.8, text)), 0..8)
}

proptest! {
    #[test]
    fn only_long_text_of_users_changes(chat in messages(), room in prop::option::of(200usize..4000)) {
        let roles = [Role::System, Role::User, Role::Assistant, Role::Tool];
        let chat: Vec<Message<'_>> =
            chat.iter().map(|(role, text)| Message { role: roles[*role], text: text.as_deref() }).collect();
        let limits = Request { room, ..Request::new("") };
        let prepared = prepare_chat(&chat, &limits, &smart());
        prop_assert_eq!(prepared.texts.len(), chat.len());
        for (message, text) in chat.iter().zip(&prepared.texts) {
            let text = text.as_deref();
            prop_assert_eq!(message.text.is_some(), text.is_some());
            let changed = message.text != text;
            prop_assert!(!changed || message.role == Role::User);
            prop_assert!(text.map_or(0, str::len) <= message.text.map_or(0, str::len));
        }
        prop_assert_eq!(&prepared, &prepare_chat(&chat, &limits, &smart()));
    }

    #[test]
    fn earlier_turns_stay_as_they_were_sent(chat in messages(), more in messages()) {
        let all: Vec<(usize, Option<String>)> = chat.iter().chain(&more).cloned().collect();
        let roles = [Role::System, Role::User, Role::Assistant, Role::Tool];
        let all: Vec<Message<'_>> =
            all.iter().map(|(role, text)| Message { role: roles[*role], text: text.as_deref() }).collect();
        let before = prepare_chat(&all[..chat.len()], &Request::new(""), &smart());
        let after = prepare_chat(&all, &Request::new(""), &smart());
        prop_assert_eq!(&before.texts[..], &after.texts[..chat.len()]);
    }

    #[test]
    fn the_lines_around_a_cursor_stay(before in 1usize..60, after in 1usize..60, room in prop::option::of(900usize..4000)) {
        let (prefix, suffix) = (code(before), code(after));
        let prepared = prepare_infill(&Request { room, ..Request::new(&prefix) }, &suffix, &smart());
        let last = |text: &str| text.lines().rev().take(40).map(str::to_owned).collect::<Vec<_>>();
        prop_assert_eq!(last(&prefix), last(&prepared.prefix));
        prop_assert!(suffix.starts_with(&*prepared.suffix));
        prop_assert!(prepared.suffix.lines().count() >= suffix.lines().count().min(40));
    }

    #[test]
    fn a_session_only_appends(names in prop::collection::vec(0usize..40, 1..6), fenced in any::<bool>(), room in 900usize..4000) {
        let context = code(40);
        let mut last: Option<Prepared> = None;
        for name in names {
            let ask = format!("Please refactor `work_{name}` now.");
            let prompt =
                if fenced { format!("{ask}\n\n```python\n{context}```\n") } else { format!("{context}\n# TASK: {ask}\n") };
            let (sent, stable_bytes) = last.as_ref().map_or(("", 0), |last| (&*last.prompt, last.report.stable_bytes));
            let slot = Some(Slot { prompt: sent, stable_bytes });
            let prepared = prepare_request(&Request { slot, room: Some(room), ..Request::new(&prompt) }, &smart());
            prop_assert!(prepared.report.stable_bytes > 0, "{:?}", prepared.report);
            prop_assert!(prepared.prompt.len() <= prompt.len());
            prop_assert!(prepared.prompt.trim_end().ends_with(&ask), "{}", prepared.prompt);
            let definition = format!("def work_{name}(x):");
            let whole = format!("    value_7 = step_{name}(7, 'text')");
            prop_assert!(prepared.prompt.contains(&definition) && prepared.prompt.contains(&whole));
            // With little room the context begins anew when it is full; with this much it never is.
            prop_assert!(room < 2500 || prepared.prompt.starts_with(&sent[..stable_bytes]));
            last = Some(prepared);
        }
    }
}

/// What was sent before and is no longer in the prompt must not be sent again.
#[test]
fn an_edited_definition_is_not_kept() {
    let context = code(40);
    let ask = |context: &str, name: usize| format!("{context}\n# TASK: refactor `work_{name}`\n");
    let first_prompt = ask(&context, 5);
    let slot = Some(Slot { prompt: "", stable_bytes: 0 });
    let first = prepare_request(&Request { slot, ..Request::new(&first_prompt) }, &smart());
    assert!(first.prompt.contains("step_5(3, 'text')"), "{}", first.prompt);
    let edited = context.replace("step_5(3, 'text')", "step_5(3, 'edited')");
    let second_prompt = ask(&edited, 5);
    let slot = Some(Slot { prompt: &first.prompt, stable_bytes: first.report.stable_bytes });
    let second = prepare_request(&Request { slot, ..Request::new(&second_prompt) }, &smart());
    assert!(!second.prompt.contains("step_5(3, 'text')"), "{}", second.prompt);
    assert!(second.prompt.contains("step_5(3, 'edited')"), "{}", second.prompt);
}
