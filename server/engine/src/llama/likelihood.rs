//! Probabilities out of logits. Pure.

use crate::model::IMPOSSIBLE;
use crate::{Likelihood, Token};

/// How likely `token` is by these logits, one per vocabulary entry, and which `top` tokens are the likeliest.
pub(super) fn of(logits: &[f32], token: Token, top: usize) -> Option<Likelihood> {
    let own = *usize::try_from(token.0).ok().and_then(|index| logits.get(index))?;
    let numbers = || logits.iter().copied().filter(|logit| !logit.is_nan());
    let highest = numbers().reduce(f32::max).filter(|highest| highest.is_finite())?;
    let sum: f64 = numbers().map(|logit| f64::from(logit - highest).exp()).sum();
    let logprob = |logit: f32| ((f64::from(logit - highest) - sum.ln()) as f32).max(IMPOSSIBLE);
    let top = likeliest(logits, top).into_iter().map(|(token, logit)| (token, logprob(logit))).collect();
    Some(Likelihood { logprob: logprob(own), top })
}

// The highest so many, the highest first. So few are wanted of so many that keeping them in order is cheaper than sorting.
fn likeliest(logits: &[f32], count: usize) -> Vec<(Token, f32)> {
    let mut best: Vec<(Token, f32)> = Vec::with_capacity(count + 1);
    for (&logit, id) in logits.iter().zip(0..).filter(|(logit, _)| !logit.is_nan()) {
        if best.len() == count && best.last().is_none_or(|last| logit <= last.1) {
            continue;
        }
        let place = best.partition_point(|known| known.1 >= logit);
        best.insert(place, (Token(id), logit));
        best.truncate(count);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_those_of_a_softmax() {
        let logits = [1.0_f32, 3.0, f32::NAN, 3.0, -2.0, f32::NEG_INFINITY];
        let sum: f32 = [1.0_f32, 3.0, 3.0, -2.0].iter().map(|logit| logit.exp()).sum();
        let found = of(&logits, Token(0), 3).unwrap();
        let near = |found: f32, logit: f32| (found - (logit.exp() / sum).ln()).abs() < 1e-5;
        assert!(near(found.logprob, 1.0), "{found:?}");
        assert_eq!(found.top.iter().map(|(token, _)| token.0).collect::<Vec<_>>(), [1, 3, 0]);
        assert!(near(found.top[0].1, 3.0) && near(found.top[2].1, 1.0), "{found:?}");
        assert_eq!(of(&logits, Token(5), 0), Some(Likelihood { logprob: IMPOSSIBLE, top: vec![] }));
        assert_eq!(of(&logits, Token(1), 20).unwrap().top.len(), 5);
    }

    #[test]
    fn logits_without_numbers_give_none() {
        assert_eq!(of(&[f32::NAN; 3], Token(0), 2), None);
        assert_eq!(of(&[f32::NEG_INFINITY; 3], Token(0), 2), None);
        assert_eq!(of(&[0.0; 3], Token(3), 2), None);
        assert_eq!(of(&[0.0; 3], Token(-1), 2), None);
    }
}
