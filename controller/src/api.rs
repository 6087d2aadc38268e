//! The operator API's messages and gRPC stubs (proto/dmux/api/v1).

/// Version 1.
#[allow(missing_docs, clippy::all, rust_2018_idioms)]
pub mod v1 {
    tonic::include_proto!("dmux.api.v1");
}

/// The descriptors of the API (a `google.protobuf.FileDescriptorSet`), which the server shows by reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/api.binpb"));
