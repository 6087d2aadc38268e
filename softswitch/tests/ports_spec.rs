//! Port descriptions: what is understood, what is refused and how, and that the text form survives.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

use std::path::PathBuf;
use std::time::Duration;

use dmux_softswitch::pipeline::queue::{MAX_QUEUE_DEPTH, QueueConfig};
use dmux_softswitch::ports::link::{DEFAULT_QUEUE_FRAMES, MAX_QUEUE_FRAMES};
use dmux_softswitch::ports::{Device, PortSpec};
use dmux_softswitch::{PortError, Switch, SwitchError};
use proptest::prelude::*;

fn parse(text: &str) -> PortSpec {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn an_interface_by_itself_is_a_plain_port() {
    let port = parse("1@veth0");
    assert_eq!((port.number, port.device), (1, Device::Interface("veth0".to_owned())));
    assert!(port.link.is_plain());
    assert_eq!((port.pcap, port.egress), (None, None));
}

#[test]
fn a_port_may_have_egress_queues() {
    let queues = |text: &str| parse(text).egress.unwrap();
    let config = |rate, depth| QueueConfig { packets_per_second: Some(rate), depth, ..QueueConfig::default() };
    assert_eq!(queues("1@veth0,egress-rate=250"), config(250, 64));
    assert_eq!(queues("1@veth0,egress-depth=9,egress-rate=1000000000"), config(1_000_000_000, 9));
    let link = |rate| QueueConfig { link_bits_per_second: Some(rate), ..QueueConfig::default() };
    assert_eq!(queues("1@veth0,egress-link=100mbit"), link(100_000_000));
    assert_eq!(parse("1@veth0,egress-link=1500kbit").to_string(), "1@veth0,egress-link=1500kbit");
}

#[test]
fn a_tap_interface_is_named_after_its_kind() {
    let port = parse("3@tap:tap-blue,delay=1ms");
    assert_eq!((port.number, port.device), (3, Device::Tap("tap-blue".to_owned())));
    assert_eq!(port.link.delay, Duration::from_millis(1));
}

#[test]
fn every_option_is_understood() {
    let port = parse("7@veth0,delay=1.5ms,loss=0.25%,rate=64kbit,queue=9,seed=11,pcap=/tmp/x/a.pcap");
    assert_eq!(port.link.delay, Duration::from_micros(1500));
    assert_eq!(port.link.loss, 0.0025);
    assert_eq!(port.link.rate_bits_per_second, Some(64_000));
    assert_eq!((port.link.queue_frames, port.link.seed), (9, 11));
    assert_eq!(port.pcap, Some(PathBuf::from("/tmp/x/a.pcap")));
}

#[test]
fn udp_ports_name_both_ends_of_either_family() {
    for (text, local, remote) in [
        ("2@udp:127.0.0.1:5001>127.0.0.1:5002,delay=2ms", "127.0.0.1:5001", "127.0.0.1:5002"),
        ("2@udp:127.0.0.1:0>127.0.0.1:5002", "127.0.0.1:0", "127.0.0.1:5002"),
        ("2@udp:[::1]:5001>[2001:db8::2]:5002", "[::1]:5001", "[2001:db8::2]:5002"),
    ] {
        let device = Device::Udp { local: local.parse().unwrap(), remote: remote.parse().unwrap() };
        assert_eq!(parse(text).device, device);
    }
}

#[test]
fn each_unit_is_understood() {
    for (text, delay) in [("250us", 250), ("5ms", 5_000), ("1s", 1_000_000), ("0.5s", 500_000), ("0s", 0)] {
        assert_eq!(parse(&format!("1@a,delay={text}")).link.delay, Duration::from_micros(delay), "{text}");
    }
    for (text, rate) in [("800bit", 800), ("64kbit", 64_000), ("1.5mbit", 1_500_000), ("1000gbit", 1_000_000_000_000)] {
        assert_eq!(parse(&format!("1@a,rate={text}")).link.rate_bits_per_second, Some(rate), "{text}");
    }
}

#[test]
fn what_is_not_understood_is_refused_with_its_reason_and_the_grammar() {
    for (text, reason) in [
        ("", "no \"@\""),
        ("veth0", "no \"@\""),
        ("x@veth0", "\"x\" is not a port number"),
        ("-1@veth0", "\"-1\" is not a port number"),
        ("65536@veth0", "\"65536\" is not a port number"),
        ("1@", "no device"),
        ("1@,delay=5ms", "no device"),
        ("1@a-name-that-is-too-long", "cannot be an interface name"),
        ("1@a b", "cannot be an interface name"),
        ("1@../x", "cannot be an interface name"),
        ("1@veth0,", "has no \"=\""),
        ("1@veth0,delay", "has no \"=\""),
        ("1@veth0,jitter=5ms", "no option \"jitter\""),
        ("1@veth0,delay=5ms,delay=6ms", "given twice"),
        ("1@veth0,delay=5", "not a time"),
        ("1@veth0,delay=-5ms", "not a time"),
        ("1@veth0,delay=ms", "not a time"),
        ("1@veth0,delay=1.2.3ms", "not a time"),
        ("1@veth0,delay=61s", "longer than 60 seconds"),
        ("1@veth0,loss=1", "not a percentage"),
        ("1@veth0,loss=101%", "not a percentage"),
        ("1@veth0,loss=nan%", "not a percentage"),
        ("1@veth0,rate=10", "not a rate"),
        ("1@veth0,rate=10mbps", "not a rate"),
        ("1@veth0,rate=0mbit", "not between"),
        ("1@veth0,rate=1001gbit", "not between"),
        ("1@veth0,queue=0", "not a number of frames"),
        ("1@veth0,queue=100001", "not a number of frames"),
        ("1@veth0,egress-rate=0", "not a number from 1 to 1000000000"),
        ("1@veth0,egress-rate=10mbit", "not a number from 1 to 1000000000"),
        ("1@veth0,egress-rate=1,egress-depth=16385", "not a number from 1 to 16384"),
        ("1@veth0,egress-depth=5", "without egress-rate or egress-link has no effect"),
        ("1@veth0,seed=x", "not a whole number"),
        ("1@veth0,pcap=", "names no file"),
        ("1@udp:", "LOCAL>REMOTE"),
        ("1@udp:127.0.0.1:5001", "LOCAL>REMOTE"),
        ("1@udp:localhost:1>127.0.0.1:2", "\"localhost:1\" is not an address"),
        ("1@udp:127.0.0.1:5001>127.0.0.1", "\"127.0.0.1\" is not an address"),
        ("1@udp:127.0.0.1:1>[::1]:2", "different address families"),
        ("1@udp:127.0.0.1:1>127.0.0.1:0", "port 0"),
    ] {
        let error = text.parse::<PortSpec>().expect_err(text).to_string();
        assert!(error.contains(reason), "{text}: {error}");
        assert!(error.contains("NUMBER@DEVICE"), "{text}: the grammar is missing: {error}");
        assert!(error.contains(&format!("\"{text}\"")), "{text}: what was given is missing: {error}");
    }
}

#[test]
fn a_switch_refuses_ports_that_cannot_be() {
    let start = |ports: &[&str]| {
        let builder = Switch::builder(1, 510);
        ports.iter().fold(builder, |b, p| b.port(parse(p))).start().map(drop).unwrap_err()
    };
    let port_error = |ports: &[&str]| match start(ports) {
        SwitchError::Port(error) => error,
        other => panic!("not about a port: {other}"),
    };
    let free = "1@udp:127.0.0.1:0>127.0.0.1:9";
    assert!(matches!(port_error(&[free, free]), PortError::Duplicate(1)));
    assert!(matches!(port_error(&["510@udp:127.0.0.1:0>127.0.0.1:9"]), PortError::CpuPort(510)));
    assert!(matches!(port_error(&["1@no-such-port"]), PortError::NoInterface { .. }));
    // 198.51.100.0/24 is for documentation, so it is no address of this machine.
    let foreign = port_error(&["1@udp:198.51.100.1:0>198.51.100.2:9"]).to_string();
    assert!(foreign.contains("198.51.100.1"), "{foreign}");
    let capture = port_error(&["1@udp:127.0.0.1:0>127.0.0.1:9,pcap=/no/such/folder/a.pcap"]).to_string();
    assert!(capture.contains("/no/such/folder/a.pcap"), "{capture}");
    assert!(matches!(port_error(&["511@udp:127.0.0.1:0>127.0.0.1:9"]), PortError::DropPort(511)));
    assert!(matches!(Switch::builder(1, 511).start().map(drop), Err(SwitchError::CpuPortIsDropPort(511))));
    let moved = || Switch::builder(1, 511).drop_port(7);
    assert!(matches!(
        moved().port(parse("7@udp:127.0.0.1:0>127.0.0.1:9")).start().map(drop),
        Err(SwitchError::Port(PortError::DropPort(7)))
    ));
    assert!(moved().start().is_ok());
    for priorities in [0, 9] {
        let refused = moved().priority_queues(priorities).start().map(drop);
        assert!(matches!(refused, Err(SwitchError::Priorities(p)) if p == priorities));
    }
}

proptest! {
    #[test]
    fn the_text_form_is_read_back_as_it_was(
        number: u16,
        delay_us in 0u64..60_000_000,
        loss_ppm in 0u32..=1_000_000,
        rate in proptest::option::of(1u64..=1_000_000_000_000),
        queue in 1usize..=MAX_QUEUE_FRAMES,
        seed: u64,
        egress in proptest::option::of((1u64..=1_000_000_000, 1usize..=MAX_QUEUE_DEPTH)),
        udp: bool,
    ) {
        let device = if udp { "udp:127.0.0.1:5001>127.0.0.1:5002" } else { "veth0" };
        let rate = rate.map(|r| format!(",rate={r}bit")).unwrap_or_default();
        let loss = f64::from(loss_ppm) / 1e4;
        let egress = egress.map(|(rate, depth)| format!(",egress-rate={rate},egress-depth={depth}")).unwrap_or_default();
        let text = format!("{number}@{device},delay={delay_us}us,loss={loss}%{rate},queue={queue},seed={seed}{egress}");
        let port = parse(&text);
        prop_assert_eq!(parse(&port.to_string()), port);
    }

    #[test]
    fn any_text_is_understood_or_refused(text in "\\PC{0,40}") {
        let _ = text.parse::<PortSpec>();
    }
}

#[test]
fn defaults_are_left_out_of_the_text_form() {
    assert_eq!(DEFAULT_QUEUE_FRAMES, 1000);
    assert_eq!(parse("3@veth0,queue=1000,seed=3,delay=0s,loss=0%").to_string(), "3@veth0");
}
