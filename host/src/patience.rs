//! The time, and how long things are waited for.

use std::time::Duration;

/// The time, twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since any fixed moment; never goes back.
    pub mono: Duration,
    /// Since the Unix epoch.
    pub unix: Duration,
}

/// How patient a router or an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// Until the first repetition of an unanswered request; doubled each time.
    pub first_retry: Duration,
    /// Until each later repetition at most.
    pub max_retry: Duration,
    /// Until the next try after a refusal that somebody must do something about.
    pub refused_retry: Duration,
    /// How long a farewell is waited for.
    pub farewell: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            first_retry: Duration::from_millis(300),
            max_retry: Duration::from_secs(10),
            refused_retry: Duration::from_secs(30),
            farewell: Duration::from_secs(2),
        }
    }
}

/// Until repetition number `n` of a request, before it is spread: doubled with each.
pub(crate) fn backed_off(timers: &Timers, n: u32) -> Duration {
    timers.first_retry.saturating_mul(1 << n.min(16)).min(timers.max_retry)
}

/// Characters of a text from the network that are shown.
const MAX_TEXT: usize = 400;

/// Text from the network, fit for a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { '?' } else { c }).collect()
}
