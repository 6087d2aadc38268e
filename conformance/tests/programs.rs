//! The packet tests beside our programs (softswitch/tests/programs), on the embedded switch, and on BMv2 where it is.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::path::{Path, PathBuf};

use dmux_conformance::program::{Program, on_path};
use dmux_conformance::stf::{parse, run};
use dmux_conformance::target::Kind;

/// Written through P4Runtime, which BMv2's server cannot do.
const BMV2_CANNOT: [&str; 1] = ["value_set"];

/// Programs with features that the embedded switch may still refuse when it loads them. What it loads must pass.
const MAY_BE_REFUSED: [&str; 7] =
    ["action_profile", "clone", "digest", "multicast", "recirculate", "resubmit", "selector"];

fn tests() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../softswitch/tests/programs");
    let files = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path());
    let mut tests: Vec<_> = files.filter(|p| p.extension().is_some_and(|e| e == "stf")).collect();
    tests.sort();
    tests
}

/// Whether the switch said that it does not know a feature, which is not the same as doing it wrong.
fn is_refusal(text: &str) -> bool {
    text.contains("is not supported by the embedded switch") || text.contains("are not supported by this switch")
}

/// What went wrong, by test.
async fn failures(kind: &Kind, except: &[&str]) -> Vec<String> {
    let mut failed = Vec::new();
    let may_refuse = |name: &str| *kind == Kind::Ours && MAY_BE_REFUSED.contains(&name);
    for test in tests() {
        let program = Program::load(&test.with_extension("")).unwrap();
        if except.contains(&program.name.as_str()) {
            continue;
        }
        let commands = parse::parse(&std::fs::read_to_string(&test).unwrap()).unwrap();
        match run(kind, &program, &commands).await {
            Ok(outcome) if outcome.passed() && outcome.refused.is_empty() => {}
            Ok(outcome) if may_refuse(&program.name) && outcome.refused.iter().any(|r| is_refusal(r)) => {}
            Err(error) if may_refuse(&program.name) && is_refusal(&format!("{error:#}")) => {}
            Ok(outcome) => failed.push(format!("{}: {:?} {:?}", program.name, outcome.wrong, outcome.refused)),
            Err(error) => failed.push(format!("{}: {error:#}", program.name)),
        }
    }
    failed
}

#[test]
fn every_program_has_a_test() {
    let programs = Program::load_all(tests()[0].parent().unwrap()).unwrap();
    let tested: Vec<String> = tests().iter().map(|t| t.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    let untested: Vec<_> = programs.iter().filter(|p| !tested.contains(&p.name)).map(|p| &p.name).collect();
    assert_eq!(untested, [""; 0]);
    assert!(tested.len() > 20, "only {} tests", tested.len());
}

#[tokio::test]
async fn the_embedded_switch_does_what_the_tests_say() {
    assert_eq!(failures(&Kind::Ours, &[]).await, [""; 0]);
}

#[tokio::test]
#[ignore = "needs simple_switch_grpc on PATH; make test runs it there"]
async fn bmv2_does_what_the_tests_say() {
    let bmv2 = on_path("simple_switch_grpc").expect("simple_switch_grpc (BMv2) is on PATH");
    assert_eq!(failures(&Kind::Bmv2(bmv2), &BMV2_CANNOT).await, [""; 0]);
}
