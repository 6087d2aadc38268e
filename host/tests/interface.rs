//! The substrate's frames on interfaces, inside a network namespace that the test makes for itself.
//!
//! The outer test starts this binary again inside `unshare` and runs the rest of the test there, so nothing of the
//! machine is touched. Where no namespace can be made the test fails and says so.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

use std::process::Command;
use std::time::Duration;

use dmux_host::interface::Interface;
use dmux_wire::ethernet::Vlan;
use dmux_wire::{Ethernet, MacAddr, Substrate, ethernet};
use tokio::time::timeout;

/// Set in the process that is inside the namespace.
const INSIDE: &str = "DMUX_TEST_INSIDE_NAMESPACE";
/// What that process prints when it has come through everything.
const THROUGH: &str = "all of it held";
/// What a test waits for at most.
const PATIENCE: Duration = Duration::from_secs(20);
const FAR: MacAddr = MacAddr([2, 0, 0, 0, 9, 2]);

#[test]
fn substrate_frames_cross_interfaces_with_their_tags() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(inside());
        println!("{THROUGH}");
        return;
    }
    let inner = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--nocapture", "substrate_frames_cross_interfaces_with_their_tags"])
        .env(INSIDE, "1")
        .output()
        .expect("`unshare` (util-linux) is needed to test interfaces");
    let text = format!("{}{}", String::from_utf8_lossy(&inner.stdout), String::from_utf8_lossy(&inner.stderr));
    assert!(
        !text.contains("unshare failed"),
        "no network namespace can be made here: run the tests as root, or allow unprivileged user namespaces\n{text}"
    );
    assert!(inner.status.success() && text.contains(THROUGH), "{text}");
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("`ip` (iproute2) is needed");
    assert!(status.success(), "ip {arguments}");
}

fn frame(dst: MacAddr, vlan: Option<Vlan>, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    Ethernet { dst, src: MacAddr([2, 0, 0, 0, 9, 1]), vlan, ether_type }.emit(&mut frame);
    Substrate::new(7).emit(&mut frame);
    frame.extend(payload);
    frame
}

async fn inside() {
    ip("link add lan type veth peer name far");
    ip(&format!("link set far address {FAR}"));
    ip("link set lan up");
    let (lan, far) = (Interface::open("lan").unwrap(), Interface::open("far").unwrap());
    assert_eq!(far.mac(), FAR);
    // A cable that is not there loses frames, as cables do.
    lan.send(&frame(FAR, None, ethernet::SUBSTRATE, b"lost")).await.unwrap();
    ip("link set far up");

    let vlan = Some(Vlan { pcp: 5, dei: false, vid: 100 });
    let legacy = frame(FAR, vlan, 0x88b6, b"not of the substrate");
    let tagged = frame(FAR, vlan, ethernet::SUBSTRATE, &[1; 1400]);
    let plain = frame(MacAddr::BROADCAST, None, ethernet::SUBSTRATE, b"plain");
    for frame in [&legacy, &tagged, &plain] {
        lan.send(frame).await.unwrap();
    }
    let mut buffer = [0; 2048];
    for expected in [&tagged, &plain] {
        let length = timeout(PATIENCE, far.receive(&mut buffer)).await.expect("a frame").unwrap();
        assert_eq!(&buffer[..length], &expected[..]);
    }
    // Its own frames are not for it: what arrives next is the answer, and not what it sent.
    far.send(&tagged).await.unwrap();
    let length = timeout(PATIENCE, lan.receive(&mut buffer)).await.expect("a frame").unwrap();
    assert_eq!(&buffer[..length], &tagged[..]);
    lan.send(&plain).await.unwrap();
    let length = timeout(PATIENCE, far.receive(&mut buffer)).await.expect("a frame").unwrap();
    assert_eq!(&buffer[..length], &plain[..]);

    let error = Interface::open("nowhere").unwrap_err().to_string();
    assert!(error.contains("nowhere: there is none"), "{error}");
}
