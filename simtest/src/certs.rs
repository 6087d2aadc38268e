//! Certificates for the simulated routers, made once for all runs.

use std::sync::OnceLock;

use dmux_controller::registration::Authorities;
use dmux_host::credentials::Credentials;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ED25519, SanType, date_time_ymd};

use crate::router::{MAX_ROUTERS, address, protocol, provider};

/// Everything that is signed.
struct Pki {
    authority: Vec<u8>,
    routers: Vec<Credentials>,
}

static PKI: OnceLock<Result<Pki, String>> = OnceLock::new();

fn pki() -> Result<&'static Pki, String> {
    PKI.get_or_init(|| make().map_err(|e| format!("the certificates cannot be made: {e}")))
        .as_ref()
        .map_err(Clone::clone)
}

/// Who is trusted to issue certificates to providers.
pub fn authorities() -> Result<Authorities, String> {
    Authorities::from_der(std::slice::from_ref(&pki()?.authority)).map_err(|e| e.to_string())
}

/// What the `n`th router proves itself with.
pub fn router(n: usize) -> Result<Credentials, String> {
    pki()?.routers.get(n).cloned().ok_or_else(|| format!("there is no router {n}"))
}

type Failed = Box<dyn std::error::Error>;

fn key(seed: u8) -> Result<(SigningKey, KeyPair), Failed> {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let der = key.to_pkcs8_der()?;
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der.as_bytes().into(), &PKCS_ED25519)?;
    Ok((key, pair))
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2028, 1, 1);
    params
}

fn make() -> Result<Pki, Failed> {
    let mut of_authority = params("authority");
    of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (_, pair) = key(1)?;
    let authority = of_authority.self_signed(&pair)?.der().to_vec();
    let issuer = Issuer::new(of_authority, pair);
    let mut routers = Vec::new();
    for n in 0..MAX_ROUTERS {
        let number = u8::try_from(n)?;
        let mut of_provider = params(&format!("provider {n}"));
        of_provider.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let uri = |text: String| -> Result<SanType, Failed> { Ok(SanType::URI(text.as_str().try_into()?)) };
        of_provider.subject_alt_names = vec![
            uri(format!("urn:dmux:provider:{}", provider(n).0))?,
            uri(format!("urn:dmux:protocol:{}", protocol(n).0))?,
        ];
        let (_, provider_pair) = key(50 + number)?;
        let provider_der = of_provider.signed_by(&provider_pair, &issuer)?.der().to_vec();
        let provider_issuer = Issuer::new(of_provider, provider_pair);
        let mut of_router = params(&format!("router-{n}"));
        of_router.subject_alt_names = vec![SanType::IpAddress((*address(n).ip()).into())];
        let (signing, router_pair) = key(100 + number)?;
        let der = of_router.signed_by(&router_pair, &provider_issuer)?.der().to_vec();
        routers.push(Credentials { key: signing, chain: vec![der, provider_der] });
    }
    Ok(Pki { authority, routers })
}
