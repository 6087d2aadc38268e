//! The whole system, as a person runs it: switches, controllers and routers as processes, killed for real.

use std::process::Command;

use serde_json::Value;

/// The steps that the lab must have gone through, in order.
const STEPS: [&str; 10] = [
    "start",
    "registrations",
    "latencies",
    "closest_router",
    "named_provider",
    "explained",
    "killed_router",
    "killed_leader",
    "returned_leader",
    "wiped_switch",
];

#[test]
fn every_step_of_the_lab_holds() {
    let captures = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_dmux"))
        .args(["lab", "--json", "--pcap"])
        .arg(captures.path())
        .output()
        .expect("the lab starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    let steps = document["steps"].as_array().expect("steps");
    let failed: Vec<_> = steps.iter().filter(|s| s["ok"] != true).collect();
    assert!(failed.is_empty(), "{failed:#?}\n{said}");
    let names: Vec<_> = steps.iter().map(|s| s["name"].as_str().unwrap_or("")).collect();
    assert_eq!(names, STEPS);
    assert!(output.status.success(), "{said}");
    assert_eq!(document["ok"], true);

    // Six hosts and three links between gateways, each written once, and each with packets in it.
    let mut files = 0;
    for file in std::fs::read_dir(captures.path()).unwrap() {
        let file = file.unwrap().path();
        let bytes = std::fs::read(&file).unwrap();
        assert!(bytes.len() > 24 + 16, "{} holds no packet", file.display());
        files += 1;
    }
    assert_eq!(files, 9);
}
