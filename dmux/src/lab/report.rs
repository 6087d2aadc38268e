//! What the lab tells: lines that a person enjoys reading, and the same as one JSON document.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

/// One thing that was tried and whether it held.
#[derive(Debug, Serialize)]
pub struct Step {
    /// Short name, stable for programs.
    pub name: &'static str,
    /// Whether everything in it held.
    pub ok: bool,
    /// What was measured, stable keys.
    pub measured: Value,
    /// The lines that a person sees.
    pub lines: Vec<String>,
    /// Since the lab began, ms.
    pub at_ms: u64,
}

/// All steps so far; prints each as it ends unless the report is for a program.
#[derive(Debug)]
pub struct Report {
    began: Instant,
    quiet: bool,
    steps: Vec<Step>,
}

#[derive(Serialize)]
struct Document<'a> {
    ok: bool,
    seconds: f64,
    steps: &'a [Step],
}

impl Report {
    /// `quiet`: print nothing until [`Report::json`] is asked for.
    pub fn new(quiet: bool) -> Self {
        Self { began: Instant::now(), quiet, steps: Vec::new() }
    }

    /// A heading or remark for people only.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            println!("{line}");
        }
    }

    /// Adds a finished step.
    pub fn step(&mut self, name: &'static str, ok: bool, lines: Vec<String>, measured: Value) {
        let at = self.began.elapsed();
        if !self.quiet {
            for (n, line) in lines.iter().enumerate() {
                if n == 0 {
                    println!("{:>6.2}s  {}  {line}", at.as_secs_f64(), if ok { "✓" } else { "✗" });
                } else {
                    println!("            {line}");
                }
            }
        }
        self.steps.push(Step { name, ok, measured, lines, at_ms: at.as_millis() as u64 });
    }

    /// Whether every step so far held, and there was one.
    pub fn ok(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(|s| s.ok)
    }

    /// How many steps held, and how many there were.
    pub fn tally(&self) -> (usize, usize) {
        (self.steps.iter().filter(|s| s.ok).count(), self.steps.len())
    }

    /// Time since the lab began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The whole report as one JSON document.
    pub fn json(&self) -> serde_json::Result<String> {
        let document = Document { ok: self.ok(), seconds: self.began.elapsed().as_secs_f64(), steps: &self.steps };
        serde_json::to_string_pretty(&document)
    }
}

/// A duration as people say it: `3.2 ms`, `1.4 s`.
pub fn human(d: Duration) -> String {
    let ms = d.as_secs_f64() * 1000.0;
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else if ms < 1000.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.1} s", ms / 1000.0)
    }
}

/// A duration as a JSON number of milliseconds.
pub fn ms(d: Duration) -> f64 {
    (d.as_secs_f64() * 1e6).round() / 1000.0
}
