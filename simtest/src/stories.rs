//! Runs that are about one thing: a calm cluster to which it happens, and what must come of it.

use std::sync::Arc;
use std::time::Duration;

use dmux_controller::model::{Command, Reply};

use crate::check::Leads;
use crate::faults::Fault;
use crate::net::Site;
use crate::router::{self, Router};
use crate::run::{Due, Failure, Run};
use crate::setup::Setup;
use crate::world::{Clock, World};

/// Within this, a revocation that was acknowledged has taken effect everywhere (DESIGN §8).
const REVOKED_WITHIN: Duration = Duration::from_secs(1);
/// Enough for any router to be heard, or found out.
const A_WHILE: Duration = Duration::from_secs(10);
/// Sites of the cluster; as many routers begin, each near one.
pub(crate) const SITES: usize = 3;
/// The router that comes late, near the first site.
const LATE: usize = SITES;
/// Sequence numbers from farther ahead are refused ([`dmux_controller::registration::MAX_CLOCK_LEAD`]).
const LEAD_S: i64 = dmux_controller::registration::MAX_CLOCK_LEAD.as_secs() as i64;

/// A settled cluster with a router near each site.
pub(crate) async fn calm(seed: u64) -> Result<Run, Failure> {
    let world: Arc<World> = World::new(seed, SITES, Setup::PLAIN, false);
    let mut run = Run::new(&world);
    for n in 0..=SITES {
        run.routers.push(Router::new(world.clone(), n, n % SITES));
    }
    for n in 0..SITES {
        run.plan(Duration::from_secs(2), Due::Fault(Fault::RouterStart(n)));
    }
    let settled = async {
        run.start().await?;
        run.until(Duration::from_secs(5)).await?;
        run.settle().await
    };
    match settled.await {
        Ok(_) => Ok(run),
        Err(what) => Err(run.failure(seed, what).await),
    }
}

pub(crate) async fn told(seed: u64, run: &Run, outcome: Result<(), String>) -> Result<(), Failure> {
    match outcome {
        Ok(()) => Ok(()),
        Err(what) => Err(run.failure(seed, what).await),
    }
}

pub(crate) async fn wait(run: &mut Run, time: Duration) -> Result<(), String> {
    run.until(run.world.now() + time).await
}

/// Has the cluster apply a command through some controller.
pub(crate) async fn command(run: &Run, through: Site, command: impl FnOnce(u64) -> Command) -> Result<Reply, String> {
    let store = run.nodes[through].store().ok_or("that controller is off")?;
    let at = u64::try_from(run.world.wall(Clock::Site(through)).as_millis()).unwrap_or(u64::MAX);
    let (_, reply) = store.propose(command(at), Duration::from_secs(5)).await.map_err(|e| e.to_string())?;
    Ok(reply)
}

/// The sites whose switches hold anything for a router.
fn holders(run: &Run, n: usize) -> Vec<Site> {
    let key = router::key(n);
    let index = run.nodes.iter().find_map(|node| node.store()?.read(|r| r.0.registration(&key).map(|r| r.router)));
    let holds = |site: &Site| Leads::of(run.world.switch(*site).entries()).has(&key, index);
    (0..run.world.sites()).filter(holds).collect()
}

/// Where a router is registered, in the copy of a controller.
fn registered(run: &Run, site: Site, n: usize) -> Option<u16> {
    let key = router::key(n);
    run.nodes[site].store()?.read(|r| r.0.registration(&key).map(|r| r.registration.gateway.0))
}

/// A provider's key and a router's are revoked: within a second no switch holds anything for whoever rests on them, and
/// nothing brings that back but taking the revocation back.
///
/// # Errors
/// What did not hold.
pub async fn keys_are_revoked(seed: u64) -> Result<(), Failure> {
    let mut run = calm(seed).await?;
    let outcome = revoked(&mut run).await;
    told(seed, &run, outcome).await
}

async fn revoked(run: &mut Run) -> Result<(), String> {
    let mut fingerprints = Vec::new();
    for (n, providers, through) in [(0, true, 1), (1, false, 2)] {
        let all: Vec<Site> = (0..SITES).collect();
        if holders(run, n) != all {
            return Err(format!("router {n} is in the switches of {:?} only", holders(run, n)));
        }
        let chain = run.histories.chain(&router::key(n));
        let fingerprint = *chain.get(usize::from(providers)).ok_or("a chain is too short")?;
        let note = format!("router {n}'s");
        let reply = command(run, through, |at| Command::Revoke { at, fingerprint, note }).await?;
        if reply != (Reply::Revoked { registrations: 1 }) {
            return Err(format!("revoking the key of router {n} answers {reply:?}"));
        }
        wait(run, REVOKED_WITHIN).await?;
        if !holders(run, n).is_empty() {
            return Err(format!("after {REVOKED_WITHIN:?} the revoked router {n} is held by {:?}", holders(run, n)));
        }
        fingerprints.push(fingerprint);
    }
    // They go on asking; and a controller that starts anew knows, too.
    for site in 0..SITES {
        run.perform(Fault::Crash(site)).await?;
        wait(run, Duration::from_secs(1)).await?;
        run.perform(Fault::Boot(site)).await?;
        wait(run, A_WHILE).await?;
        for n in [0, 1] {
            if !holders(run, n).is_empty() || registered(run, site, n).is_some() {
                return Err(format!("the revoked router {n} is back"));
            }
        }
    }
    run.settle().await?;
    for fingerprint in fingerprints {
        command(run, 0, |at| Command::Unrevoke { at, fingerprint }).await?;
    }
    // Now that nothing is revoked, all routers have to be served.
    run.settle().await.map(|_| ())
}

/// A controller loses its disk. Under its old id it takes no part any more, whatever it is started with; a new one in
/// its place does, and nothing that was acknowledged is lost.
///
/// # Errors
/// What did not hold.
pub async fn a_controller_is_wiped(seed: u64) -> Result<(), Failure> {
    let mut run = calm(seed).await?;
    let site = usize::try_from(seed).unwrap_or(0) % SITES;
    let outcome = wiped(&mut run, site).await;
    told(seed, &run, outcome).await
}

async fn wiped(run: &mut Run, site: Site) -> Result<(), String> {
    let other = (site + 1) % SITES;
    run.perform(Fault::Wipe(site)).await?;
    // As an operator might try first. What it says is for the operator; what counts is that it does nothing.
    let started = run.nodes[site].start().await;
    run.world.tell(|| format!("under its old id: {started:?}"));
    for _ in 0..10 {
        wait(run, Duration::from_secs(1)).await?;
        if run.nodes[site].has_announced() || run.nodes[site].store().is_some_and(|store| store.is_leader()) {
            return Err(format!("node {} lost its disk and takes part again", site + 1));
        }
    }
    // The others are a majority, and have forgotten nothing.
    for n in 0..SITES {
        if registered(run, other, n).is_none() {
            return Err(format!("router {n} is no longer registered"));
        }
    }
    run.perform(Fault::RouterStart(LATE)).await?;
    run.perform(Fault::RouterMove(LATE, other)).await?;
    wait(run, A_WHILE).await?;
    if registered(run, other, LATE) != Some(u16::try_from(other + 1).unwrap_or(0)) {
        return Err("a router that came meanwhile is not registered".into());
    }
    run.perform(Fault::Crash(site)).await?;
    run.perform(Fault::Succeed(site)).await?;
    run.settle().await?;
    if run.nodes[site].store().is_none_or(|store| !store.status().voters.contains_key(&store.id())) {
        return Err("the new node has no vote".into());
    }
    Ok(())
}

/// The clock of a gateway is set forward or back by minutes. Other gateways' routers notice nothing. Its own stay
/// registered, too, as long as they seem no more than five minutes ahead; beyond that they are refused, expire, and
/// return when the clock is right.
///
/// # Errors
/// What did not hold.
pub async fn a_clock_is_set(seed: u64) -> Result<(), Failure> {
    let mut run = calm(seed).await?;
    let minutes = i64::try_from(run.world.net.pick(2..11)).unwrap_or(2);
    let skew = if seed.is_multiple_of(2) { minutes * 60 } else { -minutes * 60 };
    let outcome = clock(&mut run, skew).await;
    told(seed, &run, outcome).await.map_err(|mut failure| {
        failure.what = format!("with a clock {skew} s ahead: {}", failure.what);
        failure
    })
}

async fn clock(run: &mut Run, skew: i64) -> Result<(), String> {
    run.perform(Fault::Clock(Clock::Site(0), skew)).await?;
    run.perform(Fault::RouterStart(LATE)).await?;
    wait(run, A_WHILE).await?;
    // What arrives was signed a moment ago, so that exactly so much is still allowed.
    let refused = skew < -LEAD_S;
    for _ in 0..10 {
        wait(run, Duration::from_secs(1)).await?;
        for n in 0..=LATE {
            let home = n % SITES;
            let expected = (home != 0 || !refused).then_some(u16::try_from(home + 1).unwrap_or(0));
            for site in 0..SITES {
                let got = registered(run, site, n);
                if got != expected {
                    return Err(format!("router {n} is registered at {got:?}, not {expected:?}, by node {}", site + 1));
                }
            }
        }
    }
    if !refused {
        run.settle().await?;
    }
    run.perform(Fault::Clock(Clock::Site(0), 0)).await?;
    run.settle().await?;
    wait(run, A_WHILE).await?;
    run.settle().await.map(|_| ())
}
