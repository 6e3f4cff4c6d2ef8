//! How one step's work is divided. Pure numbers in, numbers out.

/// Divides a chunk among prompts with these numbers of tokens left: evenly, and what one does not need goes to the others. In order of
/// arrival the earlier get the remainder.
///
/// Evenly and not first come, first served: a short prompt then waits for a few steps beside a long one and not for all of it.
pub(super) fn divide(chunk: usize, left: &[usize]) -> Vec<usize> {
    let mut shares = vec![0; left.len()];
    let mut budget = chunk;
    loop {
        let hungry: Vec<_> = (0..left.len()).filter(|&index| shares[index] < left[index]).collect();
        if budget == 0 || hungry.is_empty() {
            return shares;
        }
        let (each, mut extra) = (budget / hungry.len(), budget % hungry.len());
        for index in hungry {
            let one_more = usize::from(extra > 0);
            extra -= one_more;
            let share = (each + one_more).min(left[index] - shares[index]);
            shares[index] += share;
            budget -= share;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_chunk_is_divided_evenly_and_nothing_is_wasted() {
        let cases: [(usize, &[usize], &[usize]); 7] = [
            (8, &[], &[]),
            (8, &[100], &[8]),
            (8, &[3], &[3]),
            (8, &[100, 100], &[4, 4]),
            (9, &[100, 100], &[5, 4]),
            (8, &[100, 2], &[6, 2]),
            (1, &[100, 100, 100], &[1, 0, 0]),
        ];
        for (chunk, left, expected) in cases {
            assert_eq!(divide(chunk, left), expected, "{chunk} {left:?}");
        }
    }

    proptest! {
        #[test]
        fn shares_never_exceed_the_chunk_or_what_is_left(chunk in 1_usize..300, left in prop::collection::vec(0_usize..400, 0..6)) {
            let shares = divide(chunk, &left);
            prop_assert!(shares.iter().zip(&left).all(|(share, left)| share <= left));
            prop_assert_eq!(shares.iter().sum::<usize>(), chunk.min(left.iter().sum()));
        }
    }
}
