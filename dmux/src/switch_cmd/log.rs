//! Where the log goes, and how much of it.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct LogArgs {
    /// Append the log to a file instead of writing it to standard error. Each line is written at once.
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// How much is logged (default: info, or what RUST_LOG says).
    #[arg(long, short = 'L', value_name = "LEVEL")]
    log_level: Option<Level>,
    /// Log to standard error, as is the default.
    #[arg(long, hide = true, conflicts_with = "log_file")]
    log_console: bool,
    /// Write each line at once, as is always done.
    #[arg(long, hide = true)]
    log_flush: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Off,
}

impl LogArgs {
    /// The filter, if one was asked for.
    pub fn filter(&self) -> Option<&'static str> {
        self.log_level.map(|level| match level {
            Level::Trace => "trace,cranelift_jit=warn,cranelift_codegen=warn",
            Level::Debug => "debug,cranelift_jit=warn,cranelift_codegen=warn",
            Level::Info => "info,cranelift_jit=warn,cranelift_codegen=warn",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Off => "off",
        })
    }

    /// The file, opened, if one was named.
    pub fn open(&self) -> std::io::Result<Option<File>> {
        let open = |path| OpenOptions::new().create(true).append(true).open(path);
        self.log_file.as_ref().map(open).transpose()
    }
}
