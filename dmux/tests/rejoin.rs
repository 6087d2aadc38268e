//! A controller whose directory is lost comes back under a new node id, and under no other.

mod support;

use std::net::SocketAddr;
use std::path::Path;

use support::{Api, Process, free_addresses, refused, succeed, wait};

struct Controller {
    node: u64,
    gateway: u16,
    raft: SocketAddr,
    api: SocketAddr,
}

impl Controller {
    /// Its configuration; it has no switch, which is no reason not to run.
    fn configure(&self, dir: &Path, members: &str, absent: SocketAddr) {
        let Self { node, gateway, raft, api } = self;
        let config = format!(
            "node = {node}\ndata = \"data{node}\"\nauthority = \"authority/ca.crt\"\n\
             [gateway]\nid = {gateway}\nname = \"g{gateway}\"\naddress = \"192.0.2.{gateway}\"\n\
             [switch]\np4runtime = \"{absent}\"\npipeline = {:?}\n\
             [cluster]\nlisten = \"{raft}\"\nheartbeat_ms = 50\nmembers = {{ {members} }}\n\
             [api]\nlisten = \"{api}\"\n\
             [dmux]\nprefix = \"198.51.100.0/24\"\nregistration = \"198.51.100.2\"\nservices = {{ 1 = \"198.51.100.1\" }}\n\
             [[site.ports]]\nnumber = 1\nrole = \"wan\"\nmac = \"02:00:00:00:00:0{gateway}\"\n",
            concat!(env!("CARGO_MANIFEST_DIR"), "/../bmv2-configs/gateway"),
        );
        std::fs::write(dir.join(format!("c{node}.toml")), config).expect("written");
    }

    fn start(&self, dir: &Path, how: &[&str]) -> Process {
        let config = dir.join(format!("c{}.toml", self.node)).display().to_string();
        let mut arguments = vec!["controller".to_owned(), "--config".into(), config];
        arguments.extend(how.iter().map(|&s| s.to_owned()));
        Process::start(dir, &format!("c{}", self.node), &arguments)
    }
}

/// The node and role of each gateway, once there is a leader and every gateway has a role.
fn roles(api: &Api) -> Option<Vec<(u32, u64, String)>> {
    let gateways = api.gateways()?;
    let settled = gateways.len() == 3
        && gateways.iter().any(|g| g.role == "leader")
        && gateways.iter().all(|g| g.role == "leader" || g.role == "follower");
    settled.then(|| gateways.into_iter().map(|g| (g.id, g.node, g.role)).collect())
}

#[test]
fn a_lost_node_is_refused_under_its_old_id_and_replaced_under_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    succeed(&["ca", "init", "--out", dir.join("authority").to_str().unwrap()]);
    let free = free_addresses(9);
    let controller =
        |node: u64, gateway: u16, at: usize| Controller { node, gateway, raft: free[at], api: free[at + 1] };
    let first = [controller(1, 1, 0), controller(2, 2, 2), controller(3, 3, 4)];
    let members: Vec<_> = first.iter().map(|c| format!("{} = \"{}\"", c.node, c.raft)).collect();
    let members = members.join(", ");
    let mut running = Vec::new();
    for c in &first {
        c.configure(dir, &members, free[8]);
        running.push(c.start(dir, &["--bootstrap"]));
    }
    let api = Api::new(first[0].api);
    wait("three controllers form a cluster", || roles(&api));

    let mut lost = running.pop().unwrap();
    lost.kill();
    let explain = ["explain", "--client", "203.0.113.9", "--protocol", "41", "--api", &first[0].api.to_string()];
    refused(&[&explain[..], &["--gateway", "3"]].concat(), &["gateway 3 (g3)", "does not answer"]);
    refused(&[&explain[..], &["--gateway", "4"]].concat(), &["no gateway 4", "1 (g1)", "3 (g3)"]);
    refused(&[&explain[..], &["--gateway", "2"]].concat(), &["protocol 41", "no router"]);
    std::fs::remove_dir_all(dir.join("data3")).unwrap();
    let mut again = first[2].start(dir, &[]);
    assert!(!again.ended(), "an empty directory must not start by itself");
    assert!(again.log().contains("--join"), "{}", again.log());
    let mut again = first[2].start(dir, &["--bootstrap"]);
    assert!(!again.ended(), "a voter that forgot its votes must not vote again");
    assert!(again.log().contains("new node id"), "{}", again.log());

    let replacement = controller(4, 3, 6);
    replacement.configure(dir, &members, free[8]);
    let seed = first[0].raft.to_string();
    let replacement_process = replacement.start(dir, &["--join", &seed, "--replaces", "3"]);
    let now = wait("gateway 3 has a new controller", || {
        roles(&api).filter(|r| r.iter().any(|(gateway, node, _)| (*gateway, *node) == (3, 4)))
    });
    assert_eq!(now.iter().map(|(gateway, node, _)| (*gateway, *node)).collect::<Vec<_>>(), [(1, 1), (2, 2), (3, 4)]);
    let there = wait("the new node holds the state", || roles(&Api::new(replacement.api)));
    assert_eq!(there.len(), 3);
    drop(replacement_process);
}
