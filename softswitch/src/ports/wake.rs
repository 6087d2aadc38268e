//! Waking a worker that waits for its ports.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Wakes one worker out of `poll`. Costs an atomic load when the worker is awake anyway.
#[derive(Debug)]
pub struct Waker {
    event: OwnedFd,
    asleep: AtomicBool,
}

impl Waker {
    /// A waker of its own eventfd.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointers; a non-negative result is a descriptor that nobody else owns.
        let event = unsafe {
            let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self { event, asleep: AtomicBool::new(false) })
    }

    /// Says that there is something to do. What is to be done must be visible before the call.
    pub fn wake(&self) {
        // Sequentially consistent on both sides: either the worker sees the work after it said that it sleeps,
        // or we see that it sleeps.
        if self.asleep.swap(false, Ordering::SeqCst) {
            let one = 1u64.to_ne_bytes();
            // SAFETY: writes 8 bytes from a live array. A full counter also wakes, so the result is not needed.
            unsafe { libc::write(self.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        }
    }

    /// Announces that the worker is about to wait; it must look for work once more after this.
    pub fn fall_asleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    /// Ends the wait and takes the event. Always looks for one: a waker that saw us asleep may write only now, and
    /// an event that nobody takes would end every later wait at once.
    pub fn woke_up(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        let mut counter = [0u8; 8];
        // SAFETY: reads at most 8 bytes into a live array; the descriptor does not block.
        unsafe { libc::read(self.event.as_raw_fd(), counter.as_mut_ptr().cast(), counter.len()) };
    }

    /// What becomes readable on a wake.
    pub fn readiness(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}
