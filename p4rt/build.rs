//! Compiles the P4Runtime messages and stubs with protox, so that nobody needs protoc.

use std::path::PathBuf;

use prost::Message;

type Error = Box<dyn std::error::Error>;

const SOURCES: [&str; 4] =
    ["p4/config/v1/p4types.proto", "p4/config/v1/p4info.proto", "p4/v1/p4data.proto", "p4/v1/p4runtime.proto"];

fn main() -> Result<(), Error> {
    let proto = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../proto");
    for source in SOURCES.iter().chain(&["google/rpc/status.proto"]) {
        println!("cargo:rerun-if-changed={}", proto.join(source).display());
    }
    let descriptors = protox::compile(SOURCES, [&proto])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // Comments become documentation below; at run time nobody reads them.
    let mut plain = descriptors.clone();
    for file in &mut plain.file {
        file.source_code_info = None;
    }
    std::fs::write(out.join("p4runtime.descriptors"), plain.encode_to_vec())?;

    tonic_prost_build::configure()
        .extern_path(".google.rpc", "::tonic_types::pb")
        // Packets pass through several tasks: let them share one allocation.
        .bytes(".p4.v1.PacketIn.payload")
        .bytes(".p4.v1.PacketOut.payload")
        .compile_fds(descriptors)?;
    Ok(())
}
