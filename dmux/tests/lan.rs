//! A gateway whose switch bridges an access LAN: hosts on three of its ports, and what each of them sees.

mod support;

use dmux_wire::{Ethernet, MacAddr, Substrate, Vlan, ethernet};
use support::{Gateway, host_mac, wait};

/// IEEE 802, local experimental 2: nothing of ours.
const LEGACY: u16 = 0x88b6;

fn frame(src: MacAddr, dst: MacAddr, vlan: Option<Vlan>, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    Ethernet { dst, src, vlan, ether_type }.emit(&mut frame);
    frame.extend(payload);
    frame
}

/// From the host on a port to that on another.
fn legacy(from: u16, to: u16, text: &str) -> Vec<u8> {
    frame(host_mac(from), host_mac(to), None, LEGACY, text.as_bytes())
}

fn to_all(from: u16, text: &str) -> Vec<u8> {
    frame(host_mac(from), MacAddr::BROADCAST, None, LEGACY, text.as_bytes())
}

/// On a VLAN, with a substrate header.
fn substrate(from: u16, to: u16, vid: u16, mli: u32) -> Vec<u8> {
    let mut payload = Vec::new();
    Substrate::new(mli).emit(&mut payload);
    let vlan = Some(Vlan { pcp: 5, dei: false, vid });
    frame(host_mac(from), host_mac(to), vlan, ethernet::SUBSTRATE, &payload)
}

fn stations_are(gateway: &Gateway, count: u64) {
    wait(&format!("{count} stations are in the switch"), || {
        let switch = gateway.api.switch()?;
        let holds = |table: &str| switch.tables.iter().any(|t| t.table == table && t.entries == count);
        (switch.state == "synced" && holds("lan_source") && holds("lan_forward")).then_some(())
    });
}

/// Frames of one port stay in order, so what is seen before a broadcast that follows is all there is to see.
fn reaches_only(gateway: &Gateway, from: u16, frame: &[u8], to: Option<u16>) {
    let fence = to_all(from, "fence");
    gateway.send(from, frame);
    gateway.send(from, &fence);
    for port in [1, 2, 3].into_iter().filter(|&port| port != from) {
        if to == Some(port) {
            assert_eq!(gateway.receive(port, "the frame"), frame, "to port {port}");
        }
        assert_eq!(gateway.receive(port, "the fence"), fence, "to port {port}");
    }
}

#[test]
fn a_lan_is_flooded_until_its_stations_are_learnt() {
    let gateway = Gateway::start_lan(3);
    let first = legacy(1, 2, "who are you?");
    gateway.send(1, &first);
    for port in [2, 3] {
        assert_eq!(gateway.receive(port, "a flooded frame"), first);
    }
    stations_are(&gateway, 1);
    // The answer finds its way, and the next question, too.
    reaches_only(&gateway, 2, &legacy(2, 1, "me"), Some(1));
    stations_are(&gateway, 2);
    reaches_only(&gateway, 1, &legacy(1, 2, "are you?"), Some(2));
    // A group address is no station, and the provisioned VLAN is not bridged.
    let from_group = frame(MacAddr([3, 0, 0, 0, 0, 1]), MacAddr::BROADCAST, None, LEGACY, b"a group");
    gateway.send(1, &from_group);
    for port in [2, 3] {
        assert_eq!(gateway.receive(port, "a frame from a group"), from_group);
    }
    reaches_only(&gateway, 1, &substrate(1, 2, 100, 7), None);
    // Nor does a metanet that nobody set up get through on the multipoint VLAN.
    reaches_only(&gateway, 1, &substrate(1, 2, 200, 7), None);
    stations_are(&gateway, 2);
    let drops = gateway.api.switch().expect("the switch").drops;
    for reason in ["not_for_us", "unknown_metalink"] {
        assert!(drops.iter().any(|drop| drop.reason == reason && drop.packets == 1), "{reason}: {drops:?}");
    }

    // A station that moves is found where it is now.
    let moved = frame(host_mac(1), MacAddr::BROADCAST, None, LEGACY, b"I moved");
    gateway.send(3, &moved);
    for port in [1, 2] {
        assert_eq!(gateway.receive(port, "the news"), moved);
    }
    let there = legacy(2, 1, "there?");
    wait("the station is found at port 3", || {
        gateway.send(2, &there);
        gateway.try_receive(3).filter(|frame| *frame == there).map(drop)
    });
    stations_are(&gateway, 2);
}

#[test]
fn stations_and_groups_outlive_the_controller_and_the_switch() {
    let mut gateway = Gateway::start_lan(3);
    for port in [1, 2] {
        gateway.send(port, &to_all(port, "here"));
    }
    stations_are(&gateway, 2);
    // Of nobody's doing but its own: no frame is sent until the end.
    gateway.controller.kill();
    gateway.restart_controller();
    stations_are(&gateway, 2);
    gateway.switch.kill();
    wait("the switch is missed", || gateway.api.switch().filter(|switch| switch.state != "synced"));
    gateway.restart_switch();
    stations_are(&gateway, 2);
    while [1, 2, 3].into_iter().any(|port| gateway.try_receive(port).is_some()) {}
    reaches_only(&gateway, 2, &legacy(2, 1, "still there?"), Some(1));
}
