//! The committed JSON and P4Info of the test programs are what their sources compile to: a lock file says of which sources.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../softswitch/tests/programs")
}

/// Every file that the lock must know, with its hash.
fn files() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (folder, prefix) in [("", ""), ("include", "include/"), ("undefined", "undefined/")] {
        for file in std::fs::read_dir(directory().join(folder)).expect("the programs are there") {
            let path = file.expect("a directory can be read").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if [".p4", ".json", ".p4info.txtpb"].iter().any(|ending| name.ends_with(ending)) {
                let bytes = std::fs::read(&path).expect("a file can be read");
                let hash = digest(&SHA256, &bytes).as_ref().iter().map(|b| format!("{b:02x}")).collect();
                found.insert(format!("{prefix}{name}"), hash);
            }
        }
    }
    found
}

#[test]
fn json_and_p4info_were_compiled_from_the_sources_beside_them() {
    let text = std::fs::read_to_string(directory().join("programs.lock")).expect("programs.lock is there");
    let lines = text.lines().filter(|l| !l.starts_with('#') && !l.starts_with("p4c "));
    let locked: BTreeMap<String, String> = lines
        .map(|line| line.split_once("  ").unwrap_or_else(|| panic!("a line that is not `SHA-256  path`: {line}")))
        .map(|(hash, name)| (name.to_owned(), hash.to_owned()))
        .collect();
    assert_eq!(
        locked,
        files(),
        "run softswitch/tests/programs/compile.sh (it needs p4c-bm2-ss) and commit the results"
    );
}

#[test]
fn every_program_is_compiled_and_none_is_left_without_its_source() {
    let names = |ending: &str| -> Vec<String> {
        files().keys().filter(|f| !f.contains('/')).filter_map(|f| f.strip_suffix(ending)).map(str::to_owned).collect()
    };
    let sources = names(".p4");
    assert!(sources.len() > 20, "{sources:?}");
    assert_eq!(names(".json"), sources);
    assert_eq!(names(".p4info.txtpb"), sources);
}
