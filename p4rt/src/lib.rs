//! P4Runtime messages, P4Info model, canonical byte strings and the client session.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`p4`] | messages and gRPC stubs (client and server), generated from `proto/p4` |
//! | [`p4info`] | a P4Info, checked and indexed by id and by name |
//! | [`bytestring`] | P4Runtime's byte strings (specification §8.3), canonical and padded |
//! | [`role`] | roles and their configuration (§5.2) |
//! | [`status`] | the per-update results of a Write inside a gRPC status (§12.3) |
//! | [`client`] | one controller's session with one switch |
//!
//! Nothing here knows a program: names of tables come from the P4Info.

pub mod bytestring;
pub mod client;
mod election;
pub mod p4info;
pub mod role;
pub mod status;

pub use election::ElectionId;
pub use p4info::P4Info;
pub use role::{Role, RoleConfig};

/// The messages and gRPC stubs of P4Runtime, generated from `proto/p4`.
#[allow(missing_docs, clippy::all, rust_2018_idioms, rustdoc::all)]
pub mod p4 {
    /// `p4.v1`: the service and its messages.
    pub mod v1 {
        tonic::include_proto!("p4.v1");
    }
    /// The description of a compiled program.
    pub mod config {
        /// `p4.config.v1`: P4Info and its types.
        pub mod v1 {
            tonic::include_proto!("p4.config.v1");
        }
    }
}

/// The serialized `FileDescriptorSet` of everything in [`p4`]: for reflection and for text format.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/p4runtime.descriptors"));
