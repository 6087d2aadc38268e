//! A small gateway that keeps to the protocol: everything that it remembers, and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use dmux_wire::control::RefusalCode;
use dmux_wire::ethernet::Vlan;
use dmux_wire::metalink::{
    self, Attach, AttachBody, Attached, Connect, Connected, Kind, Lease, MetanetId, Notice, Offer, OfferedMetanet,
    Pending, Refused, Released,
};
use dmux_wire::{CONTROL_MLI, Ethernet, GatewayId, MLI_DISCOVERY, MacAddr, Substrate, ethernet};
use ed25519_dalek::{Signature, VerifyingKey};

use super::{MAC, metanet};

pub(super) const GATEWAY_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(super) const VID: u16 = 100;
pub(super) const PCP: u8 = 5;
pub(super) const COOKIE: [u8; 16] = [7; 16];
pub(super) const IDLE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
pub(super) struct Metalink {
    pub(super) mli: u32,
    pub(super) rate: u64,
    pub(super) kind: Lease,
    pub(super) request: u64,
    pub(super) until: Duration,
    pub(super) yields: bool,
}

#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) id: u16,
    pub(super) lease: Duration,
    pub(super) capacity: u64,
    /// Metanets whose operator decides, and since which request it does.
    pub(super) by_operator: BTreeMap<MetanetId, Option<u64>>,
    /// Whose certificates it wants.
    pub(super) authenticate: Option<VerifyingKey>,
    pub(super) attached: Option<Duration>,
    pub(super) metalinks: BTreeMap<MetanetId, Metalink>,
    /// Requests of metalinks that are gone: a late repetition makes no new one.
    overtaken: BTreeMap<MetanetId, u64>,
    last_mli: u32,
}

impl Gateway {
    pub(super) fn new(lease: Duration) -> Self {
        Self {
            id: 1,
            lease,
            capacity: 100_000_000,
            by_operator: BTreeMap::new(),
            authenticate: None,
            attached: None,
            metalinks: BTreeMap::new(),
            overtaken: BTreeMap::new(),
            last_mli: 0,
        }
    }

    pub(super) fn offer(&self) -> Offer {
        Offer {
            gateway: GatewayId(self.id),
            gateway_mac: GATEWAY_MAC,
            provisioned_vid: VID,
            provisioned_pcp: PCP,
            multipoint_vid: Some(200),
            control_mli: CONTROL_MLI,
            mtu: 1400,
            metanets: vec![OfferedMetanet { id: metanet(41), name: "video".into(), shared_mli: None }],
            more: false,
            authenticate: self.authenticate.is_some(),
            cookie: COOKIE.to_vec(),
        }
    }

    /// The end of leases.
    pub(super) fn tick(&mut self, now: Duration) {
        let over: Vec<_> = self.metalinks.iter().filter(|(_, m)| m.until <= now).map(|(id, _)| *id).collect();
        for id in over {
            self.revoke(id);
        }
        if self.metalinks.is_empty() && self.attached.is_some_and(|since| now >= since + IDLE) {
            self.attached = None;
        }
    }

    pub(super) fn revoke(&mut self, id: MetanetId) -> Option<Metalink> {
        let gone = self.metalinks.remove(&id)?;
        self.overtaken.insert(id, gone.request);
        Some(gone)
    }

    /// Its controller restarts.
    pub(super) fn forget(&mut self) {
        self.attached = None;
    }

    /// What the endpoint is told of a metalink that it did not ask about.
    pub(super) fn notice(id: MetanetId, mli: u32, rate: u64) -> Vec<u8> {
        let notice = Notice { mli, metanet: id, rate, lease_ms: 0, yields: false };
        frame(Some(VID), CONTROL_MLI, 0, &Kind::Notice(notice))
    }

    /// What it answers to a frame.
    pub(super) fn frame(&mut self, now: Duration, bytes: &[u8]) -> Option<Vec<u8>> {
        self.tick(now);
        let (header, rest) = Ethernet::parse(bytes).unwrap();
        assert_eq!((header.src, header.ether_type), (MAC, ethernet::SUBSTRATE));
        let (substrate, rest) = Substrate::parse(rest).unwrap();
        let decoded = metalink::decode(rest).unwrap();
        let kind = decoded.kind.unwrap();
        if substrate.mli == MLI_DISCOVERY {
            assert_eq!(header.vlan, None);
            let answer = self.greeted(now, header.dst, &kind);
            let answer = frame(None, MLI_DISCOVERY, decoded.nonce, &answer);
            let proven = matches!(kind, Kind::Attach(_));
            assert!(proven || answer.len() <= bytes.len(), "nothing is amplified");
            return Some(answer);
        }
        assert_eq!(substrate.mli, CONTROL_MLI);
        assert_eq!((header.dst, header.vlan), (GATEWAY_MAC, Some(Vlan { pcp: PCP, dei: false, vid: VID })));
        if self.attached.is_none() {
            // Its switch knows endpoints with metalinks, and only those; it itself knows nobody.
            let unknown = refused(RefusalCode::NotAttached, 0, 0);
            return (!self.metalinks.is_empty()).then(|| frame(Some(VID), CONTROL_MLI, decoded.nonce, &unknown));
        }
        self.attached = Some(now);
        Some(frame(Some(VID), CONTROL_MLI, decoded.nonce, &self.asked(now, &kind)))
    }

    fn greeted(&mut self, now: Duration, to: MacAddr, kind: &Kind) -> Kind {
        match kind {
            Kind::Discover(_) => {
                assert_eq!(to, MacAddr::BROADCAST);
                Kind::Offer(self.offer())
            }
            Kind::Attach(Attach { body, chain, signature }) => {
                assert_eq!(to, GATEWAY_MAC);
                let said = AttachBody::decode(body).unwrap();
                let expected = AttachBody { cookie: COOKIE.to_vec(), gateway: GatewayId(self.id), mac: MAC };
                if said != expected {
                    return refused(RefusalCode::BadCookie, 0, 0);
                }
                match &self.authenticate {
                    Some(key) => {
                        assert!(!chain.is_empty());
                        let signature = Signature::from_slice(signature).unwrap();
                        key.verify_strict(&dmux_wire::control::Domain::Attach.signed_bytes(body), &signature).unwrap();
                    }
                    None => assert!(chain.is_empty() && signature.is_empty()),
                }
                self.attached = Some(now);
                Kind::Attached(Attached { idle_after_ms: IDLE.as_millis() as u32 })
            }
            other => panic!("not on MLI 0: {other:?}"),
        }
    }

    fn asked(&mut self, now: Duration, kind: &Kind) -> Kind {
        match kind {
            Kind::Connect(connect) => self.connect(now, connect),
            Kind::Renew(renew) => match self.metalinks.iter_mut().find(|(_, m)| m.mli == renew.mli) {
                Some((_, m)) if m.yields => refused(RefusalCode::Yields, 0, 0),
                Some((id, m)) => {
                    m.until = m.until.max(now + self.lease);
                    connected(now, *id, m)
                }
                None => refused(RefusalCode::NoSuchMetalink, 0, 0),
            },
            Kind::Release(release) => {
                let id = self.metalinks.iter().find(|(_, m)| m.mli == release.mli).map(|(id, _)| *id);
                id.and_then(|id| self.revoke(id));
                Kind::Released(Released { mli: release.mli })
            }
            other => panic!("not on the control MLI: {other:?}"),
        }
    }

    fn connect(&mut self, now: Duration, connect: &Connect) -> Kind {
        let id = connect.metanet;
        if self.by_operator.get(&id).is_some_and(|decided| *decided != Some(connect.request)) {
            return Kind::Pending(Pending { retry_after_ms: 1000 });
        }
        if let Some(same) = self.metalinks.get(&id).filter(|m| m.request == connect.request) {
            return connected(now, id, same);
        }
        let last = self.metalinks.get(&id).map(|m| m.request).or(self.overtaken.get(&id).copied());
        if last.is_some_and(|last| connect.request <= last) {
            return refused(RefusalCode::Replayed, 0, 0);
        }
        let others: u64 = self.metalinks.iter().filter(|(other, _)| **other != id).map(|(_, m)| m.rate).sum();
        if connect.rate > self.capacity - others {
            return refused(RefusalCode::NoRoom, self.capacity - others, 0);
        }
        let mli = self.metalinks.get(&id).map_or(self.last_mli + 1, |m| m.mli);
        self.last_mli = self.last_mli.max(mli);
        let (rate, request, kind) = (connect.rate, connect.request, connect.lease);
        let metalink = Metalink { mli, rate, kind, request, until: now + self.lease, yields: false };
        self.metalinks.insert(id, metalink);
        connected(now, id, &metalink)
    }
}

fn connected(now: Duration, metanet: MetanetId, m: &Metalink) -> Kind {
    let lease_ms = u64::try_from((m.until - now).as_millis()).unwrap();
    let Metalink { mli, rate, kind: lease, request, yields, .. } = *m;
    Kind::Connected(Connected { mli, metanet, rate, lease, lease_ms, request, yields })
}

pub(super) fn refused(code: RefusalCode, fits: u64, retry_after_ms: u32) -> Kind {
    Kind::Refused(Refused { code, text: "a\nreason".into(), fits, retry_after_ms })
}

/// From the gateway to the endpoint.
pub(super) fn frame(vid: Option<u16>, mli: u32, nonce: u64, kind: &Kind) -> Vec<u8> {
    let mut frame = Vec::new();
    let vlan = vid.map(|vid| Vlan { pcp: PCP, dei: false, vid });
    Ethernet { dst: MAC, src: GATEWAY_MAC, vlan, ether_type: ethernet::SUBSTRATE }.emit(&mut frame);
    Substrate::new(mli).emit(&mut frame);
    frame.extend(metalink::encode(nonce, kind).unwrap());
    // Ethernet pads.
    frame.resize(frame.len().max(64), 0);
    frame
}
