//! Generates the control messages with protox, so that nobody needs protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let root = "../proto";
    let files = ["../proto/dmux/control/v1/control.proto", "../proto/dmux/control/v1/metalink.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, [root])?;
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}
