//! Certificates: who may register what.
//!
//! All keys are Ed25519. The conventions, beyond RFC 5280:
//!
//! | certificate | issued by | says |
//! | --- | --- | --- |
//! | authority | itself | trusted by configuration |
//! | provider (CA, path length 0 or more) | authority | URI names `urn:dmux:provider:7` and, for each protocol that the provider may serve, `urn:dmux:protocol:41`; optionally name constraints on its routers' addresses |
//! | router (not a CA) | provider | IP names: the addresses that the router may register |
//! | endpoint (not a CA) | authority | URI name `urn:dmux:endpoint:020000000007`: its Ethernet address |
//!
//! The provider and protocol names count only in the certificate that the *authority* signed: what a provider writes
//! into those that it signs itself gives no right. An authority may sign a router directly; then that
//! certificate carries both kinds of names. An endpoint is certified by an authority itself, or a provider could let anybody
//! onto any access link. The chain in a registration starts with the router's certificate and leaves the
//! authority's out. Extended key usage, where present, must include client authentication.

use std::net::Ipv4Addr;
use std::time::Duration;

use dmux_wire::control::RefusalCode;
use dmux_wire::{MacAddr, ProtocolId, ProviderId};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use thiserror::Error;
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::refusal::cut;
use crate::model::{Fingerprint, MAX_ROUTER_CHAIN, MAX_ROUTER_NAME};

/// Certificates in a registration at most.
pub const MAX_CHAIN: usize = MAX_ROUTER_CHAIN;
/// Authorities trusted at a time at most: a chain is tried against each.
pub const MAX_AUTHORITIES: usize = 16;
/// Start of the name of a provider; its number follows.
pub const PROVIDER_URN: &str = "urn:dmux:provider:";
/// Start of the name of an endpoint; its Ethernet address follows ([`endpoint_urn`]).
pub const ENDPOINT_URN: &str = "urn:dmux:endpoint:";
/// Start of the name of a permitted protocol; its number follows.
pub const PROTOCOL_URN: &str = "urn:dmux:protocol:";

/// Why the authorities cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuthorityError {
    /// The text holds no certificate.
    #[error("there is no certificate in it; give the PEM file that `dmux ca init` wrote as ca.crt")]
    None,
    /// Too many.
    #[error("{0} certificates are too many; at most {MAX_AUTHORITIES} authorities are trusted")]
    TooMany(usize),
    /// One cannot be read.
    #[error("certificate {0} in it cannot be read ({1}); give the PEM file that `dmux ca init` wrote as ca.crt")]
    Bad(usize, String),
}

/// Why a chain gives no right to what is registered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChainError {
    /// Missing, or more than [`MAX_CHAIN`].
    #[error("the chain has {0} certificates; send one's own and its issuers', at most {MAX_CHAIN}")]
    Length(usize),
    /// One is not X.509.
    #[error("certificate {0} of the chain cannot be read; send DER, one's own first")]
    Unreadable(usize),
    /// No path to an authority.
    #[error("the chain does not end at an authority of this network; get certificates from its operator")]
    UnknownAuthority,
    /// Too late.
    #[error("a certificate of the chain expired {0} s ago; renew it")]
    Expired(u64),
    /// Too early.
    #[error("a certificate of the chain becomes valid only in {0} s; wait, or set the issuer's clock")]
    NotYetValid(u64),
    /// A signature, constraint or purpose does not hold.
    #[error("the chain is not valid: {0}")]
    Invalid(String),
    /// The key of the first certificate has another algorithm.
    #[error("the first certificate's key is no Ed25519 key; issue it with `dmux ca`")]
    Key,
    /// The router's certificate lacks the address.
    #[error("the router's certificate does not name {0}; issue one that does, with `dmux ca router --address {0}`")]
    Address(Ipv4Addr),
    /// The authority's signature is under another provider, or none.
    #[error("the authority certified {certified}, not provider {wanted}")]
    Provider {
        /// In the registration.
        wanted: ProviderId,
        /// What the authority's signature is under.
        certified: String,
    },
    /// The provider lacks the protocol.
    #[error("provider {provider} is not certified for protocol {wanted}; ask the authority to permit it")]
    Protocol {
        /// Whose certificate.
        provider: ProviderId,
        /// In the registration.
        wanted: ProtocolId,
    },
    /// The endpoint's certificate lacks its address.
    #[error("the certificate does not name endpoint {0}; issue one that does, with `dmux ca endpoint --mac {0}`")]
    Endpoint(MacAddr),
    /// Somebody else than an authority certified an endpoint.
    #[error("the endpoint's certificate is not signed by an authority itself; issue it with `dmux ca endpoint`")]
    NotByAuthority,
}

impl ChainError {
    /// What a refusal for this reason carries.
    pub const fn code(&self) -> RefusalCode {
        match self {
            Self::Length(_) | Self::Unreadable(_) => RefusalCode::BadChain,
            Self::UnknownAuthority => RefusalCode::UnknownAuthority,
            Self::Expired(_) => RefusalCode::ChainExpired,
            Self::NotYetValid(_) => RefusalCode::ChainNotYetValid,
            Self::Invalid(_) | Self::NotByAuthority => RefusalCode::ChainInvalid,
            Self::Key => RefusalCode::BadKey,
            Self::Address(_) | Self::Endpoint(_) => RefusalCode::AddressNotCertified,
            Self::Provider { .. } => RefusalCode::ProviderNotCertified,
            Self::Protocol { .. } => RefusalCode::ProtocolNotCertified,
        }
    }
}

/// Whom to trust.
#[derive(Debug, Clone)]
pub struct Authorities {
    anchors: Vec<Anchor>,
}

#[derive(Debug, Clone)]
struct Anchor {
    trust: TrustAnchor<'static>,
    not_after: u64,
}

/// What a registration claims to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) address: Ipv4Addr,
    pub(crate) provider: ProviderId,
    pub(crate) protocol: ProtocolId,
}

/// What a chain proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) public_key: [u8; 32],
    /// Printable, at most [`MAX_ROUTER_NAME`] bytes.
    pub(crate) name: String,
    /// When the first of the certificates used expires, seconds since the Unix epoch.
    pub(crate) not_after: u64,
    /// The keys of the certificates used, the router's first.
    pub(crate) chain: Vec<Fingerprint>,
}

impl Authorities {
    /// The certificates of a PEM file.
    pub fn from_pem(pem: &str) -> Result<Self, AuthorityError> {
        let mut all = Vec::new();
        for (n, cert) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
            all.push(cert.map_err(|e| AuthorityError::Bad(n + 1, e.to_string()))?.to_vec());
        }
        Self::from_der(&all)
    }

    /// Certificates in DER.
    pub fn from_der(certificates: &[Vec<u8>]) -> Result<Self, AuthorityError> {
        if certificates.is_empty() {
            return Err(AuthorityError::None);
        }
        if certificates.len() > MAX_AUTHORITIES {
            return Err(AuthorityError::TooMany(certificates.len()));
        }
        let anchor = |(n, der): (usize, &Vec<u8>)| {
            let bad = |e: String| AuthorityError::Bad(n + 1, e);
            let (_, parsed) = X509Certificate::from_der(der).map_err(|e| bad(e.to_string()))?;
            let not_after = seconds(parsed.validity().not_after.timestamp());
            let der = CertificateDer::from(der.as_slice());
            let trust = webpki::anchor_from_trusted_cert(&der).map_err(|e| bad(e.to_string()))?.to_owned();
            Ok(Anchor { trust, not_after })
        };
        Ok(Self { anchors: certificates.iter().enumerate().map(anchor).collect::<Result<_, _>>()? })
    }

    /// Checks that the chain gives the right to the claim.
    pub(crate) fn verify(&self, unix: Duration, chain: &[Vec<u8>], claim: Claim) -> Result<Identity, ChainError> {
        let Verified { leaf: router, top: provider, not_after, keys } = self.walk(unix, chain)?;
        if !router.addresses.contains(&claim.address) {
            return Err(ChainError::Address(claim.address));
        }
        if !provider.numbers(PROVIDER_URN).any(|n| n == u64::from(claim.provider.0)) {
            let certified: Vec<_> = provider.numbers(PROVIDER_URN).map(|n| n.to_string()).collect();
            let certified =
                if certified.is_empty() { "no provider".into() } else { format!("provider {}", certified.join(", ")) };
            return Err(ChainError::Provider { wanted: claim.provider, certified });
        }
        if !provider.numbers(PROTOCOL_URN).any(|n| n == u64::from(claim.protocol.0)) {
            return Err(ChainError::Protocol { provider: claim.provider, wanted: claim.protocol });
        }
        let public_key = router.public_key.ok_or(ChainError::Key)?;
        Ok(Identity { public_key, name: router.name, not_after, chain: keys })
    }

    /// Checks that the chain is an endpoint's with this address.
    pub(crate) fn verify_endpoint(
        &self,
        unix: Duration,
        chain: &[Vec<u8>],
        mac: MacAddr,
    ) -> Result<Identity, ChainError> {
        let Verified { leaf, not_after, keys, .. } = self.walk(unix, chain)?;
        if keys.len() > 1 {
            return Err(ChainError::NotByAuthority);
        }
        if !leaf.uris.contains(&endpoint_urn(mac)) {
            return Err(ChainError::Endpoint(mac));
        }
        let public_key = leaf.public_key.ok_or(ChainError::Key)?;
        Ok(Identity { public_key, name: leaf.name, not_after, chain: keys })
    }

    /// Finds the way from the first certificate to an authority.
    fn walk(&self, unix: Duration, chain: &[Vec<u8>]) -> Result<Verified, ChainError> {
        let Some((leaf, issuers)) = chain.split_first().filter(|_| chain.len() <= MAX_CHAIN) else {
            return Err(ChainError::Length(chain.len()));
        };
        let now = unix.as_secs();
        let valid: Vec<_> = self.anchors.iter().filter(|a| now <= a.not_after).map(|a| a.trust.clone()).collect();
        let leaf = CertificateDer::from(leaf.as_slice());
        let issuers: Vec<_> = issuers.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let end_entity = EndEntityCert::try_from(&leaf).map_err(|e| match e {
            webpki::Error::CaUsedAsEndEntity => invalid(&e),
            _ => ChainError::Unreadable(1),
        })?;
        let path = end_entity
            .verify_for_usage(
                &[webpki::ring::ED25519],
                &valid,
                &issuers,
                UnixTime::since_unix_epoch(unix),
                KeyUsage::client_auth(),
                None,
                None,
            )
            .map_err(|e| chain_error(&e))?;
        let used: Vec<_> = path.intermediate_certificates().map(|cert| cert.der()).collect();
        // The certificate that the authority signed: the last below the anchor.
        let top = used.last().cloned().unwrap_or_else(|| leaf.clone());
        let anchor_end = self
            .anchors
            .iter()
            .find(|a| a.trust.subject_public_key_info == path.anchor().subject_public_key_info)
            .map_or(0, |a| a.not_after);

        let leaf = Certificate::read(&leaf, 1)?;
        let top = Certificate::read(&top, chain.len())?;
        let mut not_after = anchor_end.min(leaf.not_after);
        let mut keys = vec![leaf.fingerprint];
        for (n, der) in used.iter().enumerate() {
            let issuer = Certificate::read(der, n + 2)?;
            not_after = not_after.min(issuer.not_after);
            keys.push(issuer.fingerprint);
        }
        Ok(Verified { leaf, top, not_after, keys })
    }
}

/// A way of certificates from a leaf to an authority, all of them valid.
struct Verified {
    leaf: Certificate,
    /// The one that the authority signed; may be the leaf.
    top: Certificate,
    /// When the first of them expires, seconds since the Unix epoch.
    not_after: u64,
    /// Of the leaf, then of its issuers.
    keys: Vec<Fingerprint>,
}

/// The name of an endpoint in its certificate: [`ENDPOINT_URN`] and its address as twelve hexadecimal digits.
pub fn endpoint_urn(mac: MacAddr) -> String {
    format!("{ENDPOINT_URN}{:012x}", mac.to_u64())
}

fn chain_error(error: &webpki::Error) -> ChainError {
    use webpki::Error as E;
    match error {
        E::CertExpired { time, not_after } => ChainError::Expired(time.as_secs().saturating_sub(not_after.as_secs())),
        E::CertNotValidYet { time, not_before } => {
            ChainError::NotYetValid(not_before.as_secs().saturating_sub(time.as_secs()))
        }
        E::UnknownIssuer => ChainError::UnknownAuthority,
        other => invalid(other),
    }
}

fn invalid(error: &webpki::Error) -> ChainError {
    let text = match error {
        webpki::Error::CaUsedAsEndEntity => "the first certificate is a CA's; one's own comes first".into(),
        webpki::Error::EndEntityUsedAsCa => "a certificate that is not a CA's has issued another".into(),
        webpki::Error::NameConstraintViolation => "a name is outside of what its issuer may certify".into(),
        webpki::Error::PathLenConstraintViolated => "a provider has issued more levels than it may".into(),
        webpki::Error::InvalidSignatureForPublicKey => {
            "a signature does not verify; a certificate was damaged, or comes from another authority of the same name"
                .into()
        }
        other => cut(&other.to_string(), 120).to_owned(),
    };
    ChainError::Invalid(text)
}

fn fingerprint(spki: &[u8]) -> Fingerprint {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, spki).as_ref());
    Fingerprint(bytes)
}

/// What a certificate (DER) is revoked by, and the name of its subject.
pub fn certificate_fingerprint(der: &[u8]) -> Result<(Fingerprint, String), ChainError> {
    Certificate::read(der, 1).map(|certificate| (certificate.fingerprint, certificate.name))
}

/// What is read of one certificate.
struct Certificate {
    name: String,
    not_after: u64,
    /// Only if it is an Ed25519 key.
    public_key: Option<[u8; 32]>,
    fingerprint: Fingerprint,
    addresses: Vec<Ipv4Addr>,
    uris: Vec<String>,
}

impl Certificate {
    /// `n` is its place in the chain, for the error.
    fn read(der: &[u8], n: usize) -> Result<Self, ChainError> {
        let unreadable = || ChainError::Unreadable(n);
        let (_, cert) = X509Certificate::from_der(der).map_err(|_| unreadable())?;
        let (mut addresses, mut uris) = (Vec::new(), Vec::new());
        if let Some(names) = cert.subject_alternative_name().map_err(|_| unreadable())? {
            for name in &names.value.general_names {
                match name {
                    GeneralName::IPAddress(bytes) => {
                        addresses.extend(<[u8; 4]>::try_from(*bytes).ok().map(Ipv4Addr::from));
                    }
                    GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                    _ => {}
                }
            }
        }
        let spki = cert.public_key();
        let is_ed25519 = spki.algorithm.algorithm == OID_SIG_ED25519;
        let common_name = cert.subject().iter_common_name().next().and_then(|cn| cn.as_str().ok());
        Ok(Self {
            name: printable(common_name.unwrap_or("unnamed")),
            not_after: seconds(cert.validity().not_after.timestamp()),
            fingerprint: fingerprint(spki.raw),
            public_key: spki.subject_public_key.data.as_ref().try_into().ok().filter(|_| is_ed25519),
            addresses,
            uris,
        })
    }

    fn numbers(&self, urn: &'static str) -> impl Iterator<Item = u64> {
        self.uris.iter().filter_map(move |uri| {
            // Only one spelling of a number: `+7` and `007` parse too.
            let text = uri.strip_prefix(urn)?;
            text.parse::<u64>().ok().filter(|n| n.to_string() == text)
        })
    }
}

/// Without anything that could play tricks with a terminal or a log, and not too long.
fn printable(name: &str) -> String {
    let clean: String =
        name.chars().map(|c| if c.is_alphanumeric() || " .-_:@/+".contains(c) { c } else { '?' }).collect();
    cut(&clean, MAX_ROUTER_NAME).to_owned()
}

fn seconds(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or(0)
}
