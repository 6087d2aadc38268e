//! Attachments with a real model behind them, and an endpoint's half of the conversation.

mod discovery;
mod hostile;
mod metalinks;
mod operators;

use std::collections::{BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use dmux_wire::control::Domain;
use dmux_wire::metalink::{
    self, Attach, AttachBody, Connect, Connected, Decoded, Discover, Lease, MetanetId, Offer, Refused, Release, Renew,
};
use dmux_wire::{CONTROL_MLI, Ethernet, MLI_DISCOVERY, ProtocolId, ProviderId, Substrate, Vlan, ethernet};
use ed25519_dalek::{Signer, SigningKey};

use super::*;
use crate::model::{AccessLink, Admission, Destination, Gateway, LeaseKind, Metanet, Mli, OutOfProfile};
use crate::punted::Egress;
use crate::registration::tests::{Ca, signing_key, uri};

const HERE: GatewayId = GatewayId(1);
const VIDEO: MetanetId = MetanetId { protocol: ProtocolId(41), provider: ProviderId(7) };
/// Its operator decides.
const VOICE: MetanetId = MetanetId { protocol: ProtocolId(42), provider: ProviderId(1) };
const PROVISIONED: Vlan = Vlan { pcp: 5, dei: false, vid: 100 };
const EPOCH: Duration = Duration::from_secs(1_800_000_000);
const SHORT_MS: u64 = 60_000;

const SITE: &str = r#"
[[ports]]
number = 1
role = "wan"
mac = "02:00:00:00:01:01"
[[ports]]
number = 3
role = "access"
mac = "02:00:00:00:01:03"
[[ports]]
number = 4
role = "access"
mac = "02:00:00:00:01:04"
[[ports]]
number = 5
role = "access"
mac = "02:00:00:00:01:05"
[[access_links]]
name = "a"
ports = [3, 4]
provisioned_vid = 100
multipoint_vid = 200
pcp = 5
queue = 7
[[access_links]]
name = "unassigned"
ports = [5]
provisioned_vid = 100
multipoint_vid = 200
pcp = 5
queue = 7
"#;

/// A station at a port.
#[derive(Debug, Clone)]
struct Station {
    port: PortId,
    mac: MacAddr,
    nonce: u64,
    request: u64,
}

fn station(port: u16, n: u8) -> Station {
    let port = PortId::new(port).unwrap();
    Station { port, mac: MacAddr([2, 0, 0, 0, 9, n]), nonce: u64::from(n) << 32, request: 0 }
}

impl Station {
    fn endpoint(&self) -> Endpoint {
        Endpoint { port: self.port.get(), mac: self.mac }
    }

    /// A frame that the switch punts.
    fn frame(&mut self, vlan: Option<Vlan>, mli: u32, kind: &Kind) -> Vec<u8> {
        self.nonce += 1;
        self.raw(vlan, mli, &metalink::encode(self.nonce, kind).unwrap())
    }

    fn raw(&self, vlan: Option<Vlan>, mli: u32, rest: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let dst = if mli == MLI_DISCOVERY { MacAddr::BROADCAST } else { MacAddr([2, 0, 0, 0, 1, 3]) };
        Ethernet { dst, src: self.mac, vlan, ether_type: ethernet::SUBSTRATE }.emit(&mut frame);
        Substrate::new(mli).emit(&mut frame);
        frame.extend(rest);
        frame
    }

    fn discover(&mut self, padding: usize) -> Vec<u8> {
        let mut frame = self.frame(None, MLI_DISCOVERY, &Kind::Discover(Discover::default()));
        frame.resize(frame.len() + padding, 0);
        frame
    }

    fn wish(&mut self, metanet: MetanetId, rate: u64, lease: Lease) -> Kind {
        self.request += 1;
        Kind::Connect(Connect { metanet, rate, lease, request: self.request })
    }
}

/// A gateway, and the replicated state.
struct Bench {
    attachments: Attachments,
    model: Model,
    now: Now,
    /// Everything that was to be done, but for frames.
    effects: Vec<Effect>,
    /// What becomes of programming; `None`: it takes its time.
    programs: Option<Result<(), NotProgrammed>>,
    /// Proposals stay where they are.
    is_stuck: bool,
}

fn setup() -> Bench {
    setup_with(|_| ())
}

fn setup_with(change: impl FnOnce(&mut AccessLink)) -> Bench {
    let authority = Ca::authority(10);
    let authorities = Authorities::from_der(std::slice::from_ref(&authority.der)).unwrap();
    let config = AttachmentsConfig { gateway: HERE, authorities, secret: [1; 32] };
    let mut bench = Bench {
        attachments: Attachments::new(config, &SiteConfig::parse(SITE).unwrap()),
        model: Model::new(),
        now: Now { mono: Duration::from_secs(1_000), unix: EPOCH },
        effects: Vec::new(),
        programs: Some(Ok(())),
        is_stuck: false,
    };
    let unicast = Ipv4Addr::new(192, 0, 2, 1);
    let gateway = Gateway { id: HERE, name: "g1".into(), unicast, api: String::new(), node: 1 };
    let mut link = AccessLink {
        key: LinkKey { gateway: HERE, name: "a".into() },
        capacity: 100,
        endpoint_maximum: 60,
        short_lease_ms: SHORT_MS,
        long_lease_ms: 10 * SHORT_MS,
        authenticate: false,
        out_of_profile: OutOfProfile::Drop,
    };
    change(&mut link);
    bench.does(Command::PutGateway { at: 0, gateway });
    bench.does(Command::PutAccessLink { at: 0, link });
    for (id, admission, multipoint) in
        [(VIDEO, Admission::Automatic { up_to: 50 }, true), (VOICE, Admission::ByOperator, false)]
    {
        let id = Destination { protocol: id.protocol, provider: id.provider };
        let (name, allow, deny) = (format!("metanet {}", id.protocol), BTreeSet::new(), BTreeSet::new());
        bench.does(Command::PutMetanet { at: 0, metanet: Metanet { id, name, admission, allow, deny, multipoint } });
    }
    bench
}

impl Bench {
    fn apply(&mut self, command: &Command) -> Reply {
        self.model.apply(self.model.applied() + 1, command)
    }

    fn does(&mut self, command: Command) -> Vec<(Endpoint, u64, Kind)> {
        let reply = self.apply(&command);
        assert!(reply.refusal().is_none(), "{reply:?}");
        let effects = self.attachments.replicated_changed(self.now, &self.model);
        self.carry_out(effects)
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.unix += time;
        let (effects, _) = self.attachments.tick(self.now, &self.model);
        self.carry_out(effects);
    }

    fn heard(&mut self, reason: PuntReason, port: PortId, frame: &[u8]) -> Result<Vec<Kind>, Dropped> {
        let effects = self.attachments.handle(self.now, &self.model, reason, port, frame)?;
        Ok(self.carry_out(effects).into_iter().map(|(_, _, kind)| kind).collect())
    }

    fn on_mli_0(&mut self, station: &Station, frame: &[u8]) -> Result<Vec<Kind>, Dropped> {
        self.heard(PuntReason::Discovery, station.port, frame)
    }

    /// Asks on the control MLI, and returns the one answer.
    fn asks(&mut self, station: &mut Station, kind: &Kind) -> Kind {
        let mut answers = self.sends(station, kind).unwrap();
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }

    fn sends(&mut self, station: &mut Station, kind: &Kind) -> Result<Vec<Kind>, Dropped> {
        let frame = station.frame(Some(PROVISIONED), CONTROL_MLI, kind);
        self.heard(PuntReason::MetalinkControl, station.port, &frame)
    }

    fn offer(&mut self, station: &mut Station) -> Offer {
        let frame = station.discover(400);
        match &self.on_mli_0(station, &frame).unwrap()[..] {
            [Kind::Offer(offer)] => offer.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Discovers and attaches, unsigned.
    fn attach(&mut self, station: &mut Station) -> Kind {
        let cookie = self.offer(station).cookie;
        let frame = attach(station, cookie, Vec::new(), |_| Vec::new());
        self.on_mli_0(station, &frame).unwrap().remove(0)
    }

    fn attached(&mut self, port: u16, n: u8) -> Station {
        let mut station = station(port, n);
        assert!(matches!(self.attach(&mut station), Kind::Attached(_)));
        station
    }

    fn connected(&mut self, station: &mut Station, rate: u64) -> Connected {
        let wish = station.wish(VIDEO, rate, Lease::Long);
        match self.asks(station, &wish) {
            Kind::Connected(connected) => connected,
            other => panic!("{other:?}"),
        }
    }

    /// Proposals are applied at once; frames are returned with whom they go to and their nonces.
    fn carry_out(&mut self, effects: Vec<Effect>) -> Vec<(Endpoint, u64, Kind)> {
        let mut sent = Vec::new();
        let mut queue: VecDeque<_> = effects.into();
        while let Some(effect) = queue.pop_front() {
            match &effect {
                Effect::Send(outgoing) | Effect::Welcome { frame: outgoing, .. } => {
                    sent.push(read(outgoing));
                    continue;
                }
                Effect::Propose { token, command } if !self.is_stuck => {
                    let reply = self.apply(command);
                    queue.extend(self.attachments.replicated_changed(self.now, &self.model));
                    queue.extend(self.attachments.committed(self.now, &self.model, *token, Ok(reply)));
                }
                Effect::Renew { token, metalink } => {
                    let command = Command::RenewMetalinks { at: self.now.unix_ms(), metalinks: vec![*metalink] };
                    let Reply::Each(mut replies) = self.apply(&command) else { panic!("an answer to each") };
                    let reply = Ok(replies.remove(0));
                    queue.extend(self.attachments.committed(self.now, &self.model, *token, reply));
                }
                Effect::Await { token, .. } => {
                    if let Some(outcome) = self.programs.clone() {
                        queue.extend(self.attachments.programmed(self.now, &self.model, *token, outcome));
                    }
                }
                Effect::Propose { .. } | Effect::Ask(_) | Effect::Close(..) => {}
            }
            self.effects.push(effect);
        }
        sent
    }

    fn proposals(&self) -> usize {
        self.effects.iter().filter(|e| matches!(e, Effect::Propose { .. } | Effect::Renew { .. })).count()
    }
}

fn attach(station: &mut Station, cookie: Vec<u8>, chain: Vec<Vec<u8>>, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let body = AttachBody { cookie, gateway: HERE, mac: station.mac }.encode();
    let signature = sign(&body);
    station.frame(None, MLI_DISCOVERY, &Kind::Attach(Attach { body, chain, signature }))
}

/// Checks the headers of an answer.
fn read(outgoing: &Outgoing) -> (Endpoint, u64, Kind) {
    let Egress::Port(port) = outgoing.egress else { panic!("endpoints are behind ports") };
    let (header, rest) = Ethernet::parse(&outgoing.frame).unwrap();
    assert_eq!(header.ether_type, ethernet::SUBSTRATE);
    assert_eq!(header.src, MacAddr([2, 0, 0, 0, 1, port.get() as u8]), "the gateway's address at the port");
    let (substrate, rest) = Substrate::parse(rest).unwrap();
    match substrate.mli {
        CONTROL_MLI => assert_eq!(header.vlan, Some(PROVISIONED)),
        mli => assert_eq!(mli, MLI_DISCOVERY),
    }
    let Decoded { nonce, kind } = metalink::decode(rest).unwrap();
    (Endpoint { port: port.get(), mac: header.dst }, nonce, kind.unwrap())
}

fn refused(kind: &Kind) -> (RefusalCode, &Refused) {
    let Kind::Refused(refused) = kind else { panic!("{kind:?}") };
    (refused.code, refused)
}

fn code(kind: &Kind) -> RefusalCode {
    refused(kind).0
}
