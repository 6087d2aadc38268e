//! Metanets: the networks that endpoints of access LANs may have metalinks to, and who decides which do.

use std::collections::BTreeSet;
use std::ops::Bound;

use dmux_wire::{MacAddr, ProtocolId, ProviderId};
use serde::{Deserialize, Serialize};

use super::access::MAX_RATE;
use super::{Destination, MAX_DESTINATIONS, Model, Refusal, Reply};

/// Metanets at most: as many as there may be destinations.
pub const MAX_METANETS: usize = MAX_DESTINATIONS;
/// Bytes of a metanet's name at most.
pub const MAX_METANET_NAME: usize = 64;
/// Addresses on each of a metanet's lists at most: both fit into one command.
pub const MAX_LISTED: usize = 1024;

/// Who decides whether an endpoint gets the metalink that it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Admission {
    /// The lists and this rate: whoever may, gets up to so many bit/s.
    Automatic {
        /// For one endpoint.
        up_to: u64,
    },
    /// The metanet's operator, for each endpoint.
    ByOperator,
}

/// A metanet and its policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metanet {
    /// Protocol and provider; any provider if the metanet is nobody's in particular.
    pub id: Destination,
    /// For people; at most [`MAX_METANET_NAME`] bytes.
    pub name: String,
    /// Who decides.
    pub admission: Admission,
    /// If there are any, nobody else is admitted without the operator.
    pub allow: BTreeSet<MacAddr>,
    /// These are never admitted without the operator.
    pub deny: BTreeSet<MacAddr>,
    /// Endpoints of a LAN may speak in it with each other, best effort: it has a shared MLI.
    pub multipoint: bool,
}

impl Metanet {
    /// What an endpoint may have without the operator, bit/s.
    ///
    /// # Errors
    /// [`Refusal::NotAdmitted`], if nothing.
    pub(crate) fn admits(&self, mac: MacAddr) -> Result<u64, Refusal> {
        let refused = |why: &str| Err(Refusal::NotAdmitted(why.to_owned()));
        match self.admission {
            _ if self.deny.contains(&mac) => refused("its deny list has the endpoint"),
            _ if !self.allow.is_empty() && !self.allow.contains(&mac) => {
                refused("its allow list does not have the endpoint")
            }
            Admission::ByOperator => refused("its operator has to decide"),
            Admission::Automatic { up_to } => Ok(up_to),
        }
    }

    /// What is wrong with it, as a sentence for the person who wrote it.
    pub fn check(&self) -> Result<(), String> {
        if self.id.protocol == ProtocolId(0) || self.id.provider == ProviderId(0) {
            return Err("protocol 0 and provider 0 are none; provider 1 is any".into());
        }
        if self.name.is_empty() || self.name.len() > MAX_METANET_NAME {
            return Err(format!("its name has {} bytes; give 1 to {MAX_METANET_NAME}", self.name.len()));
        }
        if let Admission::Automatic { up_to } = self.admission
            && !(1..=MAX_RATE).contains(&up_to)
        {
            return Err(format!("{up_to} bit/s for an endpoint is not between 1 and {MAX_RATE}"));
        }
        for (list, addresses) in [("allow", &self.allow), ("deny", &self.deny)] {
            if addresses.len() > MAX_LISTED {
                return Err(format!("its {list} list has {} addresses; at most {MAX_LISTED}", addresses.len()));
            }
        }
        if let Some(mac) = self.allow.intersection(&self.deny).next() {
            return Err(format!("{mac} is on both lists"));
        }
        Ok(())
    }
}

/// What of all access links' capacity a metanet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MetanetUse {
    /// Metalinks to it.
    pub metalinks: usize,
    /// Their rates' sum, bit/s.
    pub rate: u64,
}

impl Model {
    /// The metanets, by protocol and provider.
    pub fn metanets(&self) -> impl ExactSizeIterator<Item = &Metanet> {
        self.state.access.metanets.values()
    }

    /// The metanets from one on, by protocol and provider.
    pub fn metanets_from(&self, from: Bound<Destination>) -> impl Iterator<Item = &Metanet> {
        self.state.access.metanets.range((from, Bound::Unbounded)).map(|(_, metanet)| metanet)
    }

    /// One metanet.
    pub fn metanet(&self, id: Destination) -> Option<&Metanet> {
        self.state.access.metanets.get(&id)
    }

    /// What it has.
    pub fn metanet_use(&self, id: Destination) -> MetanetUse {
        self.books.metanet(id)
    }

    /// Metalinks that there are stay as they are, whatever the new policy.
    pub(super) fn put_metanet(&mut self, metanet: &Metanet) -> Result<Reply, Refusal> {
        metanet.check().map_err(Refusal::BadMetanet)?;
        let metanets = &mut self.state.access.metanets;
        if metanets.len() >= MAX_METANETS && !metanets.contains_key(&metanet.id) {
            return Err(Refusal::TooManyMetanets(MAX_METANETS));
        }
        metanets.insert(metanet.id, metanet.clone());
        self.set_shared(metanet.id, metanet.multipoint);
        Ok(Reply::Done)
    }

    pub(super) fn remove_metanet(&mut self, id: Destination) -> Result<Reply, Refusal> {
        let MetanetUse { metalinks, .. } = self.books.metanet(id);
        if metalinks > 0 {
            return Err(Refusal::MetanetInUse { metalinks });
        }
        self.state.access.metanets.remove(&id);
        self.set_shared(id, false);
        self.state.access.waiting.retain(|_, waiting| {
            waiting.retain(|w| w.owner.metanet != id);
            !waiting.is_empty()
        });
        Ok(Reply::Done)
    }
}
