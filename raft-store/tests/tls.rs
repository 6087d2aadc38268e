//! Mutual TLS between members.
#![allow(clippy::unwrap_used)] // helpers of tests: a failed unwrap is a failed test

mod common;

use std::collections::BTreeMap;
use std::net::TcpListener;

use common::{Kv, SOON, put, timing};
use dmux_raft_store::{Listen, Start, Store, StoreConfig, StoreError, TlsConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

const NAME: &str = "dmux-raft";

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// TLS material of a member; `trusts` is whom it believes.
    fn member(&self, trusts: &Authority) -> TlsConfig {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![NAME.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        TlsConfig {
            cert_pem: cert.pem().into_bytes(),
            key_pem: key.serialize_pem().into_bytes(),
            ca_pem: trusts.0.pem().into_bytes(),
            server_name: NAME.to_owned(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_meet_over_mutual_tls_and_strangers_stay_out() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let listeners: BTreeMap<u64, TcpListener> =
        (1..=3).map(|id| (id, TcpListener::bind("127.0.0.1:0").unwrap())).collect();
    let members: BTreeMap<u64, String> =
        listeners.iter().map(|(&id, l)| (id, l.local_addr().unwrap().to_string())).collect();
    let mut nodes = Vec::new();
    for (id, listener) in listeners {
        let start = Start::Bootstrap { members: members.clone() };
        let mut config = StoreConfig::new(id, dir.path().join(id.to_string()), Listen::Bound(listener), start);
        config.timing = timing();
        config.tls = Some(authority.member(&authority));
        nodes.push(Store::open(config, Kv::default()).await.unwrap());
    }
    for node in &nodes {
        node.wait_ready(SOON).await.unwrap();
        node.propose(put("k", "v"), SOON).await.unwrap();
    }

    // One without TLS, one with a certificate of somebody else's authority. Neither ever becomes a member; a member
    // with the right certificate, started after them, does, so they had their chance.
    let stranger = Authority::new();
    let seeds: Vec<String> = members.values().cloned().collect();
    let mut outsiders = Vec::new();
    for (id, tls) in [(7, None), (8, Some(stranger.member(&authority)))] {
        let join = Start::Learn { seeds: seeds.clone() };
        let listen = Listen::Addr("127.0.0.1:0".parse().unwrap());
        let mut config = StoreConfig::new(id, dir.path().join(id.to_string()), listen, join);
        config.tls = tls;
        outsiders.push(Store::open(config, Kv::default()).await.unwrap());
    }
    let listen = Listen::Addr("127.0.0.1:0".parse().unwrap());
    let mut config = StoreConfig::new(9, dir.path().join("9"), listen, Start::Learn { seeds });
    config.tls = Some(authority.member(&authority));
    let welcome = Store::open(config, Kv::default()).await.unwrap();
    welcome.wait_ready(SOON).await.unwrap();
    for outsider in &outsiders {
        assert!(outsider.status().learners.is_empty());
        outsider.shutdown().await;
    }
    let members = nodes[0].status();
    assert!(!members.learners.contains_key(&7) && !members.learners.contains_key(&8));
    welcome.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_tls_material_is_named_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let members = [(1, "127.0.0.1:1".to_owned())].into();
    let listen = Listen::Addr("127.0.0.1:0".parse().unwrap());
    let mut config = StoreConfig::new(1, dir.path().join("1"), listen, Start::Bootstrap { members });
    let rubbish = b"not a pem".to_vec();
    config.tls = Some(TlsConfig {
        cert_pem: rubbish.clone(),
        key_pem: rubbish.clone(),
        ca_pem: rubbish,
        server_name: NAME.to_owned(),
    });
    let refused = Store::open(config, Kv::default()).await;
    assert!(matches!(refused, Err(StoreError::Tls(_))), "{:?}", refused.err());
}
