//! Wrong flags and files: each gets a sentence that says what to do, and no panic.

mod support;

use std::fs;
use std::process::{Command, Output};

fn dmux(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dmux")).args(arguments).output().expect("dmux runs")
}

/// Runs dmux, which must fail with all of these words on stderr.
fn refused(arguments: &[&str], words: &[&str]) {
    let output = dmux(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?} does not say {word:?}: {said}");
    }
}

const CONFIG: &str = r#"
node = 1
data = "data"
authority = "authority.crt"
[gateway]
id = 1
name = "berlin"
address = "192.0.2.1"
[switch]
p4runtime = "127.0.0.1:1"
pipeline = "gateway"
[cluster]
listen = "127.0.0.1:0"
members = { 1 = "127.0.0.1:1" }
[api]
listen = "127.0.0.1:0"
[dmux]
prefix = "198.51.100.0/24"
registration = "198.51.100.2"
services = { 1 = "198.51.100.1" }
[[site.ports]]
number = 1
role = "wan"
mac = "02:00:00:00:00:01"
"#;

#[test]
fn a_wrong_configuration_names_the_key_and_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let file = path.to_str().unwrap();
    let controller = ["controller", "--config", file];
    refused(&controller, &["c.toml", "No such file"]);
    for (from, to, words) in [
        ("node = 1\n", "nodes = 1\n", &["unknown field", "nodes"][..]),
        ("node = 1\n", "node = 0\n", &["node: 0 is not a node id"]),
        ("id = 1\n", "id = 0\n", &["gateway.id"]),
        ("\"192.0.2.1\"", "\"192.0.2.256\"", &["192.0.2.256", "address"]),
        ("[api]\nlisten = \"127.0.0.1:0\"", "[api]\nlisten = \"0.0.0.0:0\"", &["api.listen", "loopback"]),
        ("\"198.51.100.2\"", "\"198.51.101.2\"", &["dmux", "198.51.101.2", "outside"]),
        ("198.51.100.0/24", "198.51.100.1/24", &["did you mean 198.51.100.0/24"]),
        ("{ 1 = \"198.51.100.1\" }", "{ x = \"198.51.100.1\" }", &["dmux.services", "service index"]),
        ("number = 1\n", "number = 511\n", &["site.ports[0].number", "511"]),
        ("02:00:00:00:00:01", "03:00:00:00:00:01", &["site.ports[0].mac"]),
        ("{ 1 = \"127.0.0.1:1\" }", "{ one = \"127.0.0.1:1\" }", &["cluster.members", "node id"]),
    ] {
        assert!(CONFIG.contains(from), "{from}");
        fs::write(&path, CONFIG.replace(from, to)).unwrap();
        refused(&controller, words);
    }
    fs::write(&path, CONFIG).unwrap();
    refused(&controller, &["switch.pipeline", ".json"]);
}

#[test]
fn a_controller_does_not_start_in_an_empty_directory_by_accident() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../bmv2-configs/gateway");
    fs::write(&path, CONFIG.replace("\"gateway\"", &format!("{root:?}"))).unwrap();
    let output = dmux(&["ca", "init", "--out", dir.path().join("ca").to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::copy(dir.path().join("ca/ca.crt"), dir.path().join("authority.crt")).unwrap();
    let file = path.to_str().unwrap();
    refused(&["controller", "--config", file], &["--bootstrap", "--join"]);
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("{ 1 =", "{ 2 =")).unwrap();
    refused(&["controller", "--bootstrap", "--config", file], &["cluster.members", "node 1"]);
}

#[test]
fn wrong_flags_are_refused_with_what_is_right() {
    refused(&["get", "gateways", "--api", "127.0.0.1:1"], &["no controller answers", "--api"]);
    refused(&["switch", "--p4runtime", "here"], &["--p4runtime"]);
    refused(&["switch", "--p4runtime", "127.0.0.1:0", "--pipeline", "/nonexistent/p"], &["/nonexistent/p"]);
    let switch = ["switch", "--p4runtime", "127.0.0.1:0", "--device-id", "1", "--cpu-port", "510", "--port"];
    for (port, word) in
        [("x@lo", "x"), ("1@no-such-interface", "no-such-interface"), ("1@udp:nowhere", "udp:"), ("1", "@")]
    {
        refused(&[&switch[..], &[port]].concat(), &[word]);
    }
    refused(&["access-link", "put", "--gateway", "1", "--name", "a", "--capacity", "100MB"], &["100MB", "bit/s"]);
    refused(&["metanet", "create", "--protocol", "41", "--name", "video"], &["--admit-up-to"]);
    let full = tempfile::tempdir().unwrap();
    fs::write(full.path().join("something"), "x").unwrap();
    refused(&["lab", "--keep", full.path().to_str().unwrap()], &["not empty"]);
    refused(
        &[
            "ca",
            "provider",
            "--ca",
            "/nonexistent",
            "--id",
            "7",
            "--protocol",
            "41",
            "--name",
            "x",
            "--out",
            "/nonexistent/y",
        ],
        &["/nonexistent"],
    );
}

/// What `dmux get` can show, as it says itself.
fn resources() -> Vec<String> {
    let said = dmux(&["get", "nothing-of-this-name"]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let list = said.split("possible values: ").nth(1).and_then(|rest| rest.split(']').next()).expect("a list");
    list.split(", ").map(str::to_owned).collect()
}

#[test]
fn everything_that_can_be_got_is_shown_as_a_table_a_wider_table_and_json() {
    let gateway = support::Gateway::start(1);
    let api = gateway.api.address().to_string();
    let resources = resources();
    assert!(resources.len() >= 4 && resources.iter().any(|r| r == "routers"), "{resources:?}");
    for resource in resources {
        let show = |format: &str| support::succeed(&["get", &resource, "--api", &api, "-o", format]);
        let columns = |text: &str| text.lines().next().unwrap_or_default().split_whitespace().count();
        let (narrow, wide) = (show("table"), show("wide"));
        assert_eq!(narrow, support::succeed(&["get", &resource, "--api", &api]), "a table is what is shown unasked");
        assert!(columns(&narrow) > 1, "{resource}: {narrow}");
        assert!(columns(&wide) > columns(&narrow), "{resource}: {wide}");
        let document: serde_json::Value = serde_json::from_str(&show("json")).expect("JSON");
        assert!(document.is_array(), "{resource}: {document}");
    }
}
