//! A session of six turns over one context: how many tokens the server must read, when the cache keeps the common front.

use cerebrum_prompt::tokens::Estimate;
use cerebrum_prompt::{Profile, Request, Settings, Slot, TokenCount, prepare_request};

use crate::case::Random;
use crate::tree::Group;

const TURNS: usize = 6;
const SESSIONS: usize = 12;

/// Tokens read with a sticky selection, as a share of those read when nothing is shortened and the cache is warm.
pub(crate) fn run(groups: &[Group], random: &mut Random) -> f64 {
    let (mut sticky, mut fresh, mut plain) = (0, 0, 0);
    for _ in 0..SESSIONS {
        let group = &groups[random.below(groups.len())];
        let Some((context, names)) = context(group, random) else { continue };
        let asked: Vec<&str> = (0..TURNS).map(|_| names[random.below(names.len())].as_str()).collect();
        sticky += session(&context, &asked, true);
        fresh += session(&context, &asked, false);
        plain += uncached(&context, &asked);
    }
    println!("session of {TURNS} turns, tokens read: sticky {sticky}, fresh selection {fresh}, not shortened {plain}");
    sticky as f64 / plain.max(1) as f64
}

fn context(group: &Group, random: &mut Random) -> Option<(String, Vec<String>)> {
    let mut text = String::new();
    let mut names = Vec::new();
    for _ in 0..20 {
        let file = &group.files[random.below(group.files.len())];
        if text.len() + file.text.len() < 34_000 && !text.contains(&file.path) {
            text.push_str(&format!("{} {}\n{}\n\n", file.grammar.comment(), file.path, file.text));
            names.extend(file.definitions.iter().filter(|d| d.function && d.name.len() > 4).map(|d| d.name.clone()));
        }
    }
    (text.len() > 16_000 && names.len() > 5).then_some((text, names))
}

fn prompt(context: &str, name: &str) -> String {
    format!("{context}\n# INSTRUCTION: refactor `{name}` to be simpler.\n")
}

fn session(context: &str, asked: &[&str], sticky: bool) -> usize {
    let settings = Settings { profile: Profile::Smart };
    let mut last: Option<(String, usize)> = None;
    let mut read = 0;
    for name in asked {
        let prompt = prompt(context, name);
        let (sent, stable_bytes) = last.as_ref().map_or(("", 0), |(prompt, stable)| (prompt.as_str(), *stable));
        let slot = sticky.then_some(Slot { prompt: sent, stable_bytes });
        let prepared = prepare_request(&Request { slot, room: Some(3000), ..Request::new(&prompt) }, &settings);
        read += new_tokens(last.as_ref().map_or("", |(prompt, _)| prompt), &prepared.prompt);
        last = Some((prepared.prompt, prepared.report.stable_bytes));
    }
    read
}

fn uncached(context: &str, asked: &[&str]) -> usize {
    let mut last = String::new();
    let mut read = 0;
    for name in asked {
        let prompt = prompt(context, name);
        read += new_tokens(&last, &prompt);
        last = prompt;
    }
    read
}

/// Tokens after the common front of two prompts.
fn new_tokens(last: &str, now: &str) -> usize {
    let common = last.bytes().zip(now.bytes()).take_while(|(one, two)| one == two).count();
    Estimate.count(&now[now.floor_char_boundary(common)..])
}
