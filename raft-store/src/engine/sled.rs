//! The engine that ships: sled 0.34 in `<dir>/sled`, small files in `<dir>`.
//!
//! Sled alone is not durable against loss of power, nor polite about corruption. What is done about it here:
//! * `Db::flush` ends in `sync_file_range`, which does not flush the disk's cache nor the file's metadata. `sync` then
//!   calls `fdatasync` on a descriptor of its own of sled's one data file.
//! * A page above a quarter of a segment goes to a file in `blobs/` that is never synced. With segments of 8 MiB a
//!   page may have 2 MiB; a leaf splits above 16 values, so 17 values of 112 KiB (1.9 MiB) stay inside the log.
//! * Its own periodic flush is off: one place decides what is durable (the flusher).
//! * It may panic while it reads a damaged file. Opening runs under `catch_unwind`, and a panic is corruption.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::{Engine, EngineError, Op, Pair, check_sizes};
use crate::error::{OpenStep, StoreError};

/// Sled's segment size; a page may grow to a quarter of it.
const SEGMENT_BYTES: usize = 8 << 20;
/// Sled's page cache. The log that is read again is short; the state is in memory anyway.
const CACHE_BYTES: u64 = 64 << 20;
/// How long a handle of a store that was closed in this process may linger.
const LINGERING: Duration = Duration::from_secs(5);
/// Pause between attempts meanwhile.
const LINGERING_PAUSE: Duration = Duration::from_millis(10);
/// Name of the lock file.
const LOCK_FILE: &str = "LOCK";
/// Name of sled's directory.
const SLED_DIR: &str = "sled";
/// Suffix of a file that is being written.
const TMP_SUFFIX: &str = ".tmp";
/// Largest small file (a snapshot is the largest).
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Sled in a directory that this process owns.
pub struct SledEngine {
    dir: PathBuf,
    open: RwLock<Option<Open>>,
    sync_failed: AtomicBool,
}

struct Open {
    db: sled::Db,
    /// Own descriptor of `<dir>/sled/db`, for fdatasync.
    data: File,
    /// Held for its lock.
    _lock: File,
}

impl SledEngine {
    /// Opens or creates the store in `dir`.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Corrupt`] or [`StoreError::Io`].
    pub fn open(dir: &Path) -> Result<SledEngine, StoreError> {
        let io = |step| move |e: std::io::Error| StoreError::Io { step, dir: dir.to_owned(), error: e.to_string() };
        let created = !dir.exists();
        std::fs::create_dir_all(dir).map_err(io(OpenStep::Create))?;
        if created {
            // The new directory's name is data of its parent.
            let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            sync_dir(parent).map_err(io(OpenStep::Sync))?;
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(LOCK_FILE))
            .map_err(io(OpenStep::Open))?;
        lock.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => StoreError::InUse { dir: dir.to_owned() },
            TryLockError::Error(e) => io(OpenStep::Open)(e),
        })?;
        let path = dir.join(SLED_DIR);
        let opened = open_sled(&path);
        let corrupt = |what: String| StoreError::Corrupt { dir: dir.to_owned(), what };
        let db = match opened {
            Ok(Ok(db)) => db,
            Ok(Err(e)) if is_lock_clash(&e) => return Err(StoreError::InUse { dir: dir.to_owned() }),
            Ok(Err(sled::Error::Io(e))) if is_system_error(&e) => return Err(io(OpenStep::Open)(e)),
            Ok(Err(e)) => return Err(corrupt(format!("sled cannot open it: {e}"))),
            Err(panic) => return Err(corrupt(format!("sled panicked: {}", panic_text(panic.as_ref())))),
        };
        let data = File::open(path.join("db")).map_err(io(OpenStep::Open))?;
        sync_dir(&path).map_err(io(OpenStep::Sync))?;
        sync_dir(dir).map_err(io(OpenStep::Sync))?;
        Ok(SledEngine {
            dir: dir.to_owned(),
            open: RwLock::new(Some(Open { db, data, _lock: lock })),
            sync_failed: AtomicBool::new(false),
        })
    }

    fn with<T>(&self, f: impl FnOnce(&Open) -> Result<T, EngineError>) -> Result<T, EngineError> {
        let guard = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let open = guard.as_ref().ok_or(EngineError::Closed)?;
        // A damaged page can make sled panic on any access; that must stop this node, not its threads at random.
        catch_unwind(AssertUnwindSafe(|| f(open)))
            .unwrap_or_else(|panic| Err(EngineError::Corrupt(format!("sled panicked: {}", panic_text(panic.as_ref())))))
    }
}

impl Engine for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.with(|open| Ok(open.db.get(key).map_err(from_sled)?.map(|v| v.to_vec())))
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, EngineError> {
        self.with(|open| {
            open.db
                .range(from..to)
                .take(limit)
                .map(|pair| pair.map(|(k, v)| (k.to_vec(), v.to_vec())).map_err(from_sled))
                .collect()
        })
    }

    fn write(&self, batch: Vec<Op>) -> Result<(), EngineError> {
        check_sizes(&batch)?;
        // One update is atomic by itself. sled seals a batch with a flush of its own, which the flusher's next one makes
        // superfluous, and which would double what a lone write waits for.
        if batch.len() == 1 {
            return self.with(|open| {
                for op in batch {
                    match op {
                        Op::Put(key, value) => open.db.insert(key, value).map_err(from_sled)?,
                        Op::Remove(key) => open.db.remove(key).map_err(from_sled)?,
                    };
                }
                Ok(())
            });
        }
        let mut out = sled::Batch::default();
        for op in batch {
            match op {
                Op::Put(key, value) => out.insert(key, value),
                Op::Remove(key) => out.remove(key),
            }
        }
        self.with(|open| open.db.apply_batch(out).map_err(from_sled))
    }

    fn sync(&self) -> Result<(), EngineError> {
        if self.sync_failed.load(Ordering::Acquire) {
            return Err(EngineError::Io("an earlier fsync failed, so nothing can be promised any more".to_owned()));
        }
        let result = self.with(|open| {
            open.db.flush().map_err(from_sled)?;
            open.data.sync_data().map_err(|e| EngineError::Io(format!("fdatasync: {e}")))
        });
        if result.is_err() {
            self.sync_failed.store(true, Ordering::Release);
        }
        result
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), EngineError> {
        self.with(|_| {
            let tmp = self.dir.join(format!("{name}{TMP_SUFFIX}"));
            let write = || -> std::io::Result<()> {
                let mut file = File::create(&tmp)?;
                file.write_all(bytes)?;
                file.sync_all()?;
                std::fs::rename(&tmp, self.dir.join(name))?;
                sync_dir(&self.dir)
            };
            write().map_err(|e| EngineError::Io(format!("{name}: {e}")))
        })
    }

    fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>, EngineError> {
        self.with(|_| {
            let path = self.dir.join(name);
            match std::fs::metadata(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(EngineError::Io(format!("{name}: {e}"))),
                Ok(meta) if meta.len() > MAX_FILE_BYTES => {
                    return Err(EngineError::Corrupt(format!("{name} has {} bytes", meta.len())));
                }
                Ok(_) => {}
            }
            std::fs::read(&path).map(Some).map_err(|e| EngineError::Io(format!("{name}: {e}")))
        })
    }

    fn close(&self) {
        let open = self.open.write().unwrap_or_else(PoisonError::into_inner).take();
        // Dropping sled flushes; a panic there (a damaged page) must not take the process down.
        if catch_unwind(AssertUnwindSafe(|| drop(open))).is_err() {
            tracing::error!(dir = %self.dir.display(), "sled panicked while closing");
        }
    }
}

/// Opens sled, or says how it panicked.
///
/// The caller holds our own lock, so a clash on sled's is a handle of this process that sled has not let go of yet
/// (it frees them in the background): that passes.
fn open_sled(path: &Path) -> std::thread::Result<sled::Result<sled::Db>> {
    let deadline = Instant::now() + LINGERING;
    loop {
        let opened = catch_unwind(|| {
            sled::Config::new()
                .path(path)
                .segment_size(SEGMENT_BYTES)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(None)
                .open()
        });
        match &opened {
            Ok(Err(e)) if is_lock_clash(e) && Instant::now() < deadline => std::thread::sleep(LINGERING_PAUSE),
            _ => return opened,
        }
    }
}

/// Sled has no error of its own for a clash of locks, only a text.
fn is_lock_clash(e: &sled::Error) -> bool {
    matches!(e, sled::Error::Io(e) if e.to_string().contains("could not acquire lock"))
}

fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Errors of the system rather than of the bytes: they may pass, and say nothing about damage.
fn is_system_error(e: &std::io::Error) -> bool {
    e.raw_os_error().is_some()
}

fn from_sled(e: sled::Error) -> EngineError {
    match e {
        sled::Error::Io(e) => EngineError::Io(e.to_string()),
        other => EngineError::Corrupt(other.to_string()),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}
