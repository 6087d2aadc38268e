//! A short run of the differential harness: the same cases each time. `make conformance` runs more of them.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::path::Path;

use dmux_conformance::diff::{Case, compare};
use dmux_conformance::program::{Program, on_path};

/// Programs whose every feature the embedded switch has.
const PROGRAMS: [&str; 9] = [
    "casts",
    "checksum",
    "const_entries",
    "control_flow",
    "parser_errors",
    "parser_lookahead",
    "router",
    "saturating",
    "signed",
];

#[tokio::test]
#[ignore = "needs simple_switch_grpc on PATH; make test runs it there"]
async fn generated_entries_and_frames_do_the_same_on_bmv2() {
    let bmv2 = on_path("simple_switch_grpc").expect("simple_switch_grpc (BMv2) is on PATH");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../softswitch/tests/programs");
    for name in PROGRAMS {
        let program = Program::load(&directory.join(name)).unwrap();
        let report = compare(&bmv2, &program, &Case::new(&program, 1, 64).unwrap()).await.unwrap();
        assert_eq!(report.differences, [""; 0], "{name}");
        assert_eq!(report.sent, 64, "{name}");
    }
}
