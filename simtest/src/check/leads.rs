//! Where a plan's entries lead.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;

use dmux_controller::model::{Destination, RegistrationKey, RouterIndex};
use dmux_controller::plan::{Entry, Key};
use dmux_tables::{BucketAction, BucketKey, DemuxAction, DemuxKey, RouterAction};

/// What entries do with clients' packets.
#[derive(Debug, Default)]
pub struct Leads {
    /// Routers that some client's packets may be sent to, now or after the next failure.
    pub to: BTreeSet<u32>,
    /// Where tunnels end.
    pub tunnels: BTreeSet<SocketAddrV4>,
    /// Who may return packets.
    pub returns: BTreeSet<SocketAddrV4>,
}

impl Leads {
    /// Of all these.
    pub fn of<'a>(entries: impl Iterator<Item = &'a Entry>) -> Self {
        let mut leads = Self::default();
        for entry in entries {
            match entry {
                Entry::Demux(_, DemuxAction::ToRouter { router })
                | Entry::Bucket(_, BucketAction::ToRouter { router }) => {
                    leads.to.insert(router.0);
                }
                Entry::Bucket(_, BucketAction::ToDraining { leaving, router, .. }) => {
                    leads.to.extend([leaving.0, router.0]);
                }
                Entry::Router(_, RouterAction::Tunnel { dst, dst_port }) => {
                    leads.tunnels.insert(SocketAddrV4::new(*dst, *dst_port));
                }
                Entry::ReturnSource(key, _) => {
                    leads.returns.insert(SocketAddrV4::new(key.src, key.src_port));
                }
                _ => {}
            }
        }
        leads
    }

    /// Whether some packet goes to a router, or comes from it, or would after the next failure.
    pub fn has(&self, key: &RegistrationKey, index: Option<RouterIndex>) -> bool {
        self.tunnels.contains(&key.router)
            || self.returns.contains(&key.router)
            || index.is_some_and(|index| self.to.contains(&index.0))
    }
}

/// Which routers a destination's new clients are sent to.
pub fn new_clients(
    entries: &std::collections::BTreeMap<Key, Entry>,
    Destination { protocol, provider }: Destination,
) -> BTreeSet<u32> {
    match entries.get(&Key::from(DemuxKey { protocol, provider })) {
        Some(Entry::Demux(_, DemuxAction::ToRouter { router })) => BTreeSet::from([router.0]),
        Some(Entry::Demux(_, DemuxAction::ToSet { set, mask })) => {
            let bucket = |bucket| match entries.get(&Key::from(BucketKey { set: *set, bucket })) {
                Some(Entry::Bucket(_, BucketAction::ToRouter { router } | BucketAction::ToDraining { router, .. })) => {
                    Some(router.0)
                }
                _ => None,
            };
            (0..=*mask).filter_map(bucket).collect()
        }
        _ => BTreeSet::new(),
    }
}
