//! What a process is asked by signals.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A future that is ready at the first SIGTERM or SIGINT from now on.
pub fn terminated() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Turns with each SIGUSR1, from false on.
pub fn toggled() -> io::Result<watch::Receiver<bool>> {
    let mut user = signal(SignalKind::user_defined1())?;
    let (toggle, toggled) = watch::channel(false);
    tokio::spawn(async move {
        while user.recv().await.is_some() && !toggle.is_closed() {
            toggle.send_modify(|on| *on = !*on);
        }
    });
    Ok(toggled)
}
