//! Compiles the transport's messages with a compiler in pure Rust: nobody needs protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../proto";
    let file = "dmux/raft/v1/raft.proto";
    println!("cargo:rerun-if-changed={root}/{file}");
    let descriptors = protox::compile([file], [root])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
