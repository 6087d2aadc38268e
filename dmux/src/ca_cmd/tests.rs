//! What is issued is accepted by a gateway; what cannot be used is refused with a sentence.

use std::net::SocketAddrV4;
use std::os::unix::fs::PermissionsExt;

use clap::Parser;
use dmux_controller::model::{Command, Gateway, Model, Reply};
use dmux_controller::registration::{Authorities, Effect, Now as GatewayNow, Registrar, RegistrarConfig};
use dmux_host::credentials::Credentials;
use dmux_host::router::{Action, Event, Now, RouterConfig, RouterCore, Timers};
use dmux_wire::frame::Datagram;
use dmux_wire::{GatewayId, Shim, ShimKind};

use super::*;

const ROUTER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 100), 4000);
const REGISTRATION: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 2), 51700);

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    args: CaArgs,
}

/// Runs `dmux ca` with `{d}` for the folder.
fn ca(dir: &Path, line: &str) -> anyhow::Result<()> {
    let line = line.replace("{d}", &dir.display().to_string());
    let cli = Cli::try_parse_from(std::iter::once("ca").chain(line.split_whitespace()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(run(cli.args))
}

#[track_caller]
fn refused(dir: &Path, line: &str, words: &str) {
    let error = format!("{:#}", ca(dir, line).expect_err("refused"));
    assert!(error.contains(words), "{error:?} should contain {words:?}");
}

/// An authority, and a provider of protocol 41.
fn issued() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    ca(dir.path(), "init --out {d}/authority").unwrap();
    ca(dir.path(), "provider --ca {d}/authority --id 7 --protocol 41 --name p7 --out {d}/p7").unwrap();
    dir
}

#[test]
fn endpoints_are_certified_by_the_authority_itself() {
    let dir = issued();
    ca(dir.path(), "endpoint --ca {d}/authority --mac 02:00:00:00:00:07 --name laptop --out {d}/laptop").unwrap();
    let files = (dir.path().join("laptop/endpoint.crt"), dir.path().join("laptop/endpoint.key"));
    let credentials = Credentials::load_files(&files.0, &files.1).unwrap();
    assert_eq!(credentials.chain.len(), 1);
    assert!(credentials.chain[0].windows(30).any(|bytes| bytes == b"urn:dmux:endpoint:020000000007"));
    refused(dir.path(), "endpoint --ca {d}/p7 --mac 02:00:00:00:00:07 --name x --out {d}/x", "this is a provider");
    refused(dir.path(), "endpoint --ca {d}/authority --mac 01:00:00:00:00:07 --name x --out {d}/x", "one station");
}

/// A whole registration with the credentials in a folder; the last thing the router tells.
fn register(dir: &Path, router_dir: &str, provider: u32) -> Event {
    let pem = fs::read_to_string(dir.join("authority/ca.crt")).unwrap();
    let gateway = GatewayId(1);
    let mut registrar =
        Registrar::new(RegistrarConfig { gateway, authorities: Authorities::from_pem(&pem).unwrap(), secret: [3; 32] });
    let mut model = Model::new();
    let unicast = Ipv4Addr::new(192, 0, 2, 1);
    let put = Gateway { id: gateway, name: "g1".into(), unicast, api: String::new(), node: 1 };
    assert_eq!(model.apply(1, &Command::PutGateway { at: 0, gateway: put }), Reply::Done);

    let config = RouterConfig {
        registration: REGISTRATION,
        router: ROUTER,
        protocol: ProtocolId(41),
        provider: ProviderId(provider),
        weight: 1,
        keepalive: None,
        timers: Timers::default(),
    };
    let mut core = RouterCore::new(config, Credentials::load(&dir.join(router_dir)).unwrap(), [4; 32]);
    let (mono, unix) = (Duration::from_secs(5), unix_now());
    let mut actions = core.start(Now { mono, unix });
    loop {
        let bytes = match actions.pop().expect("the conversation goes on") {
            Action::Tell(event) => return event,
            Action::Send { bytes, .. } => bytes,
        };
        let request = Datagram::parse(&bytes).unwrap();
        let now = GatewayNow { mono, unix };
        let mut effects = registrar.handle(now, &model, ROUTER, REGISTRATION, request.payload);
        let mut reply = None;
        while !effects.is_empty() {
            match effects.remove(0) {
                Effect::Reply { bytes, .. } => reply = Some(bytes),
                Effect::Propose { token, command } => {
                    let outcome = model.apply(model.applied() + 1, &command);
                    effects.extend(registrar.committed(now, token, Ok(outcome)));
                }
                _ => {}
            }
        }
        let shim = Shim::of_no_protocol(ShimKind::Control);
        let payload = Datagram { shim, origin: None, payload: &reply.expect("an answer") }.to_vec();
        actions = core.datagram(Now { mono, unix }, REGISTRATION, &payload);
    }
}

#[test]
fn what_is_issued_is_accepted_by_a_gateway() {
    let dir = issued();
    ca(dir.path(), "router --issuer {d}/p7 --address 203.0.113.100 --name r1 --out {d}/r1").unwrap();
    assert!(matches!(register(dir.path(), "r1", 7), Event::Registered { gateway: GatewayId(1), .. }));
    assert!(matches!(register(dir.path(), "r1", 8), Event::Refused { .. }));
}

#[test]
fn delegated_and_restricted_providers_work_too() {
    let dir = issued();
    let restricted = "--addresses 203.0.113.0/24 --addresses 192.0.2.0/24";
    for line in [
        &format!(
            "provider --ca {{d}}/authority --id 8 --protocol 41 --delegate 1 {restricted} --name p8 --out {{d}}/p8"
        ),
        "provider --ca {d}/p8 --id 8 --protocol 41 --name below --out {d}/below",
        "router --issuer {d}/below --address 203.0.113.100 --name r1 --out {d}/r1",
        "router --issuer {d}/p8 --address 198.18.0.1 --address 203.0.113.100 --name r2 --out {d}/r2",
    ] {
        ca(dir.path(), line).unwrap();
    }
    assert!(matches!(register(dir.path(), "r1", 8), Event::Registered { .. }));
    let Event::Refused { text, .. } = register(dir.path(), "r2", 8) else { panic!("outside of the prefixes") };
    assert!(text.contains("outside of what its issuer may certify"), "{text}");
}

#[test]
fn the_functions_that_the_lab_uses_do_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    make_authority(&at("authority"), "lab").unwrap();
    issue_provider(&at("authority"), &at("p7"), ProviderId(7), &[ProtocolId(41)], "provider 7").unwrap();
    issue_router(&at("p7"), &at("r1"), *ROUTER.ip(), "r1").unwrap();
    assert!(matches!(register(dir.path(), "r1", 7), Event::Registered { .. }));
}

#[test]
fn keys_are_for_their_owner_only_and_nothing_is_overwritten() {
    let dir = issued();
    let mode = |file: &str| fs::metadata(dir.path().join(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("authority/ca.key"), mode("p7/ca.key")), (0o600, 0o600));
    let before = fs::read(dir.path().join("authority/ca.key")).unwrap();
    refused(dir.path(), "init --out {d}/authority", "is not overwritten");
    assert_eq!(fs::read(dir.path().join("authority/ca.key")).unwrap(), before);
    fs::remove_file(dir.path().join("p7/ca.key")).unwrap();
    refused(
        dir.path(),
        "provider --ca {d}/authority --id 7 --protocol 41 --name p7 --out {d}/p7",
        "is not overwritten",
    );
    assert!(!dir.path().join("p7/ca.key").exists(), "both or none");
}

#[test]
fn what_cannot_be_used_is_refused_with_a_sentence() {
    let dir = issued();
    let d = dir.path();
    refused(d, "provider --ca {d}/authority --id 1 --protocol 41 --name p --out {d}/x", "at least 2");
    refused(d, "provider --ca {d}/authority --id 9 --protocol 0 --name p --out {d}/x", "start at 1");
    refused(d, "provider --ca {d}/nowhere --id 9 --protocol 41 --name p --out {d}/x", "`dmux ca init`");
    refused(
        d,
        "router --issuer {d}/authority --address 203.0.113.1 --name r --out {d}/x",
        "make one with `dmux ca provider",
    );
    refused(d, "router --issuer {d}/p7 --address 224.0.0.1 --name r --out {d}/x", "unicast");
    let long = "x".repeat(65);
    refused(d, &format!("router --issuer {{d}}/p7 --address 203.0.113.1 --name {long} --out {{d}}/x"), "1 to 64 bytes");
    let many: String = (1..=150).map(|n| format!(" --address 203.0.113.{n}")).collect();
    refused(d, &format!("router --issuer {{d}}/p7{many} --name r --out {{d}}/x"), "too many for a registration");
    fs::copy(d.join("authority/ca.key"), d.join("p7/ca.key")).unwrap();
    refused(d, "router --issuer {d}/p7 --address 203.0.113.1 --name r --out {d}/x", "does not belong to");
    fs::write(d.join("p7/ca.key"), "nonsense").unwrap();
    refused(d, "router --issuer {d}/p7 --address 203.0.113.1 --name r --out {d}/x", "no Ed25519 private key");
    assert!(!d.join("x").exists(), "a refused command leaves nothing");
}

#[test]
fn nothing_outlives_its_issuer() {
    let dir = tempfile::tempdir().unwrap();
    for line in [
        "init --out {d}/authority --days 2",
        "provider --ca {d}/authority --id 7 --protocol 41 --name p7 --out {d}/p7",
        "router --issuer {d}/p7 --address 203.0.113.100 --name r1 --out {d}/r1",
    ] {
        ca(dir.path(), line).unwrap();
    }
    let end = |file: &str| {
        let der = CertificateDer::from_pem_file(dir.path().join(file)).unwrap();
        X509Certificate::from_der(&der).unwrap().1.validity().not_after.timestamp()
    };
    assert_eq!(end("authority/ca.crt"), end("p7/ca.crt"));
    assert_eq!(end("authority/ca.crt"), end("r1/router.crt"));
}
