//! What no input may do: make the loader, the packet path or the P4Runtime server panic, hang, or contradict itself.
//!
//! Each fuzzer is a number of rounds; a round is determined by the seed and its number, so that a finding is two numbers.

pub mod json;
pub mod packets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::dice::Dice;

/// A round that takes longer hangs, or has found something that costs far more than it should.
const LONGEST_ROUND: Duration = Duration::from_secs(20);

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// After so many rounds.
    Rounds(u64),
    /// After this time.
    Elapsed(Duration),
}

/// A round that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its number.
    pub round: u64,
    /// What happened.
    pub what: String,
    /// The input, where there is one to keep.
    pub input: Vec<u8>,
}

/// Runs rounds from `first` on; gives how many there were, or the first finding.
///
/// # Errors
/// The finding.
pub fn rounds(
    dice: &Dice,
    first: u64,
    until: Until,
    mut round: impl FnMut(&mut Dice) -> Result<(), (String, Vec<u8>)>,
) -> Result<u64, Finding> {
    let began = Instant::now();
    let mut n = first;
    loop {
        let done = match until {
            Until::Rounds(count) => n - first >= count,
            Until::Elapsed(time) => began.elapsed() >= time,
        };
        if done {
            return Ok(n - first);
        }
        let at = Instant::now();
        let finding = |what: String, input: Vec<u8>| Finding { round: n, what, input };
        match catch_unwind(AssertUnwindSafe(|| round(&mut dice.part(n)))) {
            Ok(Ok(())) => {}
            Ok(Err((what, input))) => return Err(finding(what, input)),
            Err(panic) => return Err(finding(format!("a panic: {}", said(&*panic)), Vec::new())),
        }
        if at.elapsed() > LONGEST_ROUND {
            return Err(finding(format!("it took {:?}", at.elapsed()), Vec::new()));
        }
        n += 1;
    }
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no words".to_owned())
}

/// Runs something; what it panics with becomes an error.
fn without_panic<T>(what: &str, f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| format!("{what} panics: {}", said(&*panic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_its_round_and_is_found_again_by_it() {
        let odd = |dice: &mut Dice| if dice.one_in(5) { Err(("five".to_owned(), vec![5])) } else { Ok(()) };
        let finding = rounds(&Dice::new(3), 0, Until::Rounds(1000), odd).unwrap_err();
        let again = rounds(&Dice::new(3), finding.round, Until::Rounds(1), odd).unwrap_err();
        assert_eq!(finding, again);
        assert_eq!(rounds(&Dice::new(3), 0, Until::Rounds(7), |_| Ok(())), Ok(7));
    }

    #[test]
    fn a_panic_is_a_finding() {
        let finding = rounds(&Dice::new(0), 4, Until::Rounds(1), |_| panic!("ouch")).unwrap_err();
        assert_eq!((finding.round, finding.what.as_str()), (4, "a panic: ouch"));
        assert!(without_panic("it", || panic!("{}", 7)).is_err_and(|e: String| e == "it panics: 7"));
    }
}
