//! What becomes of a router that is held out because it flapped and says something else, and of one that another gateway
//! was given only lately. In both cases the registration lives on, and the cluster writes little:
//!
//! | a router that is held out | outcome |
//! | --- | --- |
//! | is heard here and changes | accepted; its gateway holds the latest change and tells the cluster at reuse ([`Accepted::held_ms`]) |
//! | begins to drain | the cluster is told at once; the end of it is held, so once in a suppression at most |
//! | registers at another gateway than its owner | adopted there and held, unless it moved lately: busy |
//! | is not registered | refused as dampened until reuse |
//!
//! [`Accepted::held_ms`]: dmux_wire::control::Accepted::held_ms

use std::collections::BTreeSet;
use std::time::Duration;

use dmux_wire::GatewayId;
use dmux_wire::control::{Accepted, Kind, RefusalCode};

use super::pending::{Asker, Purpose, Room};
use super::refusal::Refusal;
use super::registrar::{Proven, Registrar, answer, cluster_refusal};
use super::{EXPIRE_RETRY, Effect, Level, Now, PROPOSAL_DEADLINE, RegistrationView, Unavailable, describe};
use crate::model::{Command, Registration, RegistrationKey, Reply};

/// A held change is looked at this often, since penalties and configuration may change meanwhile.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);

impl Registrar {
    /// The gateways that do not answer this one: what they own may be adopted at once.
    pub fn set_unreachable(&mut self, gateways: BTreeSet<GatewayId>) {
        self.unreachable = gateways;
    }

    /// A router that is held out until `until` (ms since the Unix epoch) registers, with a good chain and signature.
    /// `Ok(None)`: as if it were not held out.
    pub(super) fn register_suppressed(
        &mut self,
        now: Now,
        view: &dyn RegistrationView,
        asker: Asker,
        wanted: &Registration,
        mut accepted: Accepted,
        until: u64,
    ) -> Result<Option<Vec<Effect>>, Refusal> {
        let key = wanted.key;
        let wait = Duration::from_millis(until.saturating_sub(now.unix_ms()));
        let due = now.mono + wait;
        let expire = Duration::from_millis(accepted.expires_after_ms.into());
        let own = self.sessions.get(&key).map(|session| &session.registration);
        let Some(known) = own.or_else(|| view.registration(&key)) else { return Err(dampened(wait)) };
        if wanted.draining.is_some() && known.draining.is_none() {
            return Ok(None);
        }
        accepted.held_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        if own.is_some() {
            // Of one that was silent, an expiry of unknown fate may be under way; or its farewell.
            let doubtful = self.sessions.get(&key).is_some_and(|session| session.doubtful);
            if doubtful || self.sessions.silent().contains(&key) {
                return Err(dampened(wait));
            }
            let text =
                format!("router {} changes, of which the cluster is told when it is held out no more", describe(known));
            self.sessions.hold(&key, Some((wanted.clone(), due.min(now.mono + LOOK_EVERY))));
            self.sessions.heard(now, &key, wanted.sequence, expire);
            let mut effects = answer(asker, Kind::Accepted(accepted), Proven::Yes);
            effects.extend(self.throttle.log(now.mono, Level::Info, text));
            return Ok(Some(effects));
        }
        if known.gateway != self.gateway
            && view.moved_lately(&key, now.unix_ms())
            && !self.unreachable.contains(&known.gateway)
        {
            return Err(stays(known));
        }
        let (keepalive_ms, expire_ms) = (accepted.keepalive_interval_ms, accepted.expires_after_ms);
        let (registration, wanted) = (Box::new(known.clone()), Box::new(wanted.clone()));
        let command = Command::Adopt { at: now.unix_ms(), key, gateway: self.gateway, sequence: accepted.sequence };
        let purpose = Purpose::Move { asker, registration, wanted, due, keepalive_ms, expire_ms };
        let token = self.pending.insert(now.mono, purpose);
        Ok(Some(vec![Effect::Propose { token, command }]))
    }

    /// For how long what the router said last is held, at least; 0 if the cluster knows it.
    pub(super) fn held_ms(&self, now: Now, view: &dyn RegistrationView, key: &RegistrationKey) -> u32 {
        if !self.sessions.get(key).is_some_and(|session| session.is_held()) {
            return 0;
        }
        let at = now.unix_ms();
        let wait = view.suppressed_until(key, at).map_or(0, |until| until.saturating_sub(at));
        u32::try_from(wait).unwrap_or(u32::MAX).max(1)
    }

    /// Whether this gateway, which hears the router, may adopt it now. To be asked once a keepalive.
    pub(super) fn may_adopt(
        &mut self,
        now: Now,
        view: &dyn RegistrationView,
        known: &Registration,
        sequence: u64,
    ) -> bool {
        let (key, unix) = (known.key, now.unix_ms());
        if known.gateway == self.gateway || self.unreachable.contains(&known.gateway) || !view.moved_lately(&key, unix)
        {
            return true;
        }
        let interval = Duration::from_millis(view.config().timers.keepalive_ms.into());
        self.strangers.heard(now.mono, key, sequence, interval) && view.suppressed_until(&key, unix).is_none()
    }

    /// The time has come to tell the cluster what was held; or not yet.
    pub(super) fn release(&mut self, now: Now, view: &dyn RegistrationView, key: RegistrationKey) -> Vec<Effect> {
        let at = now.unix_ms();
        let Some(session) = self.sessions.get(&key) else { return Vec::new() };
        let (sequence, written) = (session.last_sequence, session.registration.sequence);
        let current = session.current().clone();
        if let Some(until) = view.suppressed_until(&key, at) {
            let wait = Duration::from_millis(until.saturating_sub(at));
            self.sessions.hold_until(&key, now.mono + wait.min(LOOK_EVERY));
            return Vec::new();
        }
        // Where the move here took the registration's own number, the next keepalive brings a higher one.
        let ready = sequence > written && !self.sessions.silent().contains(&key);
        if !ready || self.pending.room(&key, 0) != Room::Yes {
            self.sessions.hold_until(&key, now.mono + EXPIRE_RETRY);
            return Vec::new();
        }
        self.sessions.hold_until(&key, now.mono + PROPOSAL_DEADLINE + EXPIRE_RETRY);
        let registration = Registration { sequence, registered_at: at, gateway: self.gateway, ..current };
        let purpose = Purpose::Release { registration: Box::new(registration.clone()) };
        let token = self.pending.insert(now.mono, purpose);
        vec![Effect::Propose { token, command: Command::Register { at, registration } }]
    }

    pub(super) fn released(
        &mut self,
        now: Now,
        registration: Registration,
        outcome: Result<Reply, Unavailable>,
    ) -> Option<Effect> {
        let key = registration.key;
        let refusal = match outcome {
            Ok(Reply::Refused(why)) => cluster_refusal(&why),
            Ok(_) => {
                let text = format!("the change that was held of router {} holds now", describe(&registration));
                self.sessions.written(registration);
                return self.throttle.log(now.mono, Level::Info, text);
            }
            Err(Unavailable(why)) => Refusal::new(RefusalCode::ClusterUnavailable, why),
        };
        let passing = matches!(refusal.code, RefusalCode::ClusterUnavailable | RefusalCode::Replayed);
        if passing {
            self.sessions.hold_until(&key, now.mono + EXPIRE_RETRY);
        } else {
            self.sessions.hold(&key, None);
        }
        let next = if passing { "it is tried again" } else { "the router stays as it was until it registers again" };
        let text =
            format!("the change that was held of router {} is not accepted: {}; {next}", key.router, refusal.text);
        self.throttle.log(now.mono, Level::Warn, text)
    }
}

/// RFC 2439 §4.4: not before the penalty has fallen below the reuse threshold.
fn dampened(wait: Duration) -> Refusal {
    let text = format!(
        "the router came and went, or changed, too often and is held out for {} s more; it registers again by itself",
        wait.as_secs().saturating_add(1)
    );
    Refusal { retry_after: wait, ..Refusal::new(RefusalCode::Dampened, text) }
}

/// It moved lately, and may be heard where it is.
pub(super) fn stays(known: &Registration) -> Refusal {
    let text = format!(
        "the router was moved to gateway {} a short while ago and stays there unless it is heard here in succession; anycast \
         routing may be unsteady",
        known.gateway
    );
    Refusal::retry(RefusalCode::Busy, text)
}
