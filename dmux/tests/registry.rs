//! The `Registry` service and what operators do with it, against a whole gateway.

mod support;

use std::net::SocketAddrV4;
use std::time::{SystemTime, UNIX_EPOCH};

use dmux_controller::api::v1::{ListRegistrationsRequest, RegisterRequest, Registrations, SessionRequest};
use dmux_host::credentials::Credentials;
use dmux_wire::control::{Domain, RegisterBody, SessionBody};
use dmux_wire::{ProtocolId, ProviderId};
use ed25519_dalek::Signer;
use support::{Gateway, host_address, succeed, wait};
use tonic::Code;

/// A router that an operator's tool registers.
struct Tool {
    credentials: Credentials,
    router: SocketAddrV4,
    sequence: u64,
}

impl Tool {
    fn new(gateway: &Gateway, router: SocketAddrV4) -> Self {
        let credentials = Credentials::load(&gateway.dir.path().join("r")).expect("credentials");
        let sequence = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_micros() as u64;
        Self { credentials, router, sequence }
    }

    fn sign(&self, domain: Domain, body: &[u8]) -> Vec<u8> {
        self.credentials.key.sign(&domain.signed_bytes(body)).to_bytes().to_vec()
    }

    fn register(&mut self) -> RegisterRequest {
        self.sequence += 1;
        let body = RegisterBody {
            protocol: ProtocolId(41),
            provider: ProviderId(7),
            router: self.router,
            weight: 5,
            sequence: self.sequence,
            cookie: Vec::new(),
            keepalive_interval_ms: 0,
            draining: false,
        };
        let body = body.encode();
        let signature = self.sign(Domain::Register, &body);
        RegisterRequest { body, chain: self.credentials.chain.clone(), signature }
    }

    fn session(&mut self, domain: Domain) -> SessionRequest {
        self.sequence += 1;
        let (protocol, router, sequence) = (ProtocolId(41), self.router, self.sequence);
        let body = SessionBody { protocol, router, sequence, cookie: Vec::new(), rtt_us: 0 }.encode();
        let signature = self.sign(domain, &body);
        SessionRequest { body, signature }
    }
}

fn reason(status: &tonic::Status) -> &str {
    status.metadata().get("dmux-refusal").and_then(|value| value.to_str().ok()).unwrap_or("none")
}

fn list(gateway: &Gateway, request: ListRegistrationsRequest) -> Registrations {
    gateway.api.registry(async |c| c.list_registrations(request).await).expect("a list")
}

fn state(gateway: &Gateway, router: &str) -> Option<String> {
    gateway.api.routers()?.into_iter().find(|r| r.address == router).map(|r| r.state)
}

#[test]
fn a_router_at_the_unicast_address_and_one_by_grpc_are_drained_and_revoked() {
    let mut gateway = Gateway::start_with(1, 500, 30_000);
    let api = gateway.api.address().to_string();
    let address = host_address(1);
    // The explicit choice of a gateway, instead of the nearest.
    let daemon = gateway.router_with(1, address, &["--registration", "192.0.2.1:51700"]);
    let router = format!("{address}:4000");
    wait("the router registers at the gateway's unicast address", || state(&gateway, &router));

    // By gRPC: the same signed bodies, and the same refusals.
    let mut tool = Tool::new(&gateway, SocketAddrV4::new(address, 4001));
    let mut forged = tool.register();
    forged.signature[0] ^= 1;
    let refused = gateway.api.registry(async |c| c.register(forged).await).expect_err("a forged signature");
    assert_eq!((refused.code(), reason(&refused)), (Code::Unauthenticated, "BAD_SIGNATURE"), "{refused}");
    let early = tool.session(Domain::Keepalive);
    let refused = gateway.api.registry(async |c| c.keepalive(early).await).expect_err("not registered");
    assert_eq!((refused.code(), reason(&refused)), (Code::NotFound, "NOT_REGISTERED"));
    let request = tool.register();
    let accepted = gateway.api.registry(async |c| c.register(request.clone()).await).expect("accepted");
    assert_eq!((accepted.gateway, accepted.sequence, accepted.keepalive_interval_ms), (1, tool.sequence, 500));
    let keepalive = tool.session(Domain::Keepalive);
    gateway.api.registry(async |c| c.keepalive(keepalive.clone()).await).expect("heard");
    let replayed = gateway.api.registry(async |c| c.keepalive(keepalive).await).expect_err("replayed");
    assert_eq!((replayed.code(), reason(&replayed)), (Code::FailedPrecondition, "REPLAYED"));

    let first = list(&gateway, ListRegistrationsRequest { page_size: 1, ..Default::default() });
    assert_eq!(first.registrations.len(), 1);
    let rest = list(&gateway, ListRegistrationsRequest { after: first.next.clone(), ..Default::default() });
    assert_eq!((rest.registrations.len(), rest.next), (1, None));
    assert_eq!(rest.registrations[0].weight, 5);
    assert_eq!(rest.registrations[0].chain.len(), 2, "the router's key and its provider's");
    assert!(list(&gateway, ListRegistrationsRequest { protocol: 9, ..Default::default() }).registrations.is_empty());

    let farewell = tool.session(Domain::Deregister);
    gateway.api.registry(async |c| c.deregister(farewell).await).expect("gone");
    assert_eq!(state(&gateway, "203.0.113.1:4001"), None);

    // Drained by its own signal, and by an operator.
    daemon.signal(libc::SIGUSR1);
    wait("the router drains", || state(&gateway, &router).filter(|s| s == "draining"));
    daemon.signal(libc::SIGUSR1);
    wait("the router takes clients again", || state(&gateway, &router).filter(|s| s == "live"));
    let drain = ["drain", "--router", &router, "--protocol", "41", "--api", &api];
    assert!(succeed(&drain).contains("no new ones"));
    assert_eq!(state(&gateway, &router).as_deref(), Some("draining"));
    succeed(&[&drain[..], &["--undo"]].concat());
    assert_eq!(state(&gateway, &router).as_deref(), Some("live"));

    // Revoked: the registration and its entries go, and it does not come back.
    let certificate = gateway.dir.path().join("r/router.crt").display().to_string();
    let said = succeed(&["revoke", "--cert", &certificate, "--api", &api]);
    assert!(said.contains("registrations removed: 1"), "{said}");
    assert_eq!(gateway.api.routers().map(|r| r.len()), Some(0));
    wait("its entries are gone", || {
        gateway.api.switch()?.tables.iter().any(|t| t.table == "return_source" && t.entries == 0).then_some(())
    });
    let explained = succeed(&["explain", "--client", "203.0.113.77", "--protocol", "41", "--api", &api]);
    assert!(explained.contains("chosen: none") && explained.contains("revoked"), "{explained}");
    wait("the router is told why", || daemon.log().contains("code=Revoked").then_some(()));
    let request = tool.register();
    let refused = gateway.api.registry(async |c| c.register(request).await).expect_err("revoked");
    assert_eq!((refused.code(), reason(&refused)), (Code::PermissionDenied, "REVOKED"));
    let shown = succeed(&["get", "revocations", "--api", &api, "-o", "json"]);
    let fingerprint = said.split_whitespace().nth(1).expect("a fingerprint").trim_end_matches(';');
    assert!(shown.contains(fingerprint) && shown.contains("\"note\": \"r\""), "{shown}");
    succeed(&["revoke", "--fingerprint", fingerprint, "--undo", "--api", &api]);
    let request = tool.register();
    gateway.api.registry(async |c| c.register(request).await).expect("accepted again");
}
