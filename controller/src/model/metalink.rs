//! Metalinks: claimed with their capacity, their numbers and their lease in one command, so that however many
//! controllers claim at once, no bit/s is promised twice.

use std::fmt;
use std::ops::Bound;

use dmux_wire::GatewayId;
use serde::{Deserialize, Serialize};

use super::access::{AccessLink, Endpoint, LinkKey};
use super::numbers::{Cell, Mli};
use super::{Change, Destination, LeaseKind, MAX_RENEWALS, Model, Refusal, Reply};

/// Metalinks of all gateways at most: those of eight gateways that have no cell left.
pub const MAX_METALINKS: usize = 131_072;

/// Bytes of the reason for which a claim was given back at most.
pub const MAX_GIVE_BACK_REASON: usize = 160;

/// What names a metalink: its MLI counts at its gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MetalinkId {
    /// Whose it is.
    pub gateway: GatewayId,
    /// Its number there.
    pub mli: Mli,
}

/// What a metalink is for: an endpoint of a gateway has one to a metanet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    /// The gateway.
    pub gateway: GatewayId,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The metanet.
    pub metanet: Destination,
}

/// What somebody wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Out of which access link's capacity.
    pub link: LinkKey,
    /// For whom.
    pub endpoint: Endpoint,
    /// To where.
    pub metanet: Destination,
    /// In either direction, bit/s; at least 1.
    pub rate: u64,
    /// For how long.
    pub lease: LeaseKind,
    /// Rises from one claim of an owner's to the next; whoever repeats a claim repeats its number, and is told of the same
    /// metalink again.
    pub request: u64,
    /// The metanet's operator wants it: its policy does not count, only capacity does.
    pub by_operator: bool,
}

impl Claim {
    /// What it is for.
    pub fn owner(&self) -> Owner {
        Owner { gateway: self.link.gateway, endpoint: self.endpoint, metanet: self.metanet }
    }
}

/// A rate-limited virtual link between an endpoint and its gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metalink {
    /// Its number at the gateway.
    pub mli: Mli,
    /// Where the switch counts it.
    pub cell: Cell,
    /// Whose capacity it has.
    pub link: LinkKey,
    /// The other end.
    pub endpoint: Endpoint,
    /// The network that it leads to.
    pub metanet: Destination,
    /// What it may carry in either direction, bit/s.
    pub rate: u64,
    /// How it is leased.
    pub lease: LeaseKind,
    /// When the lease ends, ms since the Unix epoch.
    pub until: u64,
    /// Since when there is this metalink, ms since the Unix epoch (time stamp of the first claim).
    pub granted_at: u64,
    /// The last claim's number.
    pub request: u64,
    /// The lease is not renewed any more, since a long-term claim needs the capacity.
    pub yields: bool,
}

impl Metalink {
    /// What it is for.
    pub fn owner(&self) -> Owner {
        Owner { gateway: self.link.gateway, endpoint: self.endpoint, metanet: self.metanet }
    }

    /// What names it.
    pub fn id(&self) -> MetalinkId {
        MetalinkId { gateway: self.link.gateway, mli: self.mli }
    }

    /// # Errors
    /// [`Refusal::LeaseEnded`], if its lease has ended.
    fn in_time(&self, at: u64) -> Result<(), Refusal> {
        if at < self.until { Ok(()) } else { Err(Refusal::LeaseEnded { at: self.until }) }
    }

    /// What its owner keeps whoever waits: all of it, unless it yields.
    pub(super) fn firm_rate(&self) -> u64 {
        if self.yields { 0 } else { self.rate }
    }

    /// Whether a switch does the same for both.
    fn carries_as(&self, other: &Self) -> bool {
        let of = |m: &Self| (m.mli, m.cell, m.endpoint, m.metanet, m.rate);
        of(self) == of(other) && self.link == other.link
    }

    fn reply(&self) -> Reply {
        Reply::Metalink { mli: self.mli, cell: self.cell, rate: self.rate, until: self.until }
    }
}

/// What a rate was measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// The metanet's policy for one endpoint.
    Policy,
    /// The access link's maximum for one endpoint, with all its metalinks.
    Endpoint,
    /// What is left of the access link's assignable capacity.
    Link,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Policy => "than the metanet gives an endpoint by itself",
            Self::Endpoint => "than this endpoint may have on the access link",
            Self::Link => "than is left of the access link's assignable capacity",
        })
    }
}

impl Model {
    /// The metalinks from one on, by gateway and MLI.
    pub fn metalinks_from(&self, from: Bound<MetalinkId>) -> impl Iterator<Item = &Metalink> {
        self.state.access.metalinks.range((from, Bound::Unbounded)).map(|(_, metalink)| metalink)
    }

    /// One metalink.
    pub fn metalink(&self, id: MetalinkId) -> Option<&Metalink> {
        self.state.access.metalinks.get(&id)
    }

    /// When the next lease of a gateway's ends, ms since the Unix epoch: time for [`Command::EndLeases`](super::Command).
    pub fn next_lease_end(&self, gateway: GatewayId) -> Option<u64> {
        self.books.first_end(gateway).map(|(until, _)| until)
    }

    pub(super) fn claim_metalink(&mut self, at: u64, claim: &Claim) -> Result<Reply, Refusal> {
        let owner = claim.owner();
        let old = self.metalink_of(&owner).cloned();
        if let Some(same) = old.as_ref().filter(|old| old.request == claim.request) {
            return same.in_time(at).map(|()| same.reply());
        }
        let gone = || self.state.access.numbers.get(&owner.gateway)?.lately_gone(&owner, at);
        let (have, why) = match &old {
            Some(old) => (Some(old.request), None),
            None => gone().map_or((None, None), |gone| (Some(gone.request), gone.why.as_ref())),
        };
        if let Some(have) = have.filter(|&have| claim.request <= have) {
            return Err(match why.filter(|_| claim.request == have) {
                Some(why) => Refusal::NotProgrammed(why.clone()),
                None => Refusal::StaleSequence { have, got: claim.request },
            });
        }
        let link = self.access_link(&claim.link).cloned().ok_or(Refusal::NoSuchAccessLink)?;
        let metanet = self.metanet(claim.metanet).ok_or(Refusal::NoSuchMetanet)?;
        claim.endpoint.check().map_err(Refusal::BadClaim)?;
        check_rate(claim.rate)?;
        let policy = if claim.by_operator { u64::MAX } else { metanet.admits(claim.endpoint.mac)? };
        if let Some(old) = old.as_ref().filter(|old| old.yields && claim.lease == LeaseKind::Short) {
            return Err(Refusal::Yields { until: old.until });
        }
        self.forget_waiting(at, &link.key);
        let (fits, limit) = self.room(&link, &owner, policy);
        if claim.rate > fits {
            let may_wait = limit == Limit::Link && claim.lease == LeaseKind::Long;
            let retry_at = if may_wait { self.wait(at, &link, claim) } else { None };
            return Err(Refusal::NoRoom { limit, fits, retry_at });
        }
        let (mli, cell, granted_at) = match &old {
            Some(old) => (old.mli, old.cell, old.granted_at),
            None if self.state.access.metalinks.len() >= MAX_METALINKS => {
                return Err(Refusal::TooManyMetalinks(MAX_METALINKS));
            }
            None => {
                let (mli, cell) = self.take_numbers(at, owner.gateway)?;
                (mli, cell, at)
            }
        };
        self.waits_no_more(&link.key, &owner);
        let metalink = Metalink {
            mli,
            cell,
            endpoint: claim.endpoint,
            metanet: claim.metanet,
            rate: claim.rate,
            lease: claim.lease,
            until: at.saturating_add(link.lease_ms(claim.lease)),
            granted_at,
            request: claim.request,
            yields: false,
            link: link.key,
        };
        let reply = metalink.reply();
        self.put_metalink(metalink);
        Ok(reply)
    }

    pub(super) fn renew_metalinks(&mut self, at: u64, ids: &[MetalinkId]) -> Result<Reply, Refusal> {
        if ids.len() > MAX_RENEWALS {
            return Err(Refusal::BadClaim(format!("{} renewals in one command; at most {MAX_RENEWALS}", ids.len())));
        }
        let renewed = ids.iter().map(|id| self.renew_metalink(at, *id));
        Ok(Reply::Each(renewed.map(|reply| reply.unwrap_or_else(Reply::Refused)).collect()))
    }

    fn renew_metalink(&mut self, at: u64, id: MetalinkId) -> Result<Reply, Refusal> {
        let mut metalink = self.metalink(id).ok_or(Refusal::NoSuchMetalink)?.clone();
        metalink.in_time(at)?;
        if metalink.yields {
            return Err(Refusal::Yields { until: metalink.until });
        }
        let lease_ms = self.access_link(&metalink.link).ok_or(Refusal::NoSuchAccessLink)?.lease_ms(metalink.lease);
        // A renewal that was overtaken by another one shortens nothing.
        metalink.until = metalink.until.max(at.saturating_add(lease_ms));
        let reply = metalink.reply();
        self.put_metalink(metalink);
        Ok(reply)
    }

    pub(super) fn adjust_metalink(&mut self, at: u64, id: MetalinkId, rate: u64) -> Result<Reply, Refusal> {
        let mut metalink = self.metalink(id).ok_or(Refusal::NoSuchMetalink)?.clone();
        check_rate(rate)?;
        metalink.in_time(at)?;
        if rate > metalink.rate {
            if metalink.yields {
                return Err(Refusal::Yields { until: metalink.until });
            }
            let link = self.access_link(&metalink.link).cloned().ok_or(Refusal::NoSuchAccessLink)?;
            self.forget_waiting(at, &link.key);
            let (fits, limit) = self.room(&link, &metalink.owner(), u64::MAX);
            if rate > fits {
                return Err(Refusal::NoRoom { limit, fits, retry_at: None });
            }
        }
        metalink.rate = rate;
        let reply = metalink.reply();
        self.put_metalink(metalink);
        Ok(reply)
    }

    pub(super) fn release_metalink(&mut self, at: u64, id: MetalinkId) -> Result<Reply, Refusal> {
        self.remove_metalink(at, id, None);
        Ok(Reply::Done)
    }

    /// A later claim, which may be for something that can be programmed, stays.
    pub(super) fn give_metalink_back(
        &mut self,
        at: u64,
        id: MetalinkId,
        request: u64,
        why: &str,
    ) -> Result<Reply, Refusal> {
        if self.metalink(id).is_some_and(|metalink| metalink.request == request) {
            let end = (0..=MAX_GIVE_BACK_REASON).rev().find(|&end| why.is_char_boundary(end)).unwrap_or(0);
            self.remove_metalink(at, id, Some(why.get(..end).unwrap_or(why).to_owned()));
        }
        Ok(Reply::Done)
    }

    /// Why the gateway gave a claim back that its owner made lately under this number.
    pub fn given_back(&self, owner: &Owner, request: u64) -> Option<&str> {
        let gone = self.state.access.numbers.get(&owner.gateway)?.gone.get(owner)?;
        gone.why.as_deref().filter(|_| gone.request == request)
    }

    pub(super) fn end_leases(&mut self, at: u64, gateway: GatewayId) -> Result<Reply, Refusal> {
        while let Some((_, mli)) = self.books.first_end(gateway).filter(|(until, _)| *until <= at) {
            self.remove_metalink(at, MetalinkId { gateway, mli }, None);
        }
        Ok(Reply::Done)
    }

    /// The highest rate that the owner could have on the access link now, bit/s, and what says so. What its own
    /// metalink has there counts as free, and is kept for nobody else unless it yields.
    fn room(&self, link: &AccessLink, owner: &Owner, policy: u64) -> (u64, Limit) {
        let own = self.metalink_of(owner).filter(|own| own.link == link.key);
        let (own, firm) = own.map_or((0, 0), |own| (own.rate, own.firm_rate()));
        let book = self.books.link(&link.key);
        let free = link.capacity - book.map_or(0, |book| book.promised());
        let to_endpoint = book.and_then(|book| book.endpoints.get(&owner.endpoint)).map_or(0, |rate| rate - own);
        let kept = self.kept_before(&link.key, owner);
        let bounds = [
            (policy, Limit::Policy),
            (link.endpoint_maximum.saturating_sub(to_endpoint), Limit::Endpoint),
            (firm + (free + own - firm).saturating_sub(kept), Limit::Link),
        ];
        bounds.into_iter().min_by_key(|(fits, _)| *fits).unwrap_or((0, Limit::Link))
    }

    /// Puts a metalink in the place of the one with its number, if there is any, and keeps the books.
    pub(super) fn put_metalink(&mut self, metalink: Metalink) {
        let old = self.state.access.metalinks.get(&metalink.id());
        if !old.is_some_and(|old| old.carries_as(&metalink) && old.yields == metalink.yields) {
            self.note(Change::Metalink(metalink.id()));
        }
        if let Some(old) = self.state.access.metalinks.get(&metalink.id()) {
            self.books.remove(old);
        }
        self.books.add(&metalink);
        self.state.access.metalinks.insert(metalink.id(), metalink);
    }

    fn remove_metalink(&mut self, at: u64, id: MetalinkId, why: Option<String>) {
        if let Some(old) = self.state.access.metalinks.remove(&id) {
            self.books.remove(&old);
            let numbers = self.state.access.numbers.entry(id.gateway).or_default();
            numbers.rest(at, id.mli, old.owner(), old.request, why);
            self.note(Change::Metalink(id));
        }
    }
}

fn check_rate(rate: u64) -> Result<(), Refusal> {
    if rate == 0 {
        return Err(Refusal::BadClaim("a rate of 0 bit/s carries nothing; release the metalink instead".into()));
    }
    Ok(())
}
