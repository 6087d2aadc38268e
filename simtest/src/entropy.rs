//! The operating system's random numbers, from a seed.
//!
//! Hash maps, tokio's `select!`, election timeouts and incarnations all begin with a `getrandom` of the thread that
//! they run on. The C function is defined here, so the linker prefers it to libc's: on a thread that has been given a
//! seed it answers from the seed, on all others it asks the kernel. So a simulation needs no seam for randomness in
//! what it runs, and what it runs is what ships.

use std::cell::Cell;

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on this thread's random numbers follow from `seed`. For a new thread: what was drawn before stays drawn.
pub fn seed_thread(seed: u64) {
    STATE.with(|state| state.set(Some(seed)));
}

/// One step of SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// See the module; getrandom(2).
///
/// # Safety
/// `buffer` must be valid for `length` bytes of writes, as libc demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut libc::c_void, length: libc::size_t, flags: libc::c_uint) -> isize {
    let seeded = STATE.try_with(Cell::get).ok().flatten();
    let Some(mut state) = seeded else {
        // SAFETY: the caller's promise is passed on as it is.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) } as isize;
    };
    // SAFETY: the caller promises that the buffer is valid for writes of this length; bytes need no alignment.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<std::mem::MaybeUninit<u8>>(), length) };
    for piece in bytes.chunks_mut(8) {
        for (byte, random) in piece.iter_mut().zip(next(&mut state).to_le_bytes()) {
            byte.write(random);
        }
    }
    let _ = STATE.try_with(|cell| cell.set(Some(state)));
    length as isize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(seed: Option<u64>) -> (u64, u64, Vec<u32>) {
        let thread = std::thread::spawn(move || {
            if let Some(seed) = seed {
                seed_thread(seed);
            }
            use std::hash::BuildHasher;
            let hash = std::collections::hash_map::RandomState::new().hash_one(1);
            let map: std::collections::HashMap<u32, ()> = (0..50).map(|n| (n, ())).collect();
            (hash, rand::random(), map.into_keys().collect())
        });
        thread.join().unwrap()
    }

    #[test]
    fn a_seeded_thread_draws_the_same_again_and_others_do_not() {
        assert_eq!(drawn(Some(7)), drawn(Some(7)));
        assert_ne!(drawn(Some(7)), drawn(Some(8)));
        assert_ne!(drawn(None), drawn(None));
    }
}
