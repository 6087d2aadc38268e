//! A router against a gateway that is played by the test.

mod conversation;
mod daemon;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use dmux_wire::control::{
    self, Accepted, Challenge, DeregisterAck, Domain, KeepaliveAck, Kind, RefusalCode, Refused, RegisterBody,
    SessionBody,
};
use dmux_wire::frame::Datagram;
use dmux_wire::{GatewayId, Origin, ProtocolId, ProviderId, ServiceIndex, Shim, ShimKind};
use ed25519_dalek::{Signature, SigningKey};

use super::*;
use crate::credentials::Credentials;

pub(super) const REGISTRATION: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 2), 51700);
pub(super) const ROUTER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 100), 4000);
pub(super) const COOKIE: [u8; 16] = [9; 16];

pub(super) fn config() -> RouterConfig {
    RouterConfig {
        registration: REGISTRATION,
        router: ROUTER,
        protocol: ProtocolId(41),
        provider: ProviderId(7),
        weight: 3,
        keepalive: None,
        timers: Timers::default(),
    }
}

pub(super) fn credentials() -> Credentials {
    Credentials { key: SigningKey::from_bytes(&[1; 32]), chain: vec![vec![0x30; 300], vec![0x31; 310]] }
}

/// The gateway's half.
pub(super) struct Gateway;

impl Gateway {
    /// The request in a datagram.
    pub(super) fn read(payload: &[u8]) -> (u64, Kind) {
        let datagram = Datagram::parse(payload).unwrap();
        assert_eq!(datagram.shim, Shim::of_no_protocol(ShimKind::Control));
        control::decode(datagram.payload).unwrap()
    }

    pub(super) fn write(nonce: u64, kind: Kind) -> Vec<u8> {
        let message = control::encode(nonce, kind).unwrap();
        let shim = Shim::of_no_protocol(ShimKind::Control);
        Datagram { shim, origin: None, payload: &message }.to_vec()
    }

    pub(super) fn accept(sequence: u64) -> Kind {
        Kind::Accepted(Accepted {
            keepalive_interval_ms: 1000,
            expires_after_ms: 3500,
            gateway: 1,
            sequence,
            held_ms: 0,
        })
    }

    /// What a gateway that likes everything answers.
    pub(super) fn answer(request: &Kind) -> Kind {
        match request {
            Kind::Register(register) => {
                let body = RegisterBody::decode(&register.body).unwrap();
                if body.cookie.is_empty() {
                    assert!(register.chain.is_empty() && register.signature.is_empty());
                    return Kind::Challenge(Challenge { cookie: COOKIE.to_vec() });
                }
                assert_eq!(body.cookie, COOKIE);
                assert_eq!(register.chain, credentials().chain);
                check(Domain::Register, &register.body, &register.signature);
                Self::accept(body.sequence)
            }
            Kind::Keepalive(keepalive) => {
                check(Domain::Keepalive, &keepalive.body, &keepalive.signature);
                let sequence = SessionBody::decode(&keepalive.body).unwrap().sequence;
                Kind::KeepaliveAck(KeepaliveAck { sequence, gateway: 1 })
            }
            Kind::Deregister(farewell) => {
                check(Domain::Deregister, &farewell.body, &farewell.signature);
                let sequence = SessionBody::decode(&farewell.body).unwrap().sequence;
                Kind::DeregisterAck(DeregisterAck { sequence })
            }
            other => panic!("routers do not send {other:?}"),
        }
    }
}

pub(super) fn check(domain: Domain, body: &[u8], signature: &[u8]) {
    let key = credentials().key.verifying_key();
    let signature = Signature::from_slice(signature).unwrap();
    key.verify_strict(&domain.signed_bytes(body), &signature).unwrap();
}
