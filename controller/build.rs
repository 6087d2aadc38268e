//! Generates the operator API's messages and stubs (protox: no protoc needed), and its descriptors for reflection.

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["api", "registry", "access", "metanet"].map(|name| format!("dmux/api/v1/{name}.proto"));
    let descriptors = protox::compile(files, ["../proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("api.binpb");
    std::fs::write(out, descriptors.encode_to_vec())?;
    println!("cargo:rerun-if-changed=../proto/dmux/api/v1");
    tonic_prost_build::configure()
        .type_attribute(".", "#[derive(serde::Serialize)]")
        .type_attribute("dmux.api.v1.Event.what", "#[serde(rename_all = \"snake_case\")]")
        .compile_fds(descriptors)?;
    Ok(())
}
