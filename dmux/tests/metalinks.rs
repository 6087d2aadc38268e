//! Metalinks through a whole gateway: what is claimed is what the switch does.

mod support;

use std::net::Ipv6Addr;

use dmux_wire::ipv6::Echo;
use dmux_wire::{Ethernet, MacAddr, Substrate, Vlan, ethernet};
use support::{GATEWAY_MAC, Gateway, host_address, host_mac, refused, succeed, wait};

const ROUTER: u16 = 3;
const VID: u16 = 100;

fn echo(reply: bool, sequence: u16) -> Vec<u8> {
    let (me, you) = (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));
    let echo = Echo { reply, identifier: 1, sequence, data: &[7; 40] };
    let (from, to) = if reply { (you, me) } else { (me, you) };
    echo.packet(from, to).expect("a packet")
}

/// A metaframe to the gateway, as the endpoint with this address sends it.
fn metaframe(src: MacAddr, vid: u16, mli: u32, packet: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let vlan = Some(Vlan { pcp: 0, dei: false, vid });
    Ethernet { dst: GATEWAY_MAC, src, vlan, ether_type: ethernet::SUBSTRATE }.emit(&mut frame);
    Substrate::new(mli).emit(&mut frame);
    frame.extend(packet);
    frame
}

/// What a metalink brings to the endpoint on a port.
fn delivered(frame: &[u8]) -> Option<(Ethernet, u32, Vec<u8>)> {
    let (header, rest) = Ethernet::parse(frame).ok()?;
    let (substrate, packet) = Substrate::parse(rest).ok().filter(|_| header.ether_type == ethernet::SUBSTRATE)?;
    Some((header, substrate.mli, packet.to_vec()))
}

struct Operator<'a>(&'a Gateway);

impl Operator<'_> {
    fn does(&self, line: &str) -> String {
        let api = self.0.api.address().to_string();
        succeed(&line.split_whitespace().chain(["--api", &api]).collect::<Vec<_>>())
    }

    fn may_not(&self, line: &str, words: &[&str]) {
        let api = self.0.api.address().to_string();
        refused(&line.split_whitespace().chain(["--api", &api]).collect::<Vec<_>>(), words);
    }

    /// Whether the endpoint on a port reaches the router and hears of it, in one metalink.
    fn answers(&self, port: u16, mli: u32, sequence: u16) {
        let question = metaframe(host_mac(port), VID, mli, &echo(false, sequence));
        let (header, by, packet) = self.0.ask(port, &question, "an answer by the metalink", |frame| {
            delivered(frame).filter(|(_, _, packet)| *packet == echo(true, sequence))
        });
        assert_eq!((by, packet), (mli, echo(true, sequence)));
        assert_eq!((header.src, header.dst), (GATEWAY_MAC, host_mac(port)));
        assert_eq!(header.vlan, Some(Vlan { pcp: 5, dei: false, vid: VID }));
    }

    fn drops(&self, reason: &str) -> u64 {
        let drops = self.0.api.switch().expect("the switch").drops;
        drops.iter().find(|drop| drop.reason == reason).map_or(0, |drop| drop.packets)
    }

    /// The switch drops the frame for this reason.
    fn dropped(&self, port: u16, frame: &[u8], reason: &str) {
        let before = self.drops(reason);
        self.0.send(port, frame);
        wait(&format!("a frame is dropped as {reason}"), || (self.drops(reason) == before + 1).then_some(()));
    }
}

#[test]
fn what_is_claimed_passes_until_it_is_revoked_and_nothing_else_does() {
    let mut gateway = Gateway::start_access();
    let _router = gateway.router(ROUTER, host_address(ROUTER));
    wait("the router is registered", || gateway.api.routers().filter(|r| r.len() == 1));
    let operator = Operator(&gateway);
    operator.does("access-link put --gateway 1 --name lan --capacity 100M");
    operator.does("metanet create --protocol 41 --name ipv6 --by-operator");
    let claim = |port: u16, rate: &str| {
        let mac = host_mac(port);
        let line =
            format!("metalink claim --gateway 1 --link lan --port {port} --mac {mac} --protocol 41 --rate {rate}");
        operator.does(&format!("{line} --lease long"))
    };
    let nobody = metaframe(host_mac(1), VID, 1, &echo(false, 0));
    operator.dropped(1, &nobody, "unknown_endpoint");
    assert!(claim(1, "15M").contains("metalink 1 of gateway 1"));
    assert!(claim(2, "10M").contains("metalink 2 of gateway 1"));
    operator.answers(1, 1, 1);
    operator.answers(2, 2, 2);

    // Somebody else's MLI, none's, the wrong VLAN, port and address.
    operator.dropped(1, &metaframe(host_mac(1), VID, 2, &echo(false, 3)), "unknown_metalink");
    operator.dropped(1, &metaframe(host_mac(1), VID, 9, &echo(false, 3)), "unknown_metalink");
    operator.dropped(1, &metaframe(host_mac(1), 300, 1, &echo(false, 3)), "wrong_vlan");
    operator.dropped(2, &metaframe(host_mac(1), VID, 1, &echo(false, 3)), "unknown_endpoint");
    operator.dropped(1, &metaframe(host_mac(9), VID, 1, &echo(false, 3)), "unknown_endpoint");
    operator.answers(1, 1, 4);

    operator.does("metalink revoke --gateway 1 --mli 1");
    wait("the metalink is gone from the switch", || {
        let switch = gateway.api.switch()?;
        let holds = |table: &str, count: u64| switch.tables.iter().any(|t| t.table == table && t.entries == count);
        (holds("endpoint", 1) && holds("metalink_rx", 2) && holds("metalink_tx", 1)).then_some(())
    });
    operator.dropped(1, &metaframe(host_mac(1), VID, 1, &echo(false, 5)), "unknown_endpoint");
    operator.answers(2, 2, 6);
    // A controller that starts anew changes nothing, and an empty switch is filled again.
    gateway.controller.kill();
    gateway.restart_controller();
    gateway.api.synced();
    Operator(&gateway).answers(2, 2, 7);
    gateway.switch.kill();
    wait("the switch is missed", || gateway.api.switch().filter(|switch| switch.state != "synced"));
    gateway.restart_switch();
    Operator(&gateway).answers(2, 2, 8);
}

#[test]
fn a_claim_that_cannot_be_programmed_is_given_back_with_its_reason() {
    let gateway = Gateway::start_access();
    let operator = Operator(&gateway);
    let mut events = gateway.api.watch();
    for name in ["lan", "attic"] {
        operator.does(&format!("access-link put --gateway 1 --name {name} --capacity 10M"));
    }
    operator.does("metanet create --protocol 41 --name ipv6 --by-operator");
    let claim = |link: &str, port: u16| {
        let mac = host_mac(port);
        format!(
            "metalink claim --gateway 1 --link {link} --port {port} --mac {mac} --protocol 41 --rate 10M --lease long"
        )
    };
    let no_link = "site configuration has no access link \"attic\"";
    operator.may_not(&claim("attic", 1), &["could not program its switch", no_link]);
    operator.may_not(&claim("lan", 3), &["port 3 is not one of access link \"lan\""]);
    let told = gateway.api.next(&mut events, "an event", |event| match &event.what {
        Some(dmux_controller::api::v1::event::What::Metalink(event)) => Some(event.clone()),
        _ => None,
    });
    assert_eq!((told.kind.as_str(), told.mac), ("given back", host_mac(1).to_string()));
    assert!(told.detail.contains(no_link), "{}", told.detail);
    // All of the capacity is there again, and what is answered is in the switch.
    let said = operator.does(&claim("lan", 1));
    assert!(said.contains("10 Mbit/s") && !said.contains("not in the switch"), "{said}");
    let switch = gateway.api.switch().expect("the switch");
    assert!(switch.tables.iter().any(|t| t.table == "metalink_tx" && t.entries == 1), "{:?}", switch.tables);
    assert_eq!((switch.state.as_str(), switch.refused), ("synced", 0));
}

#[test]
fn what_is_used_of_a_promise_is_shown_and_what_goes_beyond_is_told() {
    let gateway = Gateway::start_access();
    let operator = Operator(&gateway);
    let mut events = gateway.api.watch();
    operator.does("access-link put --gateway 1 --name lan --capacity 10M");
    operator.does("metanet create --protocol 41 --name ipv6 --by-operator");
    let mac = host_mac(1);
    let claim = format!("metalink claim --gateway 1 --link lan --port 1 --mac {mac} --protocol 41");
    operator.does(&format!("{claim} --rate 8001 --lease long"));
    // A burst holds two large frames; what is sent at once beyond that is dropped and told.
    let large = metaframe(mac, VID, 1, &[0; 1400]);
    let told = wait("the violation is told", || {
        (0..8).for_each(|_| gateway.send(1, &large));
        let switch = gateway.api.switch()?;
        switch.drops.iter().any(|drop| drop.reason == "metalink_rate").then_some(())?;
        Some(gateway.api.next(&mut events, "a violation", |event| match &event.what {
            Some(dmux_controller::api::v1::event::What::Metalink(event)) => Some(event.clone()),
            _ => None,
        }))
    });
    assert_eq!((told.kind.as_str(), told.mli, told.port, told.mac), ("violation", 1, 1, mac.to_string()));
    let wide = operator.does("get metalinks -o wide");
    for word in ["8001 bit/s", "8008 bit/s", "+7 bit/s", " 0 to it"] {
        assert!(wide.contains(word), "{word}: {wide}");
    }
    let endpoints: serde_json::Value = serde_json::from_str(&operator.does("get endpoints -o json")).expect("JSON");
    let endpoint = &endpoints[0];
    assert_eq!(
        (&endpoint["link"], &endpoint["promised"], &endpoint["metalinks"]),
        (&"lan".into(), &8001.into(), &1.into())
    );
    for counted in ["violations", "out_of_profile", "rx_bytes"] {
        assert!(endpoint[counted].as_u64() > Some(0), "{counted}: {endpoints}");
    }
    let leases = operator.does("get leases");
    assert!(leases.contains("8001 bit/s") && leases.contains("long"), "{leases}");
    // Only reported, from now on.
    operator.does("access-link put --gateway 1 --name lan --capacity 10M --out-of-profile report-only");
    wait("the policy is in the switch", || {
        let before = operator.drops("metalink_rate");
        (0..8).for_each(|_| gateway.send(1, &large));
        let fence = metaframe(host_mac(9), VID, 1, &[]);
        operator.dropped(1, &fence, "unknown_endpoint");
        (operator.drops("metalink_rate") == before).then_some(())
    });
}
