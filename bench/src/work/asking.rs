//! Requests one after the other, as many as there are answers to, for as long as each order says.
//! What a request is, its load knows.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Slice, process::say, session::orders};

/// Asks by `once`, as the orders say that come to this process, and says what came of each; so
/// many requests between two looks at the clock.
pub fn as_ordered(batch: u64, mut once: impl FnMut() -> Result<()>) -> Result<()> {
    for order in orders() {
        let order = order?;
        let (warmed, _) = ask_for(order.warm_up, batch, &mut once)?;
        let (counted, seconds) = ask_for(order.sample, batch, &mut once)?;
        say(&Slice {
            all: warmed + counted,
            counted,
            seconds,
            ..Slice::default()
        })?;
    }
    Ok(())
}

/// How many answers there were in that time, and how long it really was, in seconds.
fn ask_for(
    time: Duration,
    batch: u64,
    once: &mut impl FnMut() -> Result<()>,
) -> Result<(u64, f64)> {
    let began = Instant::now();
    let mut answers = 0;
    while began.elapsed() < time {
        for _ in 0..batch {
            once()?;
        }
        answers += batch;
    }
    Ok((answers, began.elapsed().as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn every_answer_counts_and_the_time_ends_with_a_batch() {
        let mut asked = 0;
        let time = Duration::from_millis(1);
        let (answers, seconds) = ask_for(time, 16, &mut || {
            asked += 1;
            Ok(())
        })
        .expect("nothing fails");
        assert_eq!(answers, asked);
        assert!(answers > 0 && answers.is_multiple_of(16), "{answers}");
        assert!(seconds >= time.as_secs_f64(), "{seconds}");
    }

    #[test]
    fn who_gets_no_answer_counts_nothing() {
        let refused = &mut || bail!("refused");
        assert!(ask_for(Duration::from_secs(1), 1, refused).is_err());
    }
}
