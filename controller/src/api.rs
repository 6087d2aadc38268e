//! The operator API's messages and gRPC stubs (proto/dmux/api/v1: `Dmux`, `Registry` and `Access`).

/// Version 1.
#[allow(missing_docs, clippy::all, rust_2018_idioms)]
pub mod v1 {
    tonic::include_proto!("dmux.api.v1");
}

/// The descriptors of the API (a `google.protobuf.FileDescriptorSet`), which the server shows by reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/api.binpb"));

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn every_call_says_what_it_does() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/dmux/api/v1");
        let mut seen = 0;
        for file in std::fs::read_dir(dir).expect("the API's proto files") {
            let path = file.expect("a file").path();
            let text = std::fs::read_to_string(&path).expect("its text");
            let mut before = "";
            for line in text.lines().map(str::trim) {
                if line.starts_with("rpc ") {
                    assert!(before.starts_with("// "), "{}: no comment above `{line}`", path.display());
                    seen += 1;
                }
                before = line;
            }
        }
        assert!(seen >= 9, "only {seen} seen");
    }
}
