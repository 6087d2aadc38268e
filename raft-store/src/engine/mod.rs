//! Where bytes live: an ordered map with atomic batches, and a few small files, with durability under our control.
//!
//! Everything above this trait (the log, the vote, snapshots) is the same on every engine. [`SledEngine`] is the one
//! that ships; [`CrashEngine`] keeps live and durable bytes apart, so that tests and simulations can cut the power.

mod crash;
mod sled;

pub use self::crash::{CrashEngine, FilePoint};
pub use self::sled::SledEngine;

/// Largest value that an engine must take. Sled keeps 17 values in a page and moves a page above a quarter of a
/// segment into a file that it never syncs; see [`SledEngine`] for the arithmetic that this bound comes from.
pub const MAX_VALUE_BYTES: usize = 112 * 1024;

/// A failed operation of an engine.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The bytes are not what was written.
    #[error("damaged: {0}")]
    Corrupt(String),
    /// The operating system refused.
    #[error("{0}")]
    Io(String),
    /// The engine was closed, or lost its power in a simulation.
    #[error("the engine is closed")]
    Closed,
    /// A value above [`MAX_VALUE_BYTES`].
    #[error("a record of {0} bytes is above the limit of {MAX_VALUE_BYTES}")]
    TooLarge(usize),
}

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Set a key.
    Put(Vec<u8>, Vec<u8>),
    /// Remove a key, if it is there.
    Remove(Vec<u8>),
}

/// Key and value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// An ordered map with atomic batches, and small files.
///
/// After a loss of power the map holds a prefix of the batches written, and at least those that a `sync` covered.
pub trait Engine: Send + Sync + 'static {
    /// The value of `key`.
    ///
    /// # Errors
    /// [`EngineError`].
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;

    /// Up to `limit` pairs with `from <= key < to`, in order.
    ///
    /// # Errors
    /// [`EngineError`].
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, EngineError>;

    /// Applies all of `batch` or nothing; visible on return, durable only after `sync`.
    ///
    /// # Errors
    /// [`EngineError`].
    fn write(&self, batch: Vec<Op>) -> Result<(), EngineError>;

    /// Everything written before the call is durable on return. Once it fails it must fail for ever: after a failed
    /// fsync the kernel may have dropped the pages, so a later success proves nothing.
    ///
    /// # Errors
    /// [`EngineError`].
    fn sync(&self) -> Result<(), EngineError>;

    /// Replaces the file `name` atomically; durable on return.
    ///
    /// # Errors
    /// [`EngineError`].
    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), EngineError>;

    /// The content of the file `name`.
    ///
    /// # Errors
    /// [`EngineError`].
    fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>, EngineError>;

    /// Whether calls return at once, so that nobody needs to make them on a thread of their own.
    fn is_in_memory(&self) -> bool {
        false
    }

    /// Lets go of the directory; every later call fails with [`EngineError::Closed`].
    fn close(&self);
}

/// What every engine checks before a write.
fn check_sizes(batch: &[Op]) -> Result<(), EngineError> {
    for op in batch {
        if let Op::Put(_, value) = op
            && value.len() > MAX_VALUE_BYTES
        {
            return Err(EngineError::TooLarge(value.len()));
        }
    }
    Ok(())
}
