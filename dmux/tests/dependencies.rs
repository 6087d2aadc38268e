//! Who may depend on whom (DESIGN §9): an edge that the design does not have fails here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Each crate and what it may use of ours. `dmux` and `dmux-bench` wire things together and may use all.
const ALLOWED: &[(&str, &[&str])] = &[
    ("dmux-wire", &[]),
    ("dmux-raft-store", &[]),
    ("dmux-p4rt", &[]),
    ("dmux-tables", &["dmux-p4rt", "dmux-wire"]),
    ("dmux-softswitch", &["dmux-p4rt", "dmux-wire"]),
    ("dmux-controller", &["dmux-raft-store", "dmux-tables", "dmux-p4rt", "dmux-wire"]),
    ("dmux-host", &["dmux-wire"]),
    ("dmux-simtest", &["dmux-controller", "dmux-host", "dmux-p4rt", "dmux-raft-store", "dmux-tables", "dmux-wire"]),
    ("dmux-conformance", &["dmux-softswitch", "dmux-p4rt", "dmux-wire"]),
];
const FREE: &[&str] = &["dmux", "dmux-bench"];

#[test]
fn no_crate_depends_on_one_that_it_may_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let ours: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();

    let mut seen = 0;
    for package in packages {
        let name = package["name"].as_str().expect("name");
        if FREE.contains(&name) {
            continue;
        }
        let may = allowed.get(name).unwrap_or_else(|| panic!("{name} is new: say here what it may depend on"));
        // Of every kind: a development dependency is an edge too.
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let on = dependency["name"].as_str().expect("name");
            if ours.contains(on) {
                assert!(may.contains(&on), "{name} depends on {on}; DESIGN §9 allows {may:?}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 6, "only {seen} edges seen: is the metadata read rightly?");
}
