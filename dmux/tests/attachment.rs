//! An endpoint, byte by byte, through a whole gateway: it discovers, attaches, and gets what the metanet's operator grants;
//! whatever others send.

mod support;

use std::process::{Command, Stdio};

use dmux_wire::metalink::{
    self, Attach, AttachBody, Connect, Connected, Decoded, Discover, Kind, Lease, MetanetId, Offer, Release, Renew,
};
use dmux_wire::{CONTROL_MLI, Ethernet, MLI_DISCOVERY, MacAddr, ProtocolId, ProviderId, Substrate, Vlan, ethernet};
use support::{Api, GATEWAY, GATEWAY_MAC, Gateway, Process, free_addresses, host_mac, succeed, wait};

const PORT: u16 = 1;
const PROVISIONED: Vlan = Vlan { pcp: 5, dei: false, vid: 100 };
const VOICE: MetanetId = MetanetId { protocol: ProtocolId(42), provider: ProviderId(1) };

/// What `dmux metanet serve` decides with; ended with the test.
struct Serving(std::process::Child);

impl Serving {
    fn start(limit: &str, api: &str) -> Self {
        let serve = ["metanet", "serve", "--protocol", "42", "--approve-up-to", limit, "--api", api];
        let mut command = Command::new(env!("CARGO_BIN_EXE_dmux"));
        Self(command.args(serve).stdin(Stdio::null()).spawn().expect("dmux metanet serve"))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn frame(vlan: Option<Vlan>, dst: MacAddr, mli: u32, nonce: u64, kind: &Kind) -> Vec<u8> {
    let mut frame = Vec::new();
    Ethernet { dst, src: host_mac(PORT), vlan, ether_type: ethernet::SUBSTRATE }.emit(&mut frame);
    Substrate::new(mli).emit(&mut frame);
    frame.extend(metalink::encode(nonce, kind).expect("a message"));
    frame
}

/// The answer to a nonce in a frame to the endpoint.
fn answer(frame: &[u8], vlan: Option<Vlan>, mli: u32, nonce: u64) -> Option<Kind> {
    let (header, rest) = Ethernet::parse(frame).ok()?;
    let (substrate, rest) = Substrate::parse(rest).ok().filter(|_| header.ether_type == ethernet::SUBSTRATE)?;
    let Decoded { nonce: got, kind } = metalink::decode(rest).ok()?;
    let theirs = (header.src, header.dst, header.vlan, substrate.mli, got);
    (theirs == (GATEWAY_MAC, host_mac(PORT), vlan, mli, nonce)).then(|| kind.expect("every value in range"))
}

fn on_mli_0(gateway: &Gateway, dst: MacAddr, nonce: u64, kind: &Kind) -> Kind {
    let mut question = frame(None, dst, MLI_DISCOVERY, nonce, kind);
    question.resize(question.len().max(600), 0);
    gateway.ask(PORT, &question, "an answer on MLI 0", |frame| answer(frame, None, MLI_DISCOVERY, nonce))
}

fn on_control(gateway: &Gateway, nonce: u64, kind: &Kind) -> Kind {
    let vlan = Some(Vlan { pcp: 0, ..PROVISIONED });
    let question = frame(vlan, GATEWAY_MAC, CONTROL_MLI, nonce, kind);
    gateway.ask(PORT, &question, "an answer on the control MLI", |frame| {
        answer(frame, Some(PROVISIONED), CONTROL_MLI, nonce)
    })
}

/// Repeats a request until the operator has granted it.
fn granted(gateway: &Gateway, connect: &Kind) -> Connected {
    let mut nonce = 100;
    wait("the operator's grant", || {
        nonce += 1;
        match on_control(gateway, nonce, connect) {
            Kind::Connected(connected) => Some(connected),
            Kind::Pending(_) => None,
            other => panic!("{other:?}"),
        }
    })
}

fn attach(gateway: &Gateway) -> Offer {
    let Kind::Offer(offer) = on_mli_0(gateway, MacAddr::BROADCAST, 1, &Kind::Discover(Discover::default())) else {
        panic!("an offer")
    };
    let body = AttachBody { cookie: offer.cookie.clone(), gateway: offer.gateway, mac: host_mac(PORT) }.encode();
    let attach = Kind::Attach(Attach { body, chain: Vec::new(), signature: Vec::new() });
    let attached = on_mli_0(gateway, GATEWAY_MAC, 2, &attach);
    assert!(matches!(attached, Kind::Attached(_)), "{attached:?}");
    offer
}

#[test]
fn an_endpoint_gets_what_the_operator_of_its_metanet_grants() {
    let gateway = Gateway::start_lan(2);
    let api = gateway.api.address().to_string();
    let does = |line: &str| succeed(&line.split_whitespace().chain(["--api", &api]).collect::<Vec<_>>());
    does("access-link put --gateway 1 --name lan --capacity 100M");
    does("metanet create --protocol 42 --name voice --by-operator --multipoint");
    assert!(gateway.api.services().iter().any(|s| s == "dmux.api.v1.MetanetService"));

    let offer = attach(&gateway);
    assert_eq!((offer.provisioned_vid, offer.provisioned_pcp, offer.multipoint_vid), (100, 5, Some(200)));
    assert_eq!(offer.metanets.iter().map(|m| (m.id, m.shared_mli)).collect::<Vec<_>>(), [(VOICE, Some(0xff_fc00))]);

    // Nobody decides yet; then somebody does, who was not there when it was asked.
    let connect = Kind::Connect(Connect { metanet: VOICE, rate: 20_000_000, lease: Lease::Long, request: 1 });
    let pending = on_control(&gateway, 3, &connect);
    assert!(matches!(pending, Kind::Pending(_)), "{pending:?}");
    let _serving = Serving::start("15M", &api);
    let connected = granted(&gateway, &connect);
    assert_eq!((connected.metanet, connected.rate, connected.lease), (VOICE, 15_000_000, Lease::Long));
    let metalinks = does("get metalinks");
    assert!(metalinks.contains("15 Mbit/s") && metalinks.contains(&host_mac(PORT).to_string()), "{metalinks}");

    let renewed = on_control(&gateway, 1_000, &Kind::Renew(Renew { mli: connected.mli }));
    assert!(matches!(renewed, Kind::Connected(renewed) if renewed.mli == connected.mli), "{renewed:?}");
    let released = on_control(&gateway, 1_001, &Kind::Release(Release { mli: connected.mli }));
    assert!(matches!(released, Kind::Released(_)), "{released:?}");
    assert!(!does("get metalinks").contains("15 Mbit/s"));
    let counted = wait("what was said is counted", || {
        let switch = gateway.api.switch()?;
        (switch.attached == 1 && switch.endpoints.iter().any(|e| e.what == "connected")).then_some(switch.endpoints)
    });
    assert!(counted.iter().any(|e| e.what == "offer" && e.count > 0), "{counted:?}");
}

/// An operator names any controller, and hears of requests at all gateways.
#[test]
fn a_request_reaches_an_operator_that_named_another_controller() {
    let gateway = Gateway::start_lan(2);
    let api = gateway.api.address().to_string();
    let does = |line: &str| succeed(&line.split_whitespace().chain(["--api", &api]).collect::<Vec<_>>());
    does("access-link put --gateway 1 --name lan --capacity 100M");
    does("metanet create --protocol 42 --name voice --by-operator");

    // The controller of another gateway, whose switch is not there.
    let config = std::fs::read_to_string(gateway.dir.path().join("controller.toml")).expect("the configuration");
    let quoted = |after: &str| {
        let rest = config.split_once(&format!("{after}\"")).expect("a key").1;
        rest.split_once('"').expect("a value").0.to_owned()
    };
    let first = quoted("[cluster]\nlisten = ");
    let [cluster, api2, no_switch] = free_addresses(3)[..] else { panic!("three addresses") };
    let changes = [
        ("node = 1".into(), "node = 2".into()),
        ("data = \"data1\"".into(), "data = \"data2\"".into()),
        ("id = 1\nname = \"g1\"".into(), "id = 2\nname = \"h\"".into()),
        (format!("address = \"{GATEWAY}\""), "address = \"192.0.2.77\"".into()),
        (format!("p4runtime = {:?}", quoted("p4runtime = ")), format!("p4runtime = \"{no_switch}\"")),
        (format!("[cluster]\nlisten = {first:?}"), format!("[cluster]\nlisten = \"{cluster}\"")),
        (format!("members = {{ 1 = {first:?} }}"), format!("members = {{ 2 = \"{cluster}\" }}")),
        (format!("[api]\nlisten = \"{api}\""), format!("[api]\nlisten = \"{api2}\"")),
    ];
    let second = changes.iter().fold(config.clone(), |config, (from, to): &(String, String)| {
        assert!(config.contains(from), "{from}");
        config.replace(from, to)
    });
    let path = gateway.dir.path().join("second.toml");
    std::fs::write(&path, second).expect("written");
    let arguments = ["controller", "--join", &first, "--config", &path.display().to_string()];
    let _second = Process::start(gateway.dir.path(), "second", &arguments.map(String::from));
    let other = Api::new(api2);
    wait("both gateways are known", || other.gateways().filter(|gateways| gateways.len() == 2));

    let _serving = Serving::start("5M", &api2.to_string());
    attach(&gateway);
    let connect = Kind::Connect(Connect { metanet: VOICE, rate: 20_000_000, lease: Lease::Short, request: 1 });
    let connected = granted(&gateway, &connect);
    assert_eq!((connected.rate, connected.lease), (5_000_000, Lease::Short));
}

/// Discoveries from addresses without number fill the switch's meter for them, and no endpoint's that is attached.
#[test]
fn a_flood_of_discoveries_takes_nothing_from_who_is_attached() {
    const FLOODER: u16 = 2;
    let gateway = Gateway::start_lan(2);
    let api = gateway.api.address().to_string();
    let does = |line: &str| succeed(&line.split_whitespace().chain(["--api", &api]).collect::<Vec<_>>());
    does("access-link put --gateway 1 --name lan --capacity 100M");
    does("metanet create --protocol 42 --name voice --admit-up-to 10M");
    attach(&gateway);
    let discover = frame(None, MacAddr::BROADCAST, MLI_DISCOVERY, 1, &Kind::Discover(Discover::default()));
    let mut sent: u64 = 0;
    for request in 1..=20 {
        for _ in 0..200 {
            sent += 1;
            let mut flood = discover.clone();
            flood[6..12].copy_from_slice(&MacAddr::from_u64(0x0200_0000_0000 + sent).0);
            flood.resize(600, 0);
            gateway.send(FLOODER, &flood);
        }
        let rate = 1_000_000 + request;
        let connect = Kind::Connect(Connect { metanet: VOICE, rate, lease: Lease::Short, request });
        let answer = on_control(&gateway, 100 + request, &connect);
        assert!(matches!(answer, Kind::Connected(connected) if connected.rate == rate), "{answer:?}");
    }
    let switch = wait("the flood is dropped", || {
        let switch = gateway.api.switch()?;
        switch.drops.iter().any(|drop| drop.reason == "punt_rate" && drop.packets > 0).then_some(switch)
    });
    assert_eq!(switch.attached, 1, "nothing is kept of who floods");
}
