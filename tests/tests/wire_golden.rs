//! Golden bytes of wire version 1.
//!
//! If a test in this file fails, do not change the test: appliances and servers in the field speak these bytes. A change
//! of meaning or layout is a new version (`wire::frame::VERSION`) with a golden file of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use bytes::{Bytes, BytesMut};
use cerebrum_common::wire::details::{Chat, Constraint, Details, Extra, Infill, Input, TokenLogprob, Urgency};
use cerebrum_common::wire::extras::{Adapter, Extras, KeepAlive};
use cerebrum_common::wire::{
    Completion, Failure, FailureCode, Finish, InferenceEvent, InferenceRequest, Sampling, Usage, frame, held,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check<T>(message: &T, golden: &str)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let bytes = frame::to_bytes(message).unwrap();
    assert_eq!(hex(&bytes), golden);
    assert_eq!(&frame::from_bytes::<T>(Bytes::copy_from_slice(&bytes), 1 << 20).unwrap(), message);
}

#[test]
fn request() {
    let request = InferenceRequest {
        model: "qwen_7b".into(),
        prompt: "def f".into(),
        max_tokens: 512,
        sampling: Sampling { seed: Some(7), logit_bias: vec![(300, -1.0)], ..Sampling::default() },
        stop: vec!["\n\n".into()],
    };
    check(&request, include_str!("golden/v1/request.hex").trim());
}

#[test]
fn events() {
    let completion = Completion {
        model: "qwen_7b".into(),
        finish: Finish::Length,
        usage: Usage { prompt_tokens: 300, cached_tokens: 2, completion_tokens: 129 },
        prefill_us: 1_000_000,
        decode_us: 64_000_000,
        warnings: vec!["w".into()],
    };
    let failure = Failure { code: FailureCode::Overloaded, message: "cpu".into(), retry_after_ms: Some(5000) };
    check(&InferenceEvent::Loading { permille: 500 }, include_str!("golden/v1/loading.hex").trim());
    check(&InferenceEvent::Progress { processed: 64, total: 300 }, include_str!("golden/v1/progress.hex").trim());
    check(
        &InferenceEvent::Token { text: " asyncio".into(), total_tokens: 2 },
        include_str!("golden/v1/token.hex").trim(),
    );
    check(&InferenceEvent::Done(completion), include_str!("golden/v1/done.hex").trim());
    check(&InferenceEvent::Error(failure), include_str!("golden/v1/error.hex").trim());
}

#[test]
fn details() {
    let chat = Chat { messages: "[]".into(), tools: "[1]".into(), variables: "{}".into() };
    let details = Details {
        input: Input::Chat(chat),
        constraint: Constraint::JsonSchema("{}".into()),
        logprobs: Some(3),
        urgency: Urgency::WarmUp,
        prompt_within_ms: 500,
        answer_within_ms: 1000,
        ..Details::default()
    };
    check(&details, include_str!("golden/v1/details_chat.hex").trim());
    let gap = Infill {
        prefix: "a".into(),
        suffix: "b".into(),
        extra: vec![Extra { filename: "f".into(), text: "t".into() }],
        prompt: "p".into(),
    };
    let details = Details {
        input: Input::Infill(gap),
        constraint: Constraint::Grammar("root".into()),
        urgency: Urgency::Infill,
        ..Details::default()
    };
    check(&details, include_str!("golden/v1/details_infill.hex").trim());
    let token = TokenLogprob { bytes: b"a".to_vec(), logprob: -0.5, top: vec![(b"b".to_vec(), -1.0)] };
    check(&InferenceEvent::Logprobs(vec![token]), include_str!("golden/v1/logprobs.hex").trim());
    check(&InferenceEvent::StopString("\n\n".into()), include_str!("golden/v1/stop_string.hex").trim());
}

/// Headers and paths of answers that outlive their connection.
#[test]
fn holds() {
    const TOKEN: u128 = 0x7f0c_0b2e_3c5e_4a38_9a0e_0d5f_8a1b_2c3d;
    let words = [
        held::HEADER.as_str().to_owned(),
        held::token_value(TOKEN).to_str().unwrap().to_owned(),
        held::LAST_EVENT.as_str().to_owned(),
        held::path(TOKEN),
        held::cancel_path(TOKEN),
    ];
    assert_eq!(words.join("\n"), include_str!("golden/v1/held.txt").trim());
    // What counts as an event there.
    let events = ["token", "done", "error", "logprobs", "stop_string", "loading", "progress"];
    let kept = events.map(|name| {
        let hex =
            std::fs::read_to_string(format!("{}/tests/golden/v1/{name}.hex", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let pairs = hex.trim().as_bytes().chunks(2);
        let bytes: Vec<u8> =
            pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect();
        held::is_kept(&frame::from_bytes(bytes.into(), 1 << 20).unwrap())
    });
    assert_eq!(kept, [true, true, true, true, true, false, false]);
    assert!(!held::is_kept(&InferenceEvent::Token { text: "".into(), total_tokens: 2 }), "a heartbeat");
}

// The third frame, and that it changes nothing about the two before it.
#[test]
fn extras() {
    let extras = Extras {
        adapter: Some(Adapter { name: "code".into(), scale: Some(0.5) }),
        keep_alive: Some(KeepAlive::Seconds(600)),
    };
    check(&extras, include_str!("golden/v1/extras.hex").trim());
    let pinned = Extras { keep_alive: Some(KeepAlive::Forever), ..Extras::default() };
    check(&pinned, include_str!("golden/v1/extras_pinned.hex").trim());

    let request = InferenceRequest {
        model: "qwen_7b".into(),
        prompt: "def f".into(),
        max_tokens: 512,
        sampling: Sampling { seed: Some(7), logit_bias: vec![(300, -1.0)], ..Sampling::default() },
        stop: vec!["\n\n".into()],
    };
    let details = Details { extras, ..Details::default() };
    let mut bytes = BytesMut::new();
    frame::encode_request(&request, &details, &mut bytes).unwrap();
    let parts = [
        include_str!("golden/v1/request.hex"),
        include_str!("golden/v1/details_empty.hex"),
        include_str!("golden/v1/extras.hex"),
    ];
    assert_eq!(hex(&bytes), parts.map(str::trim).concat());
    assert_eq!(frame::request_from_bytes(bytes.freeze(), 1 << 20).unwrap(), (request.clone(), details));

    let mut plain = BytesMut::new();
    frame::encode_request(&request, &Details::default(), &mut plain).unwrap();
    assert_eq!(hex(&plain), include_str!("golden/v1/request.hex").trim());
    let cut = Bytes::copy_from_slice(&plain[..plain.len() - 1]);
    assert!(frame::request_from_bytes(cut, 1 << 20).is_err());
}

#[test]
fn every_failure_code_keeps_its_number() {
    let bytes: Vec<u8> = FailureCode::ALL
        .iter()
        .map(|code| {
            let failure = Failure { code: *code, message: String::new(), retry_after_ms: None };
            frame::to_bytes(&failure).unwrap()[5]
        })
        .collect();
    assert_eq!(bytes, (0..10).collect::<Vec<u8>>());
}
