//! The packet tests beside our programs (softswitch/tests/programs), on the embedded switch, and on BMv2 where it is.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::path::{Path, PathBuf};

use dmux_conformance::program::{Program, on_path};
use dmux_conformance::stf::{parse, run};
use dmux_conformance::target::Kind;

/// What BMv2's server cannot load or write, and what depends on when its threads run (the depth of its queues).
const NOT_ON_BMV2: [&str; 3] = ["digest_types", "value_set", "intrinsic"];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../softswitch/tests/programs")
}

fn tests(directory: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path());
    let mut tests: Vec<_> = files.filter(|p| p.extension().is_some_and(|e| e == "stf")).collect();
    tests.sort();
    tests
}

/// What went wrong, by test.
async fn failures(directory: &Path, kind: &Kind, except: &[&str]) -> Vec<String> {
    let mut failed = Vec::new();
    for test in tests(directory) {
        let program = Program::load(&test.with_extension("")).unwrap();
        if except.contains(&program.name.as_str()) {
            continue;
        }
        let commands = parse::parse(&std::fs::read_to_string(&test).unwrap()).unwrap();
        match run(kind, &program, &commands).await {
            Ok(outcome) if outcome.passed() && outcome.refused.is_empty() => {}
            Ok(outcome) => failed.push(format!("{}: {:?} {:?}", program.name, outcome.wrong, outcome.refused)),
            Err(error) => failed.push(format!("{}: {error:#}", program.name)),
        }
    }
    failed
}

#[test]
fn every_program_has_a_test() {
    let programs = Program::load_all(&directory()).unwrap();
    let tested: Vec<String> =
        tests(&directory()).iter().map(|t| t.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    let untested: Vec<_> = programs.iter().filter(|p| !tested.contains(&p.name)).map(|p| &p.name).collect();
    assert_eq!(untested, [""; 0]);
    assert!(tested.len() > 20, "only {} tests", tested.len());
}

#[tokio::test]
async fn the_embedded_switch_does_what_the_tests_say() {
    assert_eq!(failures(&directory(), &Kind::Ours, &[]).await, [""; 0]);
}

/// Indices beyond arrays, assertions that fail: BMv2 does not survive them (docs/bmv2-differences.md).
#[tokio::test]
async fn the_embedded_switch_survives_what_bmv2_leaves_undefined() {
    let undefined = directory().join("undefined");
    assert!(tests(&undefined).len() >= 2, "its tests are gone");
    assert_eq!(failures(&undefined, &Kind::Ours, &[]).await, [""; 0]);
}

#[tokio::test]
#[ignore = "needs simple_switch_grpc on PATH; make test runs it there"]
async fn bmv2_does_what_the_tests_say() {
    let bmv2 = on_path("simple_switch_grpc").expect("simple_switch_grpc (BMv2) is on PATH");
    assert_eq!(failures(&directory(), &Kind::Bmv2(bmv2), &NOT_ON_BMV2).await, [""; 0]);
}
