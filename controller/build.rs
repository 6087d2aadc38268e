//! Generates the operator API's messages and stubs (protox: no protoc needed), and its descriptors for reflection.

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["dmux/api/v1/api.proto"];
    let descriptors = protox::compile(files, ["../proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("api.binpb");
    std::fs::write(out, descriptors.encode_to_vec())?;
    for file in files {
        println!("cargo:rerun-if-changed=../proto/{file}");
    }
    tonic_prost_build::configure().type_attribute(".", "#[derive(serde::Serialize)]").compile_fds(descriptors)?;
    Ok(())
}
