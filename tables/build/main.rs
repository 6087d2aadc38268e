//! Generates the typed tables from `bmv2-configs/gateway.p4info.txtpb`.
//!
//! `p4info` reads the parts of a P4Info that matter here, `rules` decides which Rust type a field has, `order` which table
//! is written before which, `emit` writes the code. The generator knows no table of the program by itself: what it knows
//! by name is in `rules`, and everything else that it does not understand stops the build with a sentence.

mod emit;
mod order;
mod p4info;
mod rules;

use std::path::PathBuf;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let source = here.join("../bmv2-configs/gateway.p4info.txtpb");
    let proto = here.join("../proto");
    println!("cargo:rerun-if-changed={}", source.display());
    println!("cargo:rerun-if-changed={}", proto.join("p4/config/v1").display());

    let text = std::fs::read_to_string(&source)
        .map_err(|e| format!("cannot read {}: {e}; `make p4` writes it", source.display()))?;
    let info = p4info::parse(&text, &proto)?;
    let code = emit::tables(&info)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("tables.rs"), code)?;
    Ok(())
}
