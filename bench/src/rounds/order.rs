//! In whose order the cycles of a round go. Pure.

/// In whose order a cycle goes: by Williams' squares, in which everybody comes after everybody else
/// equally often. With an odd number that takes as many cycles again, backwards. Nobody comes after
/// himself, from one cycle to the next either.
pub fn in_order(count: usize, cycle: usize) -> Vec<usize> {
    if count < 3 {
        return (0..count).collect();
    }
    let row = cycle % count;
    let from = |row: usize| zigzag(count).map(move |at| (at + row) % count);
    if (cycle / count).is_multiple_of(2) {
        from(row).collect()
    } else {
        let mut order: Vec<usize> = from(count - row).collect();
        order.reverse();
        order
    }
}

/// 0, 1, the last, 2, the last but one, and so on.
fn zigzag(count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |at| match at % 2 {
        _ if at == 0 => 0,
        1 => at.div_ceil(2),
        _ => count - at / 2,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_comes_after_everybody_else_equally_often_and_nobody_after_himself() {
        for count in 3..=8 {
            let cycles: Vec<_> = (0..2 * count).map(|at| in_order(count, at)).collect();
            let mut follows = vec![vec![0; count]; count];
            for cycle in &cycles {
                let mut all = cycle.clone();
                all.sort_unstable();
                assert_eq!(all, (0..count).collect::<Vec<_>>());
                for pair in cycle.windows(2) {
                    follows[pair[0]][pair[1]] += 1;
                }
            }
            for (one, follows) in follows.iter().enumerate() {
                let expected: Vec<_> = (0..count).map(|it| if it == one { 0 } else { 2 }).collect();
                assert_eq!(follows, &expected, "{one} of {count}");
            }
            for pair in cycles
                .iter()
                .chain(cycles.first())
                .collect::<Vec<_>>()
                .windows(2)
            {
                assert_ne!(pair[0].last(), pair[1].first(), "of {count}");
            }
        }
    }
}
