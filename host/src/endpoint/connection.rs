//! One metalink, from the wish for it to its end: what is asked when, and what the answers mean.

use std::time::Duration;

use dmux_wire::MacAddr;
use dmux_wire::control::RefusalCode;
use dmux_wire::metalink::{Connect, Connected, Kind, MetanetId, Notice, Offer, Refused, Release, Renew};

use super::request::{Dice, Request, TRIES};
use super::{Action, Event, Gone, Held, Now, Timers, Wanted, frames};
use crate::patience::{backed_off, printable};

/// The longest lease that is believed: a gateway that gives more is asked again earlier than it says.
const MAX_LEASE: Duration = Duration::from_secs(31 * 86_400);
/// A lease is renewed when this part of it is over (as in RFC 2131, §4.4.5), ...
const RENEW_AFTER: u32 = 2;
/// ... and a renewal is repeated so often within the lease at least.
const RENEWALS: u32 = 12;
/// Between two renewals at least, whatever leases and notices say.
const PAUSE: Duration = Duration::from_millis(50);
/// How long an operator's decision is waited for before it is asked for again, at most.
const MAX_PENDING: Duration = Duration::from_secs(60);
/// How long a refusal is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// What a connection works with, at one moment.
pub(super) struct Desk<'a> {
    pub(super) now: Now,
    pub(super) timers: &'a Timers,
    pub(super) dice: &'a mut Dice,
    /// Whom to ask.
    pub(super) gateway: &'a Offer,
    /// Who asks.
    pub(super) mac: MacAddr,
    pub(super) out: &'a mut Vec<Action>,
}

/// What a connection finds out about its gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// It is as it should be.
    Fine,
    /// It does not answer.
    Silent,
    /// It says that it does not know the endpoint.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Connect,
    Renew,
    Release,
}

#[derive(Debug)]
enum Step {
    /// Until something is to be asked.
    Resting {
        until: Duration,
    },
    Asking(Ask, Request),
    /// Nothing will be asked any more.
    Over,
}

/// A metalink that is wanted.
#[derive(Debug)]
pub(super) struct Connection {
    wanted: Wanted,
    held: Option<Held>,
    step: Step,
    /// The number of the claim that is being made; it outlives everything but the gateway's decision.
    claim: Option<u64>,
    /// The last number that a claim had.
    last_claim: u64,
    /// When a renewal was last sent first.
    renewed: Duration,
    /// Refusals in a row.
    failures: u32,
    leaving: bool,
}

impl Connection {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            held: None,
            step: Step::Resting { until: Duration::ZERO },
            claim: None,
            last_claim: 0,
            renewed: Duration::ZERO,
            failures: 0,
            leaving: false,
        }
    }

    pub(super) fn metanet(&self) -> MetanetId {
        self.wanted.metanet
    }

    pub(super) fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.step, Step::Over)
    }

    /// Whether the gateway may have a metalink for it: one that is held, or one that is being asked for.
    pub(super) fn may_have_metalink(&self) -> bool {
        self.held.is_some() || matches!(self.step, Step::Asking(Ask::Connect, _))
    }

    /// When something is to be asked, or to be asked again.
    pub(super) fn due(&self) -> Option<Duration> {
        match &self.step {
            Step::Resting { until } => Some(*until),
            Step::Asking(_, request) => Some(request.due),
            Step::Over => None,
        }
    }

    /// Whether an answer with this nonce is awaited.
    pub(super) fn awaits(&self, nonce: u64) -> bool {
        matches!(&self.step, Step::Asking(_, request) if request.nonce == nonce)
    }

    /// Lets the lease end, if it is time.
    pub(super) fn expire(&mut self, now: Now, timers: &Timers, dice: &mut Dice, out: &mut Vec<Action>) {
        if self.held.as_ref().is_some_and(|held| held.until <= now.mono) {
            let pause = dice.spread(timers.first_retry);
            self.lose(Gone::LeaseEnded, now.mono + pause, out);
        }
    }

    /// The endpoint is at another gateway: whatever it had there is gone.
    pub(super) fn moved(&mut self, now: Now, out: &mut Vec<Action>) {
        self.claim = None;
        self.lose(Gone::Moved, now.mono, out);
    }

    /// The metalink is gone; unless the endpoint leaves, it connects anew, not before `again`.
    fn lose(&mut self, why: Gone, again: Duration, out: &mut Vec<Action>) {
        if let Some(held) = self.held.take() {
            out.push(Action::Tell(Event::Gone { held, why }));
            self.claim = None;
        }
        self.step = if self.leaving { Step::Over } else { Step::Resting { until: again } };
    }

    /// What time brings, while attached or in possession of a metalink.
    pub(super) fn tick(&mut self, desk: &mut Desk<'_>) -> Finding {
        let now = desk.now.mono;
        match &mut self.step {
            Step::Resting { until } if *until <= now => self.ask(desk),
            Step::Asking(_, request) if request.due <= now => {
                request.repeat(now, desk.timers, desk.dice, desk.out);
                if request.sent > TRIES {
                    return Finding::Silent;
                }
            }
            _ => {}
        }
        Finding::Fine
    }

    /// Asks again what was being asked: the gateway knows the endpoint anew.
    pub(super) fn again(&mut self, desk: &mut Desk<'_>) {
        if let Step::Asking(ask, _) = self.step {
            self.send(desk, ask);
        }
    }

    /// Gives the metalink back, and asks for nothing more.
    pub(super) fn leave(&mut self, desk: &mut Desk<'_>) {
        self.leaving = true;
        // A claim that is under way is finished: its answer says what is to be released.
        if !matches!(self.step, Step::Asking(Ask::Connect, _)) {
            self.ask(desk);
        }
    }

    fn ask(&mut self, desk: &mut Desk<'_>) {
        match (&self.held, self.leaving) {
            (None, true) => self.step = Step::Over,
            (Some(_), true) => self.send(desk, Ask::Release),
            (None, false) => self.send(desk, Ask::Connect),
            (Some(held), false) if held.yields => self.step = Step::Resting { until: held.until },
            (Some(_), false) => self.send(desk, Ask::Renew),
        }
    }

    fn send(&mut self, desk: &mut Desk<'_>, ask: Ask) {
        let now = desk.now.mono;
        let mli = self.held.as_ref().map_or(0, |held| held.mli);
        let kind = match ask {
            Ask::Connect => {
                let number = self.number(desk.now);
                let Wanted { metanet, rate, lease } = self.wanted;
                Kind::Connect(Connect { metanet, rate, lease, request: number })
            }
            Ask::Renew => {
                self.renewed = now;
                Kind::Renew(Renew { mli })
            }
            Ask::Release => Kind::Release(Release { mli }),
        };
        let at_most = match (&self.held, ask) {
            (Some(held), Ask::Renew) => (held.until.saturating_sub(now) / RENEWALS).max(PAUSE),
            _ => desk.timers.max_retry,
        };
        let nonce = desk.dice.nonce();
        let frame = frames::request(desk.gateway, desk.mac, nonce, &kind);
        let request = Request::send(nonce, frame, now, at_most, (desk.timers, desk.dice), desk.out);
        self.step = Step::Asking(ask, request);
    }

    /// The number of the present claim: the time in µs, or one more than the last where the clock did not advance.
    fn number(&mut self, now: Now) -> u64 {
        let time = u64::try_from(now.unix.as_micros()).unwrap_or(u64::MAX);
        let next = time.max(self.last_claim.saturating_add(1));
        let number = *self.claim.get_or_insert(next);
        self.last_claim = self.last_claim.max(number);
        number
    }

    /// The answer to what was asked. What does not answer it is ignored, and the answer still awaited.
    pub(super) fn answered(&mut self, desk: &mut Desk<'_>, kind: &Kind) -> Finding {
        let Step::Asking(ask, request) = &self.step else { return Finding::Fine };
        let (ask, asked) = (*ask, request.asked);
        match (ask, kind) {
            (Ask::Connect | Ask::Renew, Kind::Connected(connected)) => self.connected(desk, ask, asked, connected),
            (Ask::Connect, Kind::Pending(pending)) => {
                let wish = Duration::from_millis(pending.retry_after_ms.into());
                let retry_after = wish.clamp(desk.timers.first_retry, MAX_PENDING);
                self.failures = 0;
                self.step = Step::Resting { until: desk.now.mono + retry_after };
                let event = Event::Pending { metanet: self.metanet(), retry_after };
                desk.out.push(Action::Tell(event));
                if self.leaving {
                    self.step = Step::Over;
                }
            }
            (Ask::Release, Kind::Released(_)) => self.lose(Gone::Released, desk.now.mono, desk.out),
            (_, Kind::Refused(refused)) => return self.refused(desk, ask, refused),
            _ => {}
        }
        Finding::Fine
    }

    fn connected(&mut self, desk: &mut Desk<'_>, ask: Ask, asked: Duration, connected: &Connected) {
        let Connected { mli, metanet, rate, lease, yields, .. } = *connected;
        if metanet != self.metanet() {
            return;
        }
        // Measured from when the question was sent, which was before the gateway reckoned.
        let until = asked + Duration::from_millis(connected.lease_ms).min(MAX_LEASE);
        let held = Held { metanet, mli, rate, lease, until, yields };
        let old = self.held.replace(held);
        if ask == Ask::Connect {
            self.claim = None;
        }
        self.failures = 0;
        let event = match old {
            Some(old) if old.mli != held.mli => {
                desk.out.push(Action::Tell(Event::Gone { held: old, why: Gone::Revoked }));
                Event::Connected(held)
            }
            Some(old) if (old.rate, old.lease, old.yields) != (held.rate, held.lease, held.yields) => {
                Event::Adjusted(held)
            }
            Some(_) => Event::Renewed(held),
            None => Event::Connected(held),
        };
        desk.out.push(Action::Tell(event));
        let lease = held.until.saturating_sub(asked);
        let at = asked + desk.dice.spread(lease / RENEW_AFTER);
        self.step = Step::Resting { until: at.max(desk.now.mono + PAUSE) };
        if self.leaving || held.yields {
            self.ask(desk);
        }
    }

    fn refused(&mut self, desk: &mut Desk<'_>, ask: Ask, refused: &Refused) -> Finding {
        let now = desk.now.mono;
        let code = refused.code;
        if code == RefusalCode::NotAttached {
            return Finding::Unknown;
        }
        if ask == Ask::Release || self.leaving {
            // Whatever the reason: it will be gone with its lease at the latest.
            self.lose(Gone::Released, now, desk.out);
            return Finding::Fine;
        }
        if ask == Ask::Renew && code == RefusalCode::Yields {
            if let Some(held) = self.held.as_mut().filter(|held| !held.yields) {
                held.yields = true;
                desk.out.push(Action::Tell(Event::Adjusted(*held)));
            }
            self.ask(desk);
            return Finding::Fine;
        }
        let retry_after = self.retry_after(desk, code, refused.retry_after_ms);
        if ask == Ask::Renew && code == RefusalCode::NoSuchMetalink {
            self.lose(Gone::Revoked, now + retry_after, desk.out);
            return Finding::Fine;
        }
        // Where nothing is decided, what was asked for may have been granted: the same claim is made again.
        if ask == Ask::Connect && !matches!(code, RefusalCode::Busy | RefusalCode::ClusterUnavailable) {
            self.claim = None;
        }
        let fits = (code == RefusalCode::NoRoom).then_some(refused.fits);
        let (metanet, text) = (Some(self.metanet()), printable(&refused.text));
        desk.out.push(Action::Tell(Event::Refused { metanet, code, text, fits, retry_after }));
        self.step = Step::Resting { until: now + retry_after };
        Finding::Fine
    }

    /// Asking earlier than the gateway says is of no use.
    fn retry_after(&mut self, desk: &mut Desk<'_>, code: RefusalCode, asked_ms: u32) -> Duration {
        use RefusalCode as C;
        let asked = Duration::from_millis(asked_ms.into()).min(MAX_RETRY_AFTER);
        let passing = matches!(code, C::Busy | C::ClusterUnavailable | C::Limit | C::NotProgrammed);
        if passing {
            let pause = desk.dice.spread(backed_off(desk.timers, self.failures));
            self.failures = self.failures.saturating_add(1);
            // A lease does not wait for a gateway that is very busy.
            let lease = self.held.as_ref().map(|held| held.until.saturating_sub(desk.now.mono) / RENEWALS);
            return pause.max(asked).min(lease.unwrap_or(desk.timers.refused_retry)).max(PAUSE);
        }
        self.failures = 0;
        if asked.is_zero() { desk.dice.spread(desk.timers.refused_retry) } else { asked.max(desk.timers.first_retry) }
    }

    /// A notice is a hint that may be late, or overtaken: only the answer to a renewal counts. But whoever may send less
    /// than before does so at once.
    pub(super) fn noticed(&mut self, now: Now, notice: &Notice, out: &mut Vec<Action>) {
        let Some(held) = self.held.as_mut().filter(|held| held.mli == notice.mli) else { return };
        if notice.rate > 0 && notice.rate < held.rate {
            held.rate = notice.rate;
            out.push(Action::Tell(Event::Adjusted(*held)));
        }
        if !self.leaving && !held.yields {
            self.step = Step::Resting { until: now.mono.max(self.renewed + PAUSE) };
        }
    }
}
