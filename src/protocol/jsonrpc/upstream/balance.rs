//! Power of two choices: of two instances drawn by lot, the one where a call costs less.
//!
//! The best of all would get everybody's calls until its load is known to have grown; of two by lot
//! the better is nearly as good, and they never agree on one (Mitzenmacher, 1996).

/// Which of `count` to take; `None` where there is none. `is_better` tells whether a call would cost
/// less at the first than at the second; `draw` a number below the one that it is given.
pub(super) fn choose(
    count: usize,
    is_better: impl Fn(usize, usize) -> bool,
    mut draw: impl FnMut(usize) -> usize,
) -> Option<usize> {
    if count < 2 {
        return count.checked_sub(1);
    }
    let one = draw(count);
    let other = (one + 1 + draw(count - 1)) % count;
    Some(if is_better(other, one) { other } else { one })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_the_better() {
        let draw = |below| fastrand::usize(..below);
        assert_eq!(choose(0, |_, _| false, draw), None);
        assert_eq!(choose(1, |_, _| false, draw), Some(0));
        for _ in 0..100 {
            assert_eq!(choose(2, |one, other| one > other, draw), Some(1));
        }
    }

    #[test]
    fn the_worst_of_many_is_never_taken_and_all_others_are() {
        let costs = [3, 9, 1, 3];
        let mut taken = [0; 4];
        for _ in 0..1000 {
            let draw = |below| fastrand::usize(..below);
            taken[choose(4, |one, other| costs[one] < costs[other], draw).expect("one")] += 1;
        }
        assert_eq!(taken[1], 0, "{taken:?}");
        assert!(taken[0] > 50 && taken[2] > 300 && taken[3] > 50, "{taken:?}");
    }
}
