//! A thread with a seed and a paused clock.

use std::future::Future;

use dmux_simtest::entropy;

/// Runs on a thread of its own: what a thread has drawn before would show. `None` if it panicked.
pub fn simulated<T: Send + 'static, F: Future<Output = T>>(
    seed: u64,
    run: impl FnOnce() -> F + Send + 'static,
) -> Option<T> {
    let thread = std::thread::spawn(move || {
        entropy::seed_thread(seed);
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().expect("a runtime without IO");
        runtime.block_on(run())
    });
    thread.join().ok()
}
