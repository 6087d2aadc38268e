//! Short runs of the fuzzers: the same rounds each time. `make fuzz` runs longer ones.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::path::{Path, PathBuf};

use dmux_conformance::dice::Dice;
use dmux_conformance::fuzz::{Until, json, packets, rounds};
use dmux_conformance::program::Program;

fn programs() -> Vec<Program> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let directories: [PathBuf; 2] = [root.join("bmv2-configs"), root.join("softswitch/tests/programs")];
    directories.iter().flat_map(|d| Program::load_all(d).unwrap()).collect()
}

#[test]
fn mutants_of_the_programs_are_refused_or_run() {
    let trees: Vec<_> = programs().iter().map(|p| p.tree().unwrap()).collect();
    let found = rounds(&Dice::new(2026), 0, Until::Rounds(400), |dice| json::round(&trees, dice));
    assert_eq!(found, Ok(400));
}

#[test]
fn frames_do_the_same_with_and_without_the_optimizer() {
    let loads = |p: &Program| dmux_softswitch::pipeline::Program::compile(&p.json).is_ok();
    let subject = |p: &Program| packets::Subject::new(&p.name, &p.json, p.tree().unwrap());
    let subjects: Vec<_> = programs().iter().filter(|p| loads(p)).filter_map(subject).collect();
    assert!(subjects.len() > 10, "only {} programs load", subjects.len());
    let found = rounds(&Dice::new(2026), 0, Until::Rounds(300), |dice| packets::round(&subjects, dice));
    assert_eq!(found, Ok(300));
}

/// Found by the JSON fuzzer: fields of the standard metadata that the switch itself uses were not checked for their width.
#[test]
fn an_egress_port_wider_than_a_word_is_refused_at_load() {
    let router = programs().into_iter().find(|p| p.name == "router").unwrap();
    let text = String::from_utf8(router.json).unwrap();
    let wide = text.replacen("[\"egress_port\",9,false]", "[\"egress_port\",65,false]", 1);
    assert_ne!(wide, text);
    let error = dmux_softswitch::pipeline::Program::compile(wide.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("egress_port"), "{error}");
}
