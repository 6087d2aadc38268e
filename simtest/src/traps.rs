//! Crashes at a step of what a controller does for an endpoint, rather than at a time.
//!
//! All that a controller does passes the edges of its process: frames come in and go out, calls go to other controllers,
//! entries to the switch, and the state that is applied can be looked at. So the points at which a crash makes a difference are
//! those edges, and what is between two of them is one. Whoever is dead does nothing at any edge from that moment on.
//!
//! ```text
//!   endpoint ─ request ─▶ ① controller ─ proposal ─▶ ② others ─▶ ③ applied elsewhere ─▶ ④ applied here
//!            ◀─ answer ⑧ ── ⑦ ◀────────────────────── ⑥ written ◀── ⑤ writing ── plan ◀──┘
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dmux_controller::model::Model;
use tokio::sync::oneshot;

use crate::net::Site;

/// Where a controller is in doing what an endpoint asks for; all points at which a crash can make a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultPoint {
    /// ① The request comes in, and is not looked at any more.
    Heard,
    /// ② What it leads to is about to leave for the other controllers.
    Proposed,
    /// ③ Another controller has applied it.
    AppliedElsewhere,
    /// ④ The endpoint's own gateway's controller has applied it, and does nothing about it any more.
    Applied,
    /// ⑤ The switch is about to be written.
    Writing,
    /// ⑥ The switch has it, and the controller does not hear that.
    Written,
    /// ⑦ The answer is about to go out.
    Answering,
    /// ⑧ The answer is out.
    Answered,
}

impl FaultPoint {
    /// All of them, in their order.
    pub const ALL: [Self; 8] = [
        Self::Heard,
        Self::Proposed,
        Self::AppliedElsewhere,
        Self::Applied,
        Self::Writing,
        Self::Written,
        Self::Answering,
        Self::Answered,
    ];
}

/// A crash that is to happen.
pub struct Trap {
    /// When.
    pub point: FaultPoint,
    /// The endpoint's own site.
    pub home: Site,
    /// Whose controller crashes.
    pub victim: Site,
    /// Whether the request has taken effect in a state.
    pub applied: Box<dyn Fn(&Model) -> bool + Send>,
}

impl fmt::Debug for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of site {}, where site {} crashes", self.point, self.home, self.victim)
    }
}

/// What all seams of a simulated cluster ask whether they may go on.
#[derive(Debug, Default)]
pub struct Traps(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    set: Option<(Trap, oneshot::Sender<()>)>,
    /// The request has come in.
    heard: bool,
    dead: BTreeSet<Site>,
}

impl Traps {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a trap. What is returned is ready when somebody has died in it, and is to be [buried](Self::bury).
    pub fn set(&self, trap: Trap) -> oneshot::Receiver<()> {
        let (fire, fired) = oneshot::channel();
        let mut state = self.state();
        (state.set, state.heard) = (Some((trap, fire)), false);
        fired
    }

    /// Whether a site's controller does nothing any more.
    pub fn is_dead(&self, site: Site) -> bool {
        self.state().dead.contains(&site)
    }

    /// The power of a site's controller has been cut; whatever starts there lives.
    pub fn bury(&self, site: Site) {
        self.state().dead.remove(&site);
    }

    /// A site's controller is at a point. Returns whether it is dead, so that what would come next does not happen.
    pub fn reached(&self, site: Site, point: FaultPoint) -> bool {
        let mut state = self.state();
        if state.dead.contains(&site) {
            return true;
        }
        if point == FaultPoint::Heard && state.set.as_ref().is_some_and(|(trap, _)| trap.home == site) {
            state.heard = true;
        }
        let heard = state.heard;
        let springs = |(trap, _): &mut (Trap, _)| {
            trap.point == point && heard && (trap.home == site) != (point == FaultPoint::AppliedElsewhere)
        };
        if let Some((trap, fire)) = state.set.take_if(springs) {
            state.dead.insert(trap.victim);
            // Nobody waits for it any more: then nobody is to die, either.
            if fire.send(()).is_err() {
                state.dead.remove(&trap.victim);
            }
        }
        state.dead.contains(&site)
    }

    /// A site's controller has applied a state.
    pub fn applied(&self, site: Site, model: &Model) {
        let point = match &self.state().set {
            Some((trap, _)) if (trap.applied)(model) && trap.home == site => FaultPoint::Applied,
            Some((trap, _)) if (trap.applied)(model) => FaultPoint::AppliedElsewhere,
            _ => return,
        };
        self.reached(site, point);
    }
}
