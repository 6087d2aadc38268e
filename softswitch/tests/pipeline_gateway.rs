//! The gateway program on the embedded switch: what it sends is compared byte for byte, and no frame may upset it.

mod pipeline_support;

use dmux_softswitch::pipeline::{CounterValue, MatchValue, Worker};
use pipeline_support::gateway::{
    self, CLIENT, DMUX_PORT, GATEWAY, GATEWAY_MAC, NEXT_MAC, ROUTER, SERVICE, gateway, udp_frame,
};
use pipeline_support::{insert, run, table};
use proptest::prelude::*;

/// The shim of a data packet, and what it becomes: kind 1 with the origin behind it.
fn tunnelled(protocol: u16, provider: u32, len: usize) -> Vec<u8> {
    let mut d = gateway::shim(1, protocol, provider, len);
    let mut origin = CLIENT.to_be_bytes().to_vec();
    origin.extend_from_slice(&5555u16.to_be_bytes());
    origin.extend_from_slice(&7u16.to_be_bytes());
    d.splice(8..8, origin);
    d
}

#[test]
fn a_clients_packet_is_tunnelled_to_its_router() {
    let dp = gateway(3);
    for len in [0, 1, 40, 41, 1300] {
        let sent = run(&dp, 1, &gateway::client_frame(41, gateway::provider(2), len));
        let expected = udp_frame(
            (NEXT_MAC, GATEWAY_MAC),
            (GATEWAY, ROUTER + 2),
            (DMUX_PORT, 4000),
            63,
            &tunnelled(41, gateway::provider(2), len),
        );
        assert_eq!(sent, [(2, expected)], "{len} bytes");
    }
    let router = table(&dp, "router");
    let counted = dp.direct_counter(router, &[MatchValue::Exact(2)], 0);
    let frame = |len: u64| 14 + 20 + 8 + 8 + len;
    assert_eq!(counted, Ok(CounterValue { packets: 5, bytes: [0, 1, 40, 41, 1300].map(frame).iter().sum() }));
}

#[test]
fn a_packet_that_no_router_serves_is_not_sent_on() {
    let dp = gateway(1);
    let before = dp.counter(counter(&dp, "drops"), 16).map(|c| c.packets);
    let sent = run(&dp, 1, &gateway::client_frame(42, 1, 20));
    assert!(sent.iter().all(|(port, _)| *port == 510), "only the controller may see it");
    assert_eq!(before, Ok(0));
    assert_eq!(dp.counter(counter(&dp, "drops"), 16).map(|c| c.packets), Ok(1));
}

fn counter(dp: &dmux_softswitch::pipeline::Dataplane, name: &str) -> usize {
    dp.program().counters().iter().position(|c| c.name == name).unwrap_or_else(|| panic!("no counter {name}"))
}

#[test]
fn a_spoofed_source_and_a_foreign_mac_are_dropped() {
    let dp = gateway(1);
    let data = gateway::shim(0, 41, gateway::provider(0), 8);
    let spoofed = udp_frame((GATEWAY_MAC, 0x0a), (SERVICE, SERVICE), (5555, DMUX_PORT), 64, &data);
    assert_eq!(run(&dp, 1, &spoofed), []);
    let foreign = udp_frame((GATEWAY_MAC + 1, 0x0a), (CLIENT, SERVICE), (5555, DMUX_PORT), 64, &data);
    assert_eq!(run(&dp, 1, &foreign), []);
    let drops = counter(&dp, "drops");
    assert_eq!(dp.counter(drops, 13).map(|c| c.packets), Ok(1));
    assert_eq!(dp.counter(drops, 12).map(|c| c.packets), Ok(1));
}

#[test]
fn a_registered_routers_reply_goes_back_to_the_client() {
    let dp = gateway(1);
    let exact = |v: u64| MatchValue::Exact(u128::from(v));
    insert(&dp, "return_source", &[exact(ROUTER.into()), exact(4000), exact(41)], 0, "accept_return", &[]);
    insert(&dp, "service_source", &[exact(7)], 0, "set_service_source", &[SERVICE.into(), DMUX_PORT.into()]);
    let mut back = tunnelled(41, 1, 33);
    back[0] = 0x12;
    let reply = udp_frame((GATEWAY_MAC, 0x0b), (ROUTER, GATEWAY), (4000, DMUX_PORT), 64, &back);
    let delivered = gateway::shim(3, 41, 1, 33);
    let expected = udp_frame((NEXT_MAC, GATEWAY_MAC), (SERVICE, CLIENT), (DMUX_PORT, 5555), 63, &delivered);
    assert_eq!(run(&dp, 1, &reply), [(2, expected)]);
    let stranger = udp_frame((GATEWAY_MAC, 0x0b), (ROUTER + 9, GATEWAY), (4000, DMUX_PORT), 64, &back);
    assert_eq!(run(&dp, 1, &stranger), []);
    assert_eq!(dp.counter(counter(&dp, "drops"), 19).map(|c| c.packets), Ok(1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every prefix of a good frame, and good frames with bytes changed, on every port. What leaves has right checksums.
    #[test]
    fn broken_frames_do_no_harm(
        cut in 0usize..120,
        changes in proptest::collection::vec((0usize..98, any::<u8>()), 0..6),
        port in prop_oneof![Just(1u16), Just(510), Just(3), any::<u16>()],
    ) {
        let dp = gateway(2);
        let mut frame = gateway::client_frame(41, gateway::provider(1), 40);
        for (at, v) in changes {
            if let Some(b) = frame.get_mut(at) {
                *b = v;
            }
        }
        frame.truncate(cut);
        for (out, sent) in run(&dp, port, &frame) {
            if out == 2 {
                prop_assert_eq!(pipeline_support::checksum(&sent[14..34]), 0, "IPv4 checksum of {:02x?}", sent);
            }
        }
    }

    #[test]
    fn random_bytes_do_no_harm(frame in proptest::collection::vec(any::<u8>(), 0..2000), port in any::<u16>()) {
        let dp = gateway(1);
        let _ = run(&dp, port, &frame);
    }
}

#[test]
fn frames_of_extreme_lengths_do_no_harm() {
    let dp = gateway(1);
    let mut worker = Worker::new(&dp);
    let good = gateway::client_frame(41, gateway::provider(0), 0);
    for len in (0..2048).chain([65_534, 65_535, 65_536, 100_000]) {
        let mut frame = good.clone();
        frame.resize(len, 0xa5);
        worker.process(&dp, 1, &frame, 0, &mut |_, out| assert!(out.len() <= 65_535));
    }
    assert_eq!(worker.stats().received, 2052);
    assert!(worker.stats().oversize >= 2);
}
