//! A controller crashes at each step of what it does for an endpoint: nothing leaks, capacity adds up, and the endpoint gets
//! what it asked for by asking again.

use std::fmt;
use std::ops::Bound;
use std::time::Duration;

use dmux_controller::model::{Command, Metalink, Model, Reply};
use dmux_host::endpoint::{Event, Held};
use dmux_wire::control::RefusalCode;
use dmux_wire::metalink::Lease;

use crate::access;
use crate::endpoint::Endpoint;
use crate::faults::Fault;
use crate::net::Site;
use crate::run::{Failure, Run};
use crate::stories::{calm, command, told, wait};
use crate::traps::{FaultPoint, Trap};
use crate::world::{ACCESS_PORT, Clock};

/// The endpoint's.
const HOME: Site = 0;
/// How long a controller that crashed is away.
const AWAY: Duration = Duration::from_secs(3);
/// Within this the endpoint has what it asked for, or has given it back; likewise a trap is reached.
const PATIENCE: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_millis(100);

/// What an endpoint asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// A metalink.
    Connect,
    /// That its lease lasts.
    Renew,
    /// That it ends.
    Release,
}

impl Request {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Connect, Self::Renew, Self::Release];

    /// Whether serving it passes a point: a renewal writes nothing into the switch.
    pub fn passes(self, point: FaultPoint) -> bool {
        self != Self::Renew || !matches!(point, FaultPoint::Writing | FaultPoint::Written)
    }
}

/// One crash.
#[derive(Debug, Clone, Copy)]
pub struct Crash {
    /// While this is served, ...
    pub request: Request,
    /// ... at this step, ...
    pub point: FaultPoint,
    /// ... the controller of this site crashes. The endpoint is at site 0; who leads the cluster depends on the seed.
    pub victim: usize,
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {:?}, the controller of site {} crashes", self.request, self.point, self.victim)
    }
}

/// See the module.
///
/// # Errors
/// What did not hold.
pub async fn nothing_leaks(seed: u64, crash: Crash) -> Result<(), Failure> {
    let mut run = calm(seed).await?;
    let mut endpoint = Endpoint::new(run.world.clone(), HOME, access::mac(HOME));
    let outcome = crashed(&mut run, &mut endpoint, crash).await.map_err(|what| format!("{crash}: {what}"));
    told(seed, &run, outcome).await
}

/// An endpoint's power goes: its metalink ends with its lease, and its capacity is back.
///
/// # Errors
/// What did not hold.
pub async fn an_endpoint_dies(seed: u64) -> Result<(), Failure> {
    let mut run = calm(seed).await?;
    let mut endpoint = Endpoint::new(run.world.clone(), HOME, access::mac(HOME));
    let outcome = died(&mut run, &mut endpoint).await;
    told(seed, &run, outcome).await
}

async fn died(run: &mut Run, endpoint: &mut Endpoint) -> Result<(), String> {
    prepare(run).await?;
    endpoint.start(access::wanted(Lease::Long));
    let held = connected(run, endpoint).await?;
    // Through some renewals.
    wait(run, 3 * Duration::from_millis(access::LONG_LEASE_MS)).await?;
    has_exactly(run, &held).await?;
    endpoint.pull();
    let until = metalink(run)?.until;
    let clock = |run: &Run| u64::try_from(run.world.wall(Clock::Site(HOME)).as_millis()).unwrap_or(u64::MAX);
    while clock(run) < until {
        if metalink(run).is_err() {
            return Err("its lease has not ended, and the metalink has".into());
        }
        wait(run, LOOK).await?;
    }
    wait(run, AWAY).await?;
    has_nothing(run).await
}

/// The metalinks that there are.
fn metalinks(model: &Model) -> Vec<Metalink> {
    model.metalinks_from(Bound::Unbounded).cloned().collect()
}

async fn crashed(run: &mut Run, endpoint: &mut Endpoint, crash: Crash) -> Result<(), String> {
    prepare(run).await?;
    if crash.request == Request::Connect {
        let fired = run.world.traps.set(trap(crash, |model| !metalinks(model).is_empty()));
        endpoint.start(access::wanted(Lease::Long));
        let first = await_crash(run, crash, fired).await?;
        let held = connected(run, endpoint).await?;
        if first.as_ref().is_some_and(|first| first.mli.0 != held.mli) {
            return Err(format!("{first:?} was claimed, and the endpoint has {held:?}"));
        }
        has_exactly(run, &held).await?;
        // That the cluster cannot decide just now is no decision; there must be none but the one.
        let passing = |code: &RefusalCode| matches!(code, RefusalCode::ClusterUnavailable | RefusalCode::Busy);
        let wrong = |event: &Event| match event {
            Event::Refused { code, .. } => !passing(code),
            Event::Gone { .. } => true,
            _ => false,
        };
        if endpoint.belief().events.iter().any(wrong) {
            return Err(format!("it was refused: {:?}", endpoint.belief().events));
        }
    } else {
        endpoint.start(access::wanted(Lease::Long));
        let held = connected(run, endpoint).await?;
        run.settle().await?;
        if crash.request == Request::Renew {
            let until = metalink(run)?.until;
            let fired = run.world.traps.set(trap(crash, move |model| metalinks(model).iter().any(|m| m.until > until)));
            await_crash(run, crash, fired).await?;
            wait(run, PATIENCE).await?;
            let now = endpoint.belief().held;
            let renewed = now.filter(|now| now.mli == held.mli && now.until > held.until);
            has_exactly(run, &renewed.ok_or(format!("it had {held:?} and has {now:?}"))?).await?;
        } else {
            let fired = run.world.traps.set(trap(crash, |model| metalinks(model).is_empty()));
            endpoint.leave();
            await_crash(run, crash, fired).await?;
        }
    }
    // Whatever happened: once it has left, there is nothing.
    endpoint.leave();
    until(run, "the endpoint has left", |_| endpoint.belief().stopped).await?;
    has_nothing(run).await
}

/// Nobody has anything of a metalink any more.
async fn has_nothing(run: &mut Run) -> Result<(), String> {
    run.settle().await?;
    for node in &run.nodes {
        let store = node.store().ok_or("a node is off")?;
        let (left, promised) = store.read(|r| (metalinks(&r.0), r.0.link_use(&access::key(HOME)).long));
        if !left.is_empty() || promised != 0 {
            return Err(format!("node {} has {left:?} and {promised} bit/s promised when all have left", store.id()));
        }
    }
    if run.world.switch(HOME).metalinks_of(ACCESS_PORT, access::mac(HOME)) != Some(0) {
        return Err(format!(
            "the switch has metalinks of it: {:?}",
            run.world.switch(HOME).metalinks_of(ACCESS_PORT, access::mac(HOME))
        ));
    }
    Ok(())
}

/// A metanet that admits by itself, and an access link with room for one metalink.
async fn prepare(run: &Run) -> Result<(), String> {
    let (link, metanet) = (access::link(HOME, access::SHORT_LEASE_MS), access::metanet());
    for reply in [
        command(run, 0, |at| Command::PutAccessLink { at, link }).await?,
        command(run, 1, |at| Command::PutMetanet { at, metanet }).await?,
    ] {
        if reply != Reply::Done {
            return Err(format!("preparing answers {reply:?}"));
        }
    }
    Ok(())
}

fn trap(crash: Crash, applied: impl Fn(&Model) -> bool + Send + 'static) -> Trap {
    Trap { point: crash.point, home: HOME, victim: crash.victim, applied: Box::new(applied) }
}

/// Waits until somebody dies in the trap, and cuts its power; it is away for a while. Returns the metalink that the others
/// had then.
async fn await_crash(
    run: &mut Run,
    crash: Crash,
    mut fired: tokio::sync::oneshot::Receiver<()>,
) -> Result<Option<Metalink>, String> {
    let patience = run.world.now() + PATIENCE;
    // Not in steps of time: whoever dies does nothing more, but time must not pass.
    let waited = tokio::time::timeout_at(run.world.at(patience), &mut fired).await;
    if !matches!(waited, Ok(Ok(()))) {
        return Err("this point is never reached".into());
    }
    run.perform(Fault::Crash(crash.victim)).await?;
    run.world.traps.bury(crash.victim);
    let mut first = None;
    for _ in 0..AWAY.as_millis() / LOOK.as_millis() {
        wait(run, LOOK).await?;
        first = first.or_else(|| metalink(run).ok());
    }
    run.perform(Fault::Boot(crash.victim)).await?;
    Ok(first)
}

/// The metalink that some controller knows of.
fn metalink(run: &Run) -> Result<Metalink, String> {
    let mut known = run.nodes.iter().filter_map(|node| node.store()?.read(|r| metalinks(&r.0).into_iter().next()));
    known.next().ok_or("nobody knows of a metalink".into())
}

async fn until(run: &mut Run, what: &str, mut so: impl FnMut(&Run) -> bool) -> Result<(), String> {
    let patience = run.world.now() + PATIENCE;
    while !so(run) {
        if run.world.now() > patience {
            return Err(format!("{what}: not within {PATIENCE:?}"));
        }
        wait(run, LOOK).await?;
    }
    Ok(())
}

async fn connected(run: &mut Run, endpoint: &Endpoint) -> Result<Held, String> {
    until(run, "the endpoint has a metalink", |_| endpoint.belief().held.is_some()).await?;
    endpoint.belief().held.ok_or("it lost its metalink".into())
}

/// The cluster, all of its controllers and the switch have the endpoint's metalink, and nothing else.
async fn has_exactly(run: &mut Run, held: &Held) -> Result<(), String> {
    // It may have been told before whoever crashed was back.
    run.settle().await?;
    for node in &run.nodes {
        let store = node.store().ok_or("a node is off")?;
        let (all, promised) = store.read(|r| (metalinks(&r.0), r.0.link_use(&access::key(HOME)).long));
        let same = |m: &Metalink| m.mli.0 == held.mli && m.rate == held.rate && m.endpoint.mac == access::mac(HOME);
        if all.len() != 1 || !all.iter().all(same) || promised != access::RATE {
            return Err(format!(
                "node {} has {all:?} and {promised} bit/s promised; the endpoint {held:?}",
                store.id()
            ));
        }
    }
    match run.world.switch(HOME).metalinks_of(ACCESS_PORT, access::mac(HOME)) {
        Some(1) => Ok(()),
        other => Err(format!("the switch has {other:?} metalinks of the endpoint")),
    }
}
