//! A model of a switch: tables that take writes from the primary alone, and the few things that its data plane does for
//! the control plane.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use dmux_controller::plan::{
    Action, Entry, Event, Fixture, FixtureKey, Foreign, Key, MeterRate, Plan, PuntRate, ReadBack, Update, UpdateError,
};
use dmux_p4rt::ElectionId;
use dmux_p4rt::p4::v1::PacketIn;
use dmux_tables::{AnyEntry, EndpointAction, EndpointIndex, MetalinkRxAction, MetalinkTxAction, PuntAction};
use dmux_wire::{MacAddr, PuntReason};
use tokio::sync::mpsc::UnboundedSender;

/// A switch.
#[derive(Debug, Default)]
pub struct Switch {
    /// Counts its starts; 0 while it is off.
    boot: u64,
    boots: u64,
    pipeline: bool,
    entries: BTreeMap<Key, Entry>,
    meters: BTreeMap<Key, MeterRate>,
    foreign: Vec<Foreign>,
    rates: BTreeMap<PuntReason, PuntRate>,
    fixtures: BTreeMap<FixtureKey, Fixture>,
    /// The highest election id claimed since it started, and who holds it.
    primary: Option<(ElectionId, Claimant)>,
    /// Where packets for the controller go.
    cpu: Option<UnboundedSender<PacketIn>>,
    /// Which controllers have written in each epoch.
    writers: BTreeMap<u64, BTreeSet<u64>>,
    /// Updates that it refuses from now on.
    pub refuses: u32,
    /// Updates that it accepts and forgets from now on.
    pub forgets: u32,
}

/// One process of a controller: its node and how often that has started.
pub type Claimant = (u64, u64);

impl Switch {
    /// Power on, with nothing in its tables.
    pub fn start(&mut self) {
        let (boots, writers) = (self.boots + 1, std::mem::take(&mut self.writers));
        *self = Self { boot: boots, boots, writers, ..Self::default() };
    }

    /// Power off.
    pub fn stop(&mut self) {
        self.boot = 0;
        self.cpu = None;
        self.primary = None;
    }

    /// Which start it is in; 0 when it is off.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// Arbitration (P4Runtime §5): the highest election id is the primary. Returns the primary's, if it is another.
    pub fn claim(&mut self, id: ElectionId, who: Claimant, cpu: UnboundedSender<PacketIn>) -> Result<(), ElectionId> {
        match self.primary {
            Some((primary, _)) if primary > id => Err(primary),
            _ => {
                self.primary = Some((id, who));
                self.cpu = Some(cpu);
                Ok(())
            }
        }
    }

    /// A session has ended: its controller is no longer heard, and its id stays the highest.
    pub fn hang_up(&mut self, who: Claimant) {
        if self.primary.is_some_and(|(_, primary)| primary == who) {
            self.cpu = None;
        }
    }

    /// Whether this process of a controller is the primary.
    pub fn is_primary(&self, id: ElectionId, who: Claimant) -> bool {
        self.boot != 0 && self.cpu.is_some() && self.primary == Some((id, who))
    }

    /// Does what a session of `who` asks.
    pub fn perform(&mut self, id: ElectionId, who: Claimant, action: &Action) -> Option<Event> {
        let deposed = !self.is_primary(id, who);
        let refusal = || "permission denied: not the primary".to_owned();
        Some(match action {
            Action::Wait { .. } => return None,
            Action::CheckPipeline => Event::Pipeline(Ok(self.pipeline)),
            Action::SetPipeline if deposed => Event::PipelineSet(Err(refusal())),
            Action::SetPipeline => {
                self.pipeline = true;
                self.entries.clear();
                self.meters.clear();
                self.rates.clear();
                self.fixtures.clear();
                self.foreign.clear();
                Event::PipelineSet(Ok(()))
            }
            Action::ReadBack => Event::ReadBack(Ok(ReadBack {
                entries: self.entries.clone(),
                meters: self.meters.clone(),
                foreign: self.foreign.clone(),
                punt_rates: self.rates.clone(),
                fixtures: self.fixtures.clone(),
            })),
            Action::Write(_) if deposed => Event::Written(Err(refusal())),
            Action::Write(updates) => {
                self.writers.entry((id.0 >> 64) as u64).or_default().insert(who.0);
                Event::Written(Ok(updates.iter().map(|update| self.write(update)).collect()))
            }
        })
    }

    fn write(&mut self, update: &Update) -> Result<(), UpdateError> {
        let refuse = |code, message: &str| Err(UpdateError { code, message: message.into() });
        if self.refuses > 0 {
            self.refuses -= 1;
            return refuse(8, "table is full");
        }
        let forgets = self.forgets > 0;
        self.forgets = self.forgets.saturating_sub(1);
        let entry = match update {
            Update::SetPuntRate(reason, rate) => {
                self.rates.insert(*reason, *rate);
                return Ok(());
            }
            Update::InsertFixture(fixture) | Update::ModifyFixture(fixture) => {
                self.fixtures.insert(fixture.key(), fixture.clone());
                return Ok(());
            }
            Update::DeleteFixture(fixture) => {
                self.fixtures.remove(&fixture.key());
                return Ok(());
            }
            Update::DeleteForeign(foreign) => {
                self.foreign.retain(|held| held != &**foreign);
                return Ok(());
            }
            Update::Insert(entry, _) | Update::Modify(entry, _) | Update::Delete(entry) => entry,
        };
        let key = entry.key();
        match (update, self.entries.contains_key(&key)) {
            (Update::Insert(..), true) => return refuse(6, "exists"),
            (Update::Modify(..) | Update::Delete(_), false) => return refuse(5, "no such entry"),
            _ => {}
        }
        if !forgets {
            match update {
                Update::Delete(_) => self.entries.remove(&key),
                _ => self.entries.insert(key, *entry),
            };
            match update {
                Update::Insert(_, Some(rate)) | Update::Modify(_, Some(rate)) => self.meters.insert(key, *rate),
                _ => self.meters.remove(&key),
            };
        }
        Ok(())
    }

    /// Whether its tables, meters and fixtures are what a plan says.
    pub fn holds(&self, plan: &Plan) -> bool {
        self.boot != 0
            && self.entries == *plan.entries()
            && self.meters == *plan.meters()
            && self.rates == *plan.punt_rates()
            && self.fixtures == *plan.fixtures()
            && self.foreign.is_empty()
    }

    /// What is in its tables.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// An epoch in which two controllers wrote, if there is one.
    pub fn written_by_two(&self) -> Option<u64> {
        self.writers.iter().find(|(_, nodes)| nodes.len() > 1).map(|(epoch, _)| *epoch)
    }

    /// Whether its program sends such packets to the controller at all.
    pub fn punts(&self, wanted: PuntReason) -> bool {
        self.entries.values().any(|entry| match entry {
            AnyEntry::Punt(_, PuntAction::Punt { reason }) => *reason == wanted,
            _ => false,
        })
    }

    /// Whether a probe from this address is reflected.
    pub fn reflects(&self, from: Ipv4Addr) -> bool {
        self.boot != 0
            && self.entries.values().any(|entry| matches!(entry, AnyEntry::ProbePeer(key, _) if key.src == from))
    }

    /// What it knows an endpoint as.
    fn endpoint(&self, port: u16, mac: MacAddr) -> Option<EndpointIndex> {
        self.entries.values().find_map(|entry| match entry {
            AnyEntry::Endpoint(key, EndpointAction::SetEndpoint { endpoint })
                if key.port.get() == port && key.src == mac =>
            {
                Some(*endpoint)
            }
            _ => None,
        })
    }

    /// Whether an MLI of an endpoint's is its control MLI.
    pub fn is_control(&self, port: u16, mac: MacAddr, mli: u32) -> bool {
        let endpoint = self.endpoint(port, mac).filter(|_| self.boot != 0);
        self.entries.values().any(|entry| match entry {
            AnyEntry::MetalinkRx(key, MetalinkRxAction::MetalinkControl { .. }) => {
                Some(key.endpoint) == endpoint && key.mli.get() == mli
            }
            _ => false,
        })
    }

    /// How many metalinks it has for an endpoint's address at a port, in both directions; `None`: not as many in one as in
    /// the other.
    pub fn metalinks_of(&self, port: u16, mac: MacAddr) -> Option<usize> {
        let endpoint = self.endpoint(port, mac);
        let up = |entry: &&Entry| match entry {
            AnyEntry::MetalinkRx(key, MetalinkRxAction::Metalink { .. }) => Some(key.endpoint) == endpoint,
            _ => false,
        };
        let down = |entry: &&Entry| match entry {
            AnyEntry::MetalinkTx(_, MetalinkTxAction::SendMetalink { port: out, dst_mac, .. }) => {
                out.get() == port && *dst_mac == mac
            }
            _ => false,
        };
        let (up, down) = (self.entries.values().filter(up).count(), self.entries.values().filter(down).count());
        (up == down).then_some(up)
    }

    /// Sends a packet to the controller, if it has one that listens.
    pub fn punt(&self, packet: PacketIn) {
        if let Some(cpu) = self.cpu.as_ref().filter(|_| self.boot != 0) {
            // A session that is ending takes nothing more.
            let _ = cpu.send(packet);
        }
    }
}
