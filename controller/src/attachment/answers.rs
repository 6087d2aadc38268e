//! Answers: to whom, how long, and what refusals say.

use std::time::Duration;

use dmux_wire::control::RefusalCode;
use dmux_wire::metalink::{self, Connected, Kind, LENGTH_LEN, Lease, MAX_METALINK, MetanetId, Refused};
use dmux_wire::{CONTROL_MLI, Vlan};

use super::frames::{self, Heard};
use super::{Attachments, Dropped, Effect, Place};
use crate::model::{self, Destination, Endpoint, LeaseKind, Metalink};
use crate::punted::Outgoing;
use crate::registration::{ChainError, Now, RETRY_AFTER, cut};

/// Bytes of a refusal's sentence at most.
const MAX_TEXT: usize = 400;

/// Whom to answer, and how.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) place: Place,
    pub(super) endpoint: Endpoint,
    vlan: Option<Vlan>,
    mli: u32,
    pub(super) nonce: u64,
    /// Bytes that may follow the substrate header.
    limit: usize,
}

impl Asker {
    /// Somebody whose address is not proven.
    pub(super) fn new(place: Place, endpoint: Endpoint, heard: &Heard<'_>, nonce: u64) -> Self {
        let vlan = if heard.mli == CONTROL_MLI { Some(frames::provisioned(&place)) } else { heard.vlan };
        // Both frames have the same headers, so their lengths differ by what follows.
        Self { place, endpoint, vlan, mli: heard.mli, nonce, limit: heard.rest.len() }
    }

    /// Whose address is proven: answers may be as long as they can be.
    pub(super) fn proven(self) -> Self {
        Self { limit: LENGTH_LEN + MAX_METALINK, ..self }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// The answer; `None` where it would be too long.
    pub(super) fn answer(&self, kind: &Kind) -> Option<Effect> {
        self.frame(kind).map(Effect::Send)
    }

    /// The frame of an answer; `None` where it would be too long.
    pub(super) fn frame(&self, kind: &Kind) -> Option<Outgoing> {
        let message = metalink::encode(self.nonce, kind).ok().filter(|message| message.len() <= self.limit)?;
        Some(frames::outgoing(&self.place, self.endpoint.mac, self.vlan, self.mli, &message))
    }
}

/// A refusal before it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: RefusalCode,
    /// For a person: what is wrong and what to do.
    pub(super) text: String,
    /// bit/s; 0 where no rate is the matter.
    pub(super) fits: u64,
    pub(super) retry_after: Duration,
}

impl Refusal {
    pub(super) fn new(code: RefusalCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), fits: 0, retry_after: Duration::ZERO }
    }

    /// One that passes by itself.
    pub(super) fn retry(code: RefusalCode, text: impl Into<String>) -> Self {
        Self { retry_after: RETRY_AFTER, ..Self::new(code, text) }
    }

    pub(super) fn busy() -> Self {
        Self::retry(RefusalCode::Busy, "the gateway has too much to do; try again later")
    }

    pub(super) fn of_chain(error: &ChainError) -> Self {
        Self::new(error.code(), error.to_string())
    }

    /// What the replicated state's refusal means to an endpoint.
    pub(super) fn of_cluster(now: Now, why: &model::Refusal) -> Self {
        use RefusalCode as C;
        use model::Refusal as R;
        let until = |at: u64| Duration::from_millis(at.saturating_sub(now.unix_ms()));
        let new = |code| Self::new(code, why.to_string());
        match why {
            R::StaleSequence { .. } => new(C::Replayed),
            R::NoSuchAccessLink => new(C::NoMetalinks),
            R::NoSuchMetanet => new(C::NoSuchMetanet),
            R::BadClaim(_) => new(C::Malformed),
            R::NotAdmitted(_) => new(C::NotAdmitted),
            R::NoRoom { fits, retry_at, .. } => {
                Self { fits: *fits, retry_after: retry_at.map_or(Duration::ZERO, until), ..new(C::NoRoom) }
            }
            R::TooManyMetalinks(_) => new(C::Limit),
            R::MlisRest { retry_at } => Self { retry_after: until(*retry_at), ..new(C::Busy) },
            R::NoSuchMetalink | R::LeaseEnded { .. } => new(C::NoSuchMetalink),
            R::NotProgrammed(_) => Self { retry_after: RETRY_AFTER, ..new(C::NotProgrammed) },
            R::Yields { until: end } => Self { retry_after: until(*end), ..new(C::Yields) },
            _ => Self::retry(C::ClusterUnavailable, why.to_string()),
        }
    }

    fn message(&self, text: &str) -> Kind {
        Kind::Refused(Refused {
            code: self.code,
            text: text.to_owned(),
            fits: self.fits,
            retry_after_ms: millis(self.retry_after),
        })
    }
}

impl Attachments {
    /// Says no, as briefly as it has to be.
    pub(super) fn refuse(&mut self, asker: &Asker, refusal: Refusal) -> Result<Vec<Effect>, Dropped> {
        let text = cut(&refusal.text, MAX_TEXT);
        let spare = metalink::encode(asker.nonce, &refusal.message("")).map_or(0, |bare| {
            // Beside its own bytes a text costs a tag and its length, and the message's own length may take a byte more.
            asker.limit().saturating_sub(bare.len() + 4)
        });
        let effect = asker.answer(&refusal.message(cut(text, spare))).ok_or(Dropped::TooShort)?;
        self.count_refusal(refusal.code);
        Ok(vec![effect])
    }

    /// Likewise, where there is no frame that could be dropped.
    pub(super) fn refuse_late(&mut self, asker: &Asker, refusal: Refusal) -> Vec<Effect> {
        self.refuse(asker, refusal).unwrap_or_default()
    }

    /// Says which metalink there is.
    pub(super) fn tell_connected(&mut self, now: Now, asker: &Asker, metalink: &Metalink) -> Vec<Effect> {
        let connected = Connected {
            mli: metalink.mli.0,
            metanet: metanet_id(metalink.metanet),
            rate: metalink.rate,
            lease: lease(metalink.lease),
            lease_ms: metalink.until.saturating_sub(now.unix_ms()),
            request: metalink.request,
            yields: metalink.yields,
        };
        self.counts.connected += 1;
        asker.answer(&Kind::Connected(connected)).into_iter().collect()
    }
}

pub(super) fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

pub(super) fn metanet_id(Destination { protocol, provider }: Destination) -> MetanetId {
    MetanetId { protocol, provider }
}

pub(super) fn destination(MetanetId { protocol, provider }: MetanetId) -> Destination {
    Destination { protocol, provider }
}

pub(super) fn lease(kind: LeaseKind) -> Lease {
    match kind {
        LeaseKind::Short => Lease::Short,
        LeaseKind::Long => Lease::Long,
    }
}

pub(super) fn lease_kind(lease: Lease) -> LeaseKind {
    match lease {
        Lease::Short => LeaseKind::Short,
        Lease::Long => LeaseKind::Long,
    }
}
