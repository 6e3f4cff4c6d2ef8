//! What a model is given, as a prompt of its own: a conversation by its chat template, a gap in a file by its control tokens.
//!
//! Other files go before a gap while there is room, the last first, since editors put what was looked at last at the end; what
//! found no room is counted in a warning.

use cerebrum_common::wire::details::{Extra, Infill, Input};
use cerebrum_common::wire::dialect::infill::LEFT_OUT;
use cerebrum_common::wire::{Details, Failure, FailureCode, InferenceRequest};
use cerebrum_engine::{self as engine, Control, Engine, Prompt};

use super::renderer::Renderer;
use super::request::engine_request;
use super::template;
use crate::registry::Unavailable;

/// The engine's request, and what was left out of it.
///
/// # Errors
/// What of the input the model cannot read.
pub(super) async fn assemble(
    request: InferenceRequest,
    details: Details,
    engine: Engine,
    renderer: Renderer,
) -> Result<(engine::Request, Vec<String>), Failure> {
    let (prompt, left_out) = match &details.input {
        Input::Prompt => (Prompt::plain(request.prompt.to_string()), None),
        Input::Chat(chat) => (template::render(chat, engine.info(), &renderer).await.map_err(bad)?, None),
        Input::Infill(gap) => infill(gap, &engine, request.max_tokens as usize).await?,
    };
    Ok((engine_request(request, &details, prompt), left_out.into_iter().collect()))
}

fn bad(message: String) -> Failure {
    Failure { code: FailureCode::BadRequest, message, retry_after_ms: None }
}

async fn infill(gap: &Infill, engine: &Engine, max_tokens: usize) -> Result<(Prompt, Option<String>), Failure> {
    let files = engine.info().infill_files;
    let own = Prompt::new();
    let own = if files { own.control(Control::File).text("current\n") } else { own };
    let own = own.control(Control::InfillPrefix).text(&*gap.prefix).control(Control::InfillSuffix);
    let own = own.text(&*gap.suffix).control(Control::InfillMiddle).text(&*gap.prompt);
    if !engine.info().infill {
        // The engine refuses it, in its words.
        return Ok((own, None));
    }
    let head = if files { Prompt::new().control(Control::Repository).text("project\n") } else { Prompt::new() };
    let answer = max_tokens.min(engine.info().context / 4);
    let piece = |extra: &Extra| match files {
        true => Prompt::new().control(Control::File).text(format!("{}\n{}", extra.filename, &*extra.text)),
        false => Prompt::plain(format!("\n\n--- snippet ---\n\n{}", &*extra.text)),
    };
    // One question for all, the last file first, since editors send a dozen with every key.
    let pieces: Vec<_> = gap.extra.iter().rev().map(piece).collect();
    let asked = [&head, &own].into_iter().chain(&pieces).cloned().collect();
    let lengths = engine.lengths(asked).await.map_err(|_| Failure::from(&Unavailable::Stopping))?;
    let (taken, lengths) = lengths.split_at(2);
    let mut room = engine.info().context.saturating_sub(taken.iter().copied().fold(answer, usize::saturating_add));
    let mut kept = Vec::new();
    for (piece, &tokens) in pieces.into_iter().zip(lengths) {
        if tokens > room {
            break;
        }
        room -= tokens;
        kept.push(piece);
    }
    let (all, found) = (gap.extra.len(), kept.len());
    let left_out =
        (found < all).then(|| format!("{LEFT_OUT}{} of {all} left out, since there was no room", all - found));
    let prompt = kept.into_iter().rev().fold(head, Prompt::then);
    Ok((prompt.then(own), left_out))
}
