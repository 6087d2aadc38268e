//! Control messages (DESIGN §3.5), in the encoding of `proto/dmux/control/v1/control.proto`.
//!
//! The generated messages are re-exported; [`encode`] and [`decode`] add the size bound, [`RegisterBody`] and
//! [`SessionBody`] are the checked values of the signed parts, and [`Domain::signed_bytes`] says what is signed.

mod body;

use prost::Message;
use thiserror::Error;

pub use body::{BodyError, RegisterBody, SessionBody};
pub use generated::control_message::Kind;
pub use generated::{
    Accepted, Challenge, ControlMessage, Deregister, DeregisterAck, Keepalive, KeepaliveAck, RefusalCode, Refused,
    Register,
};

pub(crate) mod generated {
    // Prost gives no comments to what it makes up itself, such as the module of a oneof.
    #![allow(missing_docs, unreachable_pub, clippy::doc_markdown)]
    include!(concat!(env!("OUT_DIR"), "/dmux.control.v1.rs"));
}

/// The longest control message in bytes, without shim and UDP header: it fits an unfragmented packet on any path.
pub const MAX_CONTROL: usize = 1200;
/// Bytes of an Ed25519 signature.
pub const SIGNATURE_LEN: usize = 64;
/// The longest cookie that a router repeats.
pub const MAX_COOKIE: usize = 64;

/// Why bytes are no control message, or a message cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ControlError {
    /// Longer than [`MAX_CONTROL`].
    #[error(
        "a control message of {0} bytes is longer than the {MAX_CONTROL} allowed; use shorter certificates or a shorter chain"
    )]
    TooLong(usize),
    /// Not the protobuf message.
    #[error("the bytes are no control message: {0}")]
    Malformed(String),
    /// A kind that this version does not know, or none.
    #[error("the control message is of no known kind")]
    UnknownKind,
}

/// What a signature is for; a signature for one purpose is none for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Domain {
    /// Over [`Register::body`].
    Register,
    /// Over [`Keepalive::body`].
    Keepalive,
    /// Over [`Deregister::body`].
    Deregister,
    /// Over the body of an [`Attach`](crate::metalink::Attach).
    Attach,
}

impl Domain {
    /// The bytes under the signature.
    pub fn signed_bytes(self, body: &[u8]) -> Vec<u8> {
        let name: &[u8] = match self {
            Self::Register => b"dmux-control-v1 register\0",
            Self::Keepalive => b"dmux-control-v1 keepalive\0",
            Self::Deregister => b"dmux-control-v1 deregister\0",
            Self::Attach => b"dmux-control-v1 attach\0",
        };
        [name, body].concat()
    }
}

/// Writes a message.
pub fn encode(nonce: u64, kind: Kind) -> Result<Vec<u8>, ControlError> {
    let message = ControlMessage { nonce, kind: Some(kind) };
    let length = message.encoded_len();
    if length > MAX_CONTROL { Err(ControlError::TooLong(length)) } else { Ok(message.encode_to_vec()) }
}

/// Reads a message: its nonce and what it is. Allocates at most a small multiple of [`MAX_CONTROL`].
pub fn decode(bytes: &[u8]) -> Result<(u64, Kind), ControlError> {
    if bytes.len() > MAX_CONTROL {
        return Err(ControlError::TooLong(bytes.len()));
    }
    let message = ControlMessage::decode(bytes).map_err(|e| ControlError::Malformed(e.to_string()))?;
    Ok((message.nonce, message.kind.ok_or(ControlError::UnknownKind)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_survive_the_wire() {
        let kinds = [
            Kind::Register(Register { body: vec![1], chain: vec![vec![2; 400], vec![3; 400]], signature: vec![4; 64] }),
            Kind::Challenge(Challenge { cookie: vec![5; 17] }),
            Kind::Accepted(Accepted {
                keepalive_interval_ms: 1,
                expires_after_ms: 2,
                gateway: 3,
                sequence: 4,
                held_ms: 5,
            }),
            Kind::Refused(Refused { code: RefusalCode::Busy.into(), text: "later".into(), retry_after_ms: 500 }),
            Kind::Keepalive(Keepalive { body: vec![6], signature: vec![7; 64] }),
            Kind::KeepaliveAck(KeepaliveAck { sequence: 8, gateway: 9 }),
            Kind::Deregister(Deregister { body: vec![], signature: vec![] }),
            Kind::DeregisterAck(DeregisterAck { sequence: 10 }),
        ];
        for kind in kinds {
            let bytes = encode(11, kind.clone()).unwrap();
            assert_eq!(decode(&bytes), Ok((11, kind)));
        }
    }

    #[test]
    fn the_size_is_bounded_both_ways() {
        let huge = Kind::Challenge(Challenge { cookie: vec![0; MAX_CONTROL] });
        assert!(matches!(encode(0, huge), Err(ControlError::TooLong(_))));
        assert_eq!(decode(&[0; MAX_CONTROL + 1]), Err(ControlError::TooLong(MAX_CONTROL + 1)));
    }

    #[test]
    fn no_kind_is_no_message() {
        assert_eq!(decode(&[]), Err(ControlError::UnknownKind));
        assert!(matches!(decode(&[0xff]), Err(ControlError::Malformed(_))));
    }

    #[test]
    fn domains_separate_signatures() {
        let mut all: Vec<_> = [Domain::Register, Domain::Keepalive, Domain::Deregister, Domain::Attach]
            .map(|d| d.signed_bytes(b"x"))
            .to_vec();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 4);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok((_, Kind::Register(register))) = decode(&bytes) {
                let _ = RegisterBody::decode(&register.body);
            }
            let _ = RegisterBody::decode(&bytes);
            let _ = SessionBody::decode(&bytes);
        }
    }
}
