//! TLS: with a certificate of the switch, and with one of each side; and the bound on connections.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod p4runtime_support;

use std::net::SocketAddr;
use std::sync::Arc;

use dmux_p4rt::ElectionId;
use dmux_p4rt::client::{Arbitration, Commit, Session, SessionError, Target};
use dmux_softswitch::Switch;
use dmux_softswitch::server::listener::{MAX_CONNECTIONS, Tls};
use p4runtime_support::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, in PEM.
struct Credentials {
    cert: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, name: &str) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        Credentials { cert: cert.pem(), key: key.serialize_pem() }
    }
}

/// A switch that presents a certificate for "switch.example" and may ask for one of `clients`.
async fn serve(authority: &Authority, clients: Option<&Authority>) -> (Arc<Switch>, SocketAddr) {
    let switch = Arc::new(Switch::builder(DEVICE, CPU_PORT).start().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let own = authority.issue("switch.example");
    let tls = Tls {
        cert_pem: own.cert.into_bytes(),
        key_pem: own.key.into_bytes(),
        client_ca_pem: clients.map(|ca| ca.pem().into_bytes()),
    };
    let served = Arc::clone(&switch);
    tokio::spawn(async move { served.serve_tls(listener, &tls, std::future::pending()).await.unwrap() });
    (switch, address)
}

async fn connect(
    address: SocketAddr,
    ca: &Authority,
    identity: Option<&Credentials>,
) -> Result<Arbitration, SessionError> {
    let identity = identity.map(|own| (own.cert.as_bytes(), own.key.as_bytes()));
    let target =
        Target::new(format!("https://{address}"), DEVICE).with_tls(ca.pem().as_bytes(), "switch.example", identity);
    let (session, _events) = Session::connect(target, Some(ElectionId(1))).await?;
    session.set_pipeline(portal(1), Commit::Replace).await?;
    Ok(session.arbitration())
}

#[tokio::test]
async fn a_client_that_trusts_the_switchs_authority_controls_it_and_one_that_does_not_cannot_connect() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let (_switch, address) = serve(&ours, None).await;
    assert_eq!(connect(address, &ours, None).await.unwrap(), Arbitration::Primary);
    assert!(matches!(connect(address, &foreign, None).await, Err(SessionError::Connect { .. })));
    let plain = Session::connect(Target::new(format!("http://{address}"), DEVICE), Some(ElectionId(1))).await;
    assert!(plain.is_err(), "no session without TLS");
}

#[tokio::test]
async fn with_mutual_tls_only_clients_with_a_certificate_of_the_authority_get_in() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let (_switch, address) = serve(&ours, Some(&ours)).await;
    let good = ours.issue("controller.example");
    assert_eq!(connect(address, &ours, Some(&good)).await.unwrap(), Arbitration::Primary);
    assert!(connect(address, &ours, None).await.is_err(), "no certificate");
    assert!(connect(address, &ours, Some(&foreign.issue("controller.example"))).await.is_err(), "a foreign one");
}

#[tokio::test]
async fn a_broken_certificate_is_an_error_at_the_start() {
    let switch = Switch::builder(DEVICE, CPU_PORT).start().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tls = Tls { cert_pem: b"no certificate".to_vec(), key_pem: b"no key".to_vec(), client_ca_pem: None };
    assert!(switch.serve_tls(listener, &tls, std::future::pending()).await.is_err());
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_and_make_room_when_others_go() {
    let rig = Rig::start().await;
    // Silent connections: the switch keeps them until its keep-alive finds them dead, seconds later.
    let mut open = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        open.push(TcpStream::connect(rig.address).await.unwrap());
    }
    let mut refused = TcpStream::connect(rig.address).await.unwrap();
    let closed = tokio::time::timeout(PATIENCE, async {
        // The server greets (HTTP/2 settings) whom it keeps, and closes the others without a word.
        let mut bytes = Vec::new();
        refused.read_to_end(&mut bytes).await.map_or(true, |_| bytes.is_empty())
    });
    assert!(closed.await.unwrap());
    drop(open);
    let target = || Target::new(format!("http://{}", rig.address), DEVICE);
    let deadline = std::time::Instant::now() + PATIENCE;
    while Session::connect(target(), Some(ElectionId(1))).await.is_err() {
        assert!(std::time::Instant::now() < deadline, "no room in time");
    }
}
