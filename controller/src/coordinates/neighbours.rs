//! Whom a gateway probes when it does not probe all.

use std::collections::BTreeSet;
use std::time::Duration;

use dmux_wire::GatewayId;

/// Neighbours that are the closest known: they make near distances right, which choices are made of.
pub const NEAR: usize = 16;
/// Neighbours anywhere: without them the whole map would bend (SIGCOMM 2004, §4.2: half near, half far).
pub const RANDOM: usize = 16;
/// How long a choice holds.
pub const RECHOOSE: Duration = Duration::from_secs(60);

/// Chooses from all other gateways, each with its distance in µs where one is known. The same for the same input and
/// seed; the random half stays the same for one seed while the gateways stay.
pub(super) fn choose(seed: u64, others: &[(GatewayId, Option<u64>)]) -> BTreeSet<GatewayId> {
    let mut shuffled: Vec<_> = others.iter().map(|&(id, _)| (mix(seed ^ u64::from(id.0)), id)).collect();
    shuffled.sort_unstable();
    let mut chosen: BTreeSet<_> = shuffled.iter().take(RANDOM).map(|&(_, id)| id).collect();
    let mut near: Vec<_> = others.iter().filter_map(|&(id, us)| Some((us?, id))).collect();
    near.sort_unstable();
    let near = near.into_iter().map(|(_, id)| id);
    // Where distances are not known yet, more random ones find them.
    let rest = shuffled.iter().map(|&(_, id)| id);
    for id in near.chain(rest) {
        if chosen.len() >= NEAR + RANDOM {
            break;
        }
        chosen.insert(id);
    }
    chosen
}

/// SplitMix64's finaliser.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
