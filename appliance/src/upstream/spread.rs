//! In which order upstreams are asked: by priority, and those of equal priority in turn, by their weights. Those that are only
//! the last resort come last, whatever their priority.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::Upstream;

/// An upstream's turn among its equals: smooth weighted round robin, as nginx does it. The one with the most credit goes first and
/// pays for all.
#[derive(Debug, Default)]
pub struct Turn(AtomicI64);

/// The upstreams, whose turn it is first.
pub fn in_turn(upstreams: &[Arc<Upstream>]) -> Cow<'_, [Arc<Upstream>]> {
    let equal = |a: &Arc<Upstream>, b: &Arc<Upstream>| rank(a) == rank(b);
    // Settings come sorted: where no two are equal, nothing is to be chosen.
    if !upstreams.windows(2).any(|pair| equal(&pair[0], &pair[1])) {
        return Cow::Borrowed(upstreams);
    }
    let mut ordered = upstreams.to_vec();
    ordered.chunk_by_mut(equal).for_each(|equals| {
        let all: i64 = equals.iter().map(|upstream| upstream.weight).sum();
        for upstream in equals.iter() {
            upstream.turn.0.fetch_add(upstream.weight, Ordering::Relaxed);
        }
        equals.sort_by_key(|upstream| std::cmp::Reverse(upstream.turn.0.load(Ordering::Relaxed)));
        equals[0].turn.0.fetch_sub(all, Ordering::Relaxed);
    });
    Cow::Owned(ordered)
}

pub(crate) fn rank(upstream: &Upstream) -> (bool, u64) {
    (upstream.local, upstream.priority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstreams(of: &[(bool, u64, i64)]) -> Vec<Arc<Upstream>> {
        of.iter()
            .enumerate()
            .map(|(index, &(local, priority, weight))| Upstream::stub(index, (local, priority, weight)))
            .collect()
    }

    fn first(upstreams: &[Arc<Upstream>]) -> usize {
        in_turn(upstreams)[0].index
    }

    #[tokio::test]
    async fn equals_take_turns_by_their_weights() {
        let upstreams = upstreams(&[(false, 0, 3), (false, 0, 1), (false, 1, 9)]);
        let turns: Vec<_> = (0..8).map(|_| first(&upstreams)).collect();
        assert_eq!(turns.iter().filter(|&&index| index == 0).count(), 6);
        assert_eq!(turns.iter().filter(|&&index| index == 1).count(), 2);
        assert!(!turns.windows(4).any(|four| four.iter().all(|&index| index == 0)), "evenly: {turns:?}");
        assert_eq!(in_turn(&upstreams)[2].index, 2);
    }

    #[tokio::test]
    async fn without_equals_the_order_is_the_settings() {
        let upstreams = upstreams(&[(false, 0, 1), (false, 1, 1), (true, 0, 1)]);
        assert!(matches!(in_turn(&upstreams), Cow::Borrowed(_)));
    }
}
