//! `cerebrum provision`: the image's own unit calls it before anything reads settings.

use crate::provision::{FILE, Places, provision, reset};

use super::cli::Provision;
use super::console::Console;
use super::failure::Failure;

/// Runs the command. Wrong settings are no failure of it: they are told to whom it concerns.
pub(super) fn run(arguments: &Provision, console: &mut Console) -> Result<(), Failure> {
    let Provision { boot, data, run, reset: forget } = arguments;
    let places = Places { boot: boot.clone(), data: data.clone(), run: run.clone() };
    if *forget {
        return Ok(reset(&places)?);
    }
    let problems = provision(&places)?;
    for problem in &problems {
        console.note(&format!("{FILE}: {problem}"));
    }
    Ok(())
}
