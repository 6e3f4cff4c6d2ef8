//! Any text, as a prompt, as a chat, around a cursor and as the second turn of a session: no panic, never longer, and the
//! original where nothing was done. The first bytes choose the room and where the text is cut.
#![no_main]

use cerebrum_prompt::{
    Message, Mode, Outcome, Profile, Request, Role, Settings, Slot, prepare_chat, prepare_infill, prepare_request,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, u16, &str)| {
    let (room, cut, text) = input;
    let settings = Settings { profile: Profile::Smart };
    let room = (room > 0).then_some(usize::from(room));
    for mode in [Mode::Instruct, Mode::Completion] {
        let prepared = prepare_request(&Request { mode, room, ..Request::new(text) }, &settings);
        assert_ne!(prepared.report.outcome, Outcome::Doubtful, "a stage failed");
        assert!(prepared.prompt.len() <= text.len());
        assert!(!prepared.report.outcome.is_original() || prepared.prompt == text);
    }
    let cut = text.floor_char_boundary(usize::from(cut).min(text.len()));
    let slot = Some(Slot { prompt: text, stable_bytes: cut });
    let turn = prepare_request(&Request { slot, room, ..Request::new(text) }, &settings);
    assert!(turn.prompt.len() <= text.len() && turn.report.stable_bytes <= turn.prompt.len());
    let (before, after) = text.split_at(cut);
    let chat = [Message { role: Role::User, text: Some(before) }, Message { role: Role::User, text: Some(after) }];
    assert_eq!(prepare_chat(&chat, &Request { room, ..Request::new("") }, &settings).texts.len(), 2);
    let infill = prepare_infill(&Request { room, ..Request::new(before) }, after, &settings);
    assert!(after.starts_with(&*infill.suffix));
});
