//! Ends the leases of this gateway's metalinks when their time has come.

use std::time::Duration;

use dmux_raft_store::Store;
use dmux_wire::GatewayId;

use super::clock::Wall;
use super::replicated::Replicated;
use crate::model::Command;

/// After a proposal that failed. An ended lease is renewed by nobody, so there is no hurry.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs until the store stops.
pub(super) async fn end(gateway: GatewayId, store: Store<Replicated>, wall: Wall, within: Duration) {
    let mut changed = store.changed();
    loop {
        changed.mark_unchanged();
        let next = store.read(|r| r.0.next_lease_end(gateway));
        let now = wall.unix_ms();
        if next.is_some_and(|end| end <= now) {
            let refused = match store.propose(Command::EndLeases { at: now, gateway }, within).await {
                Ok((_, reply)) => reply.refusal().map(ToString::to_string),
                Err(error) => Some(error.to_string()),
            };
            if let Some(why) = refused {
                tracing::warn!(%why, "leases that have ended hold capacity until the cluster takes note");
                tokio::time::sleep(PAUSE).await;
            } else {
                // On a follower the answer may come before the command is applied here.
                let heard = store.read(|r| r.0.next_lease_end(gateway).is_none_or(|end| end > now));
                if !heard && changed.changed().await.is_err() {
                    return;
                }
            }
            continue;
        }
        let due = async {
            match next {
                Some(end) => tokio::time::sleep(Duration::from_millis(end - now)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            alive = changed.changed() => if alive.is_err() {
                return;
            },
            () = due => {}
        }
    }
}
