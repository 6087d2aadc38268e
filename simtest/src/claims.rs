//! Many claim one access link's capacity at once, through all controllers.

use std::sync::Arc;
use std::time::Duration;

use dmux_controller::model::{
    AccessLink, Admission, Claim, Command, DEFAULT_LONG_LEASE_MS, DEFAULT_SHORT_LEASE_MS, Destination, Endpoint,
    LeaseKind, LinkKey, Metalink, Metanet, OutOfProfile, Refusal, Reply,
};
use dmux_controller::runtime::Replicated;
use dmux_raft_store::Store;
use dmux_wire::{GatewayId, MacAddr, ProtocolId};
use tokio::task::JoinSet;

use crate::faults::Fault;
use crate::node::ACCESS_PORTS;
use crate::run::{Failure, Run};
use crate::stories::{SITES, calm, command, told, wait};
use crate::world::{Clock, World};

/// Claimers at once.
const CLAIMERS: u8 = 64;
/// What each wants at most, bit/s: together far more than there is.
const MOST: u64 = 10_000_000;
/// Assignable capacity, bit/s.
const CAPACITY: u64 = 100_000_001;
/// Tries of a claimer, a tenth of a second or a proposal's deadline apart: the cluster is in order long before.
const TRIES: usize = 200;

/// 64 claimers at three controllers, one of which crashes meanwhile: each has what it was told that it has, and all of
/// the capacity is promised, to the last bit/s.
///
/// # Errors
/// What did not hold.
pub async fn claims_are_exact(seed: u64) -> Result<(), Failure> {
    let mut run = calm(seed).await?;
    let outcome = claimed(&mut run, seed).await;
    told(seed, &run, outcome).await
}

fn link() -> LinkKey {
    LinkKey { gateway: GatewayId(1), name: "a".into() }
}

async fn claimed(run: &mut Run, seed: u64) -> Result<(), String> {
    let (metanet, key) = (Destination::any(ProtocolId(41)), link());
    let access_link = AccessLink {
        key: key.clone(),
        capacity: CAPACITY,
        endpoint_maximum: CAPACITY,
        short_lease_ms: DEFAULT_SHORT_LEASE_MS,
        long_lease_ms: DEFAULT_LONG_LEASE_MS,
        authenticate: false,
        out_of_profile: OutOfProfile::Drop,
    };
    let policy = Metanet {
        id: metanet,
        name: "video".into(),
        admission: Admission::Automatic { up_to: MOST },
        allow: [].into(),
        deny: [].into(),
        multipoint: false,
    };
    for reply in [
        command(run, 0, |at| Command::PutAccessLink { at, link: access_link }).await?,
        command(run, 1, |at| Command::PutMetanet { at, metanet: policy }).await?,
    ] {
        if reply != Reply::Done {
            return Err(format!("preparing answers {reply:?}"));
        }
    }
    let stores: Vec<_> = run.nodes.iter().filter_map(|node| node.store().cloned()).collect();
    let mut claimers = JoinSet::new();
    for n in 0..CLAIMERS {
        let claim = Claim {
            link: key.clone(),
            endpoint: Endpoint {
                port: ACCESS_PORTS[usize::from(n) % ACCESS_PORTS.len()],
                mac: MacAddr([2, 0, 0, 0, 0, n]),
            },
            metanet,
            rate: run.world.net.pick(MOST / 2..MOST),
            lease: LeaseKind::Long,
            request: 1,
            by_operator: false,
        };
        claimers.spawn(claimer(run.world.clone(), stores.clone(), n, claim));
    }
    // Sooner or later, and sometimes the leader.
    let (site, pause) = (usize::try_from(seed).unwrap_or(0) % SITES, run.world.net.pick(1..400));
    wait(run, Duration::from_millis(pause)).await?;
    run.perform(Fault::Crash(site)).await?;
    wait(run, Duration::from_secs(5)).await?;
    run.perform(Fault::Boot(site)).await?;
    let mut granted = Vec::new();
    while let Some(outcome) = claimers.join_next().await {
        granted.extend(outcome.map_err(|e| e.to_string())??);
    }
    run.settle().await?;
    granted.sort_unstable();
    for node in &run.nodes {
        let store = node.store().ok_or("a node is off")?;
        let (mut held, promised) = store.read(|r| {
            let held = r.0.metalinks_from(std::ops::Bound::Unbounded).map(what_is_told).collect::<Vec<_>>();
            (held, r.0.link_use(&link()).long)
        });
        held.sort_unstable();
        if held != granted {
            return Err(format!("node {} holds {held:?}, but claimers were told of {granted:?}", store.id()));
        }
        if promised != CAPACITY {
            return Err(format!("node {} has promised {promised} bit/s of {CAPACITY}", store.id()));
        }
    }
    Ok(())
}

/// Address, MLI and rate.
fn what_is_told(metalink: &Metalink) -> (MacAddr, u32, u64) {
    (metalink.endpoint.mac, metalink.mli.0, metalink.rate)
}

/// Claims through one controller after the other until one answers, and takes what would have fitted when it does not fit.
async fn claimer(
    world: Arc<World>,
    stores: Vec<Store<Replicated>>,
    n: u8,
    mut claim: Claim,
) -> Result<Option<(MacAddr, u32, u64)>, String> {
    for through in (0..stores.len()).cycle().skip(n.into()).take(TRIES) {
        let at = u64::try_from(world.wall(Clock::Site(through)).as_millis()).unwrap_or(u64::MAX);
        let proposal = Command::ClaimMetalink { at, claim: claim.clone() };
        match stores[through].propose(proposal, Duration::from_secs(1)).await {
            Ok((_, Reply::Metalink { mli, rate, .. })) => return Ok(Some((claim.endpoint.mac, mli.0, rate))),
            Ok((_, Reply::Refused(Refusal::NoRoom { fits: 0, .. }))) => return Ok(None),
            Ok((_, Reply::Refused(Refusal::NoRoom { fits, .. }))) if fits < claim.rate => claim.rate = fits,
            Ok((_, other)) => return Err(format!("a claim is answered with {other:?}")),
            // Whether it was applied or not: the same request again is told of the same metalink.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    Err("the cluster does not answer a claim".into())
}
