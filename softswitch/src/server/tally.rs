//! What became of requests, counted by their codes.

use std::sync::atomic::{AtomicU64, Ordering};

use tonic::Code;

use super::error::Refused;

/// The canonical codes by number, as the specification of gRPC writes them.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// How often each code was the answer.
#[derive(Debug, Default)]
pub(crate) struct Codes([AtomicU64; NAMES.len()]);

impl Codes {
    pub(crate) fn add(&self, code: Code, n: u64) {
        // A code is a number below the number of names.
        if let Some(count) = self.0.get(code as usize) {
            count.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Counts one for each result.
    pub(crate) fn add_all(&self, results: &[Result<(), Refused>]) {
        let mut accepted = 0;
        for result in results {
            match result {
                Ok(()) => accepted += 1,
                Err(refused) => self.add(refused.code, 1),
            }
        }
        self.add(Code::Ok, accepted);
    }

    /// OK, and the codes that there were.
    pub(crate) fn read(&self) -> Vec<(&'static str, u64)> {
        let all = NAMES.iter().zip(&self.0).map(|(name, n)| (*name, n.load(Ordering::Relaxed)));
        all.filter(|(name, n)| *n > 0 || *name == NAMES[0]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_by_code() {
        let codes = Codes::default();
        assert_eq!(codes.read(), [("OK", 0)]);
        let refused = |code| Err(Refused::new(code, ""));
        codes.add_all(&[
            Ok(()),
            refused(Code::Unauthenticated),
            Ok(()),
            refused(Code::NotFound),
            refused(Code::NotFound),
        ]);
        assert_eq!(codes.read(), [("OK", 2), ("NOT_FOUND", 2), ("UNAUTHENTICATED", 1)]);
    }
}
