//! `dmux ca`: an authority, and certificates for providers, their routers, and endpoints of access LANs.
//!
//! What the certificates say is documented in `dmux_controller::registration::chain`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use dmux_controller::model::Ipv4Prefix;
use dmux_controller::registration::chain::{MAX_CHAIN, PROTOCOL_URN, PROVIDER_URN, endpoint_urn};
use dmux_host::credentials::{CERTIFICATE_FILE, ENDPOINT_CERTIFICATE_FILE, ENDPOINT_KEY_FILE, KEY_FILE, fits};
use dmux_wire::{MacAddr, ProtocolId, ProviderId};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints, PKCS_ED25519, SanType, SerialNumber, date_time_ymd,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Certificate of an authority or a provider; a provider's is followed by its issuers', without the authority's.
const CA_CERTIFICATE_FILE: &str = "ca.crt";
/// Its private key.
const CA_KEY_FILE: &str = "ca.key";
/// Certificates are valid from this long before now, for clocks that are behind.
const BACKDATED: Duration = Duration::from_secs(3600);
/// Bytes of a name in a certificate: chains must fit one datagram.
const MAX_NAME: usize = 64;
const AUTHORITY_DAYS: u32 = 3650;
const PROVIDER_DAYS: u32 = 1095;
const ROUTER_DAYS: u32 = 365;
const ENDPOINT_DAYS: u32 = 365;

/// Make an authority, and issue certificates to providers, their routers, and endpoints of access LANs.
#[derive(Debug, Args)]
pub struct CaArgs {
    #[command(subcommand)]
    command: CaCommand,
}

#[derive(Debug, Subcommand)]
enum CaCommand {
    /// Make an authority: a key and a self-signed certificate. Controllers trust what it signs.
    Init(InitArgs),
    /// Certify a provider: which protocols it may serve. It can then certify its routers itself.
    Provider(ProviderArgs),
    /// Certify an IPvN router: which addresses it may register.
    Router(RouterArgs),
    /// Certify an endpoint of access LANs, for access links that ask for it (`dmux access-link put --authenticate`).
    Endpoint(EndpointArgs),
}

#[derive(Debug, Args)]
struct InitArgs {
    /// Folder to write ca.crt and ca.key to; made if absent.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the authority.
    #[arg(long, default_value = "dmux authority")]
    name: String,
    /// How long the certificate is valid.
    #[arg(long, default_value_t = AUTHORITY_DAYS, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
}

#[derive(Debug, Args)]
struct ProviderArgs {
    /// Folder of the authority (or of the provider that delegates).
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// Number of the provider, at least 2: 1 means any provider.
    #[arg(long)]
    id: ProviderId,
    /// A protocol that it may serve; repeat for more.
    #[arg(long = "protocol", value_name = "ID", required = true)]
    protocols: Vec<ProtocolId>,
    /// Restricts its routers to addresses in this prefix; repeat for more.
    #[arg(long = "addresses", value_name = "PREFIX")]
    addresses: Vec<Ipv4Prefix>,
    /// Levels of providers that it may certify below itself.
    #[arg(long, default_value_t = 0, value_name = "LEVELS", value_parser = clap::value_parser!(u8).range(0..=2))]
    delegate: u8,
    /// Name of the provider.
    #[arg(long)]
    name: String,
    /// Folder to write ca.crt and ca.key to; made if absent.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How long the certificate is valid; never longer than its issuer's.
    #[arg(long, default_value_t = PROVIDER_DAYS, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
}

#[derive(Debug, Args)]
struct RouterArgs {
    /// Folder of the provider.
    #[arg(long, value_name = "DIR")]
    issuer: PathBuf,
    /// IPv4 address that the router registers; repeat for more.
    #[arg(long = "address", value_name = "ADDRESS", required = true)]
    addresses: Vec<Ipv4Addr>,
    /// Name of the router.
    #[arg(long)]
    name: String,
    /// Folder to write router.crt and router.key to; made if absent.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How long the certificate is valid; never longer than its issuer's.
    #[arg(long, default_value_t = ROUTER_DAYS, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
}

#[derive(Debug, Args)]
struct EndpointArgs {
    /// Folder of the authority.
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// Ethernet address of the endpoint.
    #[arg(long)]
    mac: MacAddr,
    /// Name of the endpoint.
    #[arg(long)]
    name: String,
    /// Folder to write endpoint.crt and endpoint.key to; made if absent.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How long the certificate is valid; never longer than the authority's.
    #[arg(long, default_value_t = ENDPOINT_DAYS, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
}

/// Runs `dmux ca`.
pub async fn run(args: CaArgs) -> anyhow::Result<()> {
    match args.command {
        CaCommand::Init(args) => {
            init(&args.out, &args.name, args.days)?;
            let dir = args.out.display();
            println!("authority {:?} in {dir}: keep {dir}/{CA_KEY_FILE} secret and offline,", args.name);
            println!("give {dir}/{CA_CERTIFICATE_FILE} to every controller (authority = … in its configuration)");
        }
        CaCommand::Provider(args) => {
            provider(&args)?;
            let dir = args.out.display();
            println!(
                "provider {} ({}) in {dir}: issue to its routers with `dmux ca router --issuer {dir} …`",
                args.id, args.name
            );
        }
        CaCommand::Router(args) => {
            router(&args)?;
            let dir = args.out.display();
            println!("router {} in {dir}: start it with `dmux router --credentials {dir} …`", args.name);
        }
        CaCommand::Endpoint(args) => {
            endpoint(&args)?;
            println!("endpoint {} ({}) in {}", args.mac, args.name, args.out.display());
        }
    }
    Ok(())
}

/// Makes an authority in a folder.
pub fn make_authority(out: &Path, name: &str) -> anyhow::Result<()> {
    init(out, name, AUTHORITY_DAYS)
}

/// Certifies a provider of these protocols.
pub fn issue_provider(
    authority: &Path,
    out: &Path,
    id: ProviderId,
    protocols: &[ProtocolId],
    name: &str,
) -> anyhow::Result<()> {
    provider(&ProviderArgs {
        ca: authority.to_owned(),
        id,
        protocols: protocols.to_vec(),
        addresses: Vec::new(),
        delegate: 0,
        name: name.to_owned(),
        out: out.to_owned(),
        days: PROVIDER_DAYS,
    })
}

/// Certifies a router with one address.
pub fn issue_router(issuer: &Path, out: &Path, address: Ipv4Addr, name: &str) -> anyhow::Result<()> {
    router(&RouterArgs {
        issuer: issuer.to_owned(),
        addresses: vec![address],
        name: name.to_owned(),
        out: out.to_owned(),
        days: ROUTER_DAYS,
    })
}

fn init(out: &Path, name: &str, days: u32) -> anyhow::Result<()> {
    let mut params = params(name, days, u64::MAX)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let (key, key_pem) = new_key()?;
    let certificate = params.self_signed(&key)?;
    write_pair(out, CA_KEY_FILE, &key_pem, CA_CERTIFICATE_FILE, &certificate.pem())
}

fn provider(args: &ProviderArgs) -> anyhow::Result<()> {
    ensure!(args.id.0 > 1, "--id {}: a provider's number is at least 2 (1 means any provider, 0 none)", args.id);
    ensure!(args.protocols.iter().all(|p| p.0 != 0), "--protocol 0: protocol numbers start at 1");
    let issuer = CertificateIssuer::load(&args.ca)?;
    let mut params = params(&args.name, args.days, issuer.not_after)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(args.delegate));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let urns = std::iter::once(format!("{PROVIDER_URN}{}", args.id))
        .chain(args.protocols.iter().map(|protocol| format!("{PROTOCOL_URN}{protocol}")));
    for urn in urns {
        params.subject_alt_names.push(SanType::URI(urn.try_into()?));
    }
    if !args.addresses.is_empty() {
        let subtree =
            |p: &Ipv4Prefix| GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(p.address().octets(), p.length()));
        let permitted_subtrees = args.addresses.iter().map(subtree).collect();
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    }
    issuer.issue(&params, &args.out, CA_KEY_FILE, CA_CERTIFICATE_FILE)
}

fn router(args: &RouterArgs) -> anyhow::Result<()> {
    let issuer = CertificateIssuer::load(&args.issuer)?;
    ensure!(
        !issuer.is_authority,
        "--issuer {}: this is the authority; routers get their certificates from a provider: make one with `dmux ca provider \
         --ca {0} --id … --protocol … --name … --out …`",
        args.issuer.display()
    );
    let mut params = params(&args.name, args.days, issuer.not_after)?;
    params.is_ca = IsCa::NoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    for &address in &args.addresses {
        let unusable =
            address.is_unspecified() || address.is_multicast() || address.is_broadcast() || address.is_loopback();
        ensure!(!unusable, "--address {address}: no router can register it; give its unicast address");
        params.subject_alt_names.push(SanType::IpAddress(address.into()));
    }
    issuer.issue(&params, &args.out, KEY_FILE, CERTIFICATE_FILE)
}

fn endpoint(args: &EndpointArgs) -> anyhow::Result<()> {
    ensure!(
        !args.mac.is_multicast() && args.mac != MacAddr::ZERO,
        "--mac {}: this is not the address of one station",
        args.mac
    );
    let issuer = CertificateIssuer::load(&args.ca)?;
    ensure!(
        issuer.is_authority,
        "--ca {}: this is a provider; gateways take endpoints only that an authority itself certifies",
        args.ca.display()
    );
    let mut params = params(&args.name, args.days, issuer.not_after)?;
    params.is_ca = IsCa::NoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.subject_alt_names.push(SanType::URI(endpoint_urn(args.mac).try_into()?));
    issuer.issue(&params, &args.out, ENDPOINT_KEY_FILE, ENDPOINT_CERTIFICATE_FILE)
}

/// Who signs.
struct CertificateIssuer {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// Seconds since the Unix epoch.
    not_after: u64,
    is_authority: bool,
    /// What routers below send along: its own and its issuers' certificates, without the authority's.
    chain: Vec<CertificateDer<'static>>,
    chain_pem: String,
}

impl CertificateIssuer {
    fn load(dir: &Path) -> anyhow::Result<Self> {
        let (certificate_path, key_path) = (dir.join(CA_CERTIFICATE_FILE), dir.join(CA_KEY_FILE));
        let absent = |path: &Path| {
            format!(
                "{}: cannot be read; give the folder that `dmux ca init` or `dmux ca provider` wrote",
                path.display()
            )
        };
        let pem = fs::read_to_string(&certificate_path).with_context(|| absent(&certificate_path))?;
        let key_pem = fs::read_to_string(&key_path).with_context(|| absent(&key_path))?;
        let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| format!("{}: is no certificate in PEM", certificate_path.display()))?;
        let Some(own) = chain.first() else { bail!("{}: holds no certificate", certificate_path.display()) };
        let (_, parsed) = X509Certificate::from_der(own)
            .with_context(|| format!("{}: is no X.509 certificate", certificate_path.display()))?;
        ensure!(
            parsed.is_ca(),
            "{}: is not a certificate that may sign others; give an authority's or a provider's folder",
            certificate_path.display()
        );
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(&key_pem, &PKCS_ED25519)
            .with_context(|| format!("{}: is no Ed25519 private key in PKCS #8 PEM", key_path.display()))?;
        ensure!(
            key.public_key_raw() == &*parsed.public_key().subject_public_key.data,
            "{}: does not belong to {}; they must come from the same run of `dmux ca`",
            key_path.display(),
            certificate_path.display()
        );
        let is_authority = parsed.subject() == parsed.issuer();
        let not_after = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        let issuer = Issuer::from_ca_cert_der(own, key)?;
        let dir = dir.to_owned();
        let (chain, chain_pem) = if is_authority { (Vec::new(), String::new()) } else { (chain, pem) };
        Ok(Self { dir, issuer, not_after, is_authority, chain, chain_pem })
    }

    /// Signs a new key's certificate, and writes it with what is above it.
    fn issue(&self, params: &CertificateParams, out: &Path, key_file: &str, file: &str) -> anyhow::Result<()> {
        ensure!(
            self.not_after > unix_now().as_secs(),
            "{}: its certificate has expired, so what it signs would be refused; renew it first",
            self.dir.display()
        );
        let (key, key_pem) = new_key()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let mut chain = vec![certificate.der().to_vec()];
        chain.extend(self.chain.iter().map(|der| der.to_vec()));
        ensure!(chain.len() <= MAX_CHAIN, "a chain of {} certificates is too long; at most {MAX_CHAIN}", chain.len());
        ensure!(
            fits(&chain),
            "the certificates have {} bytes together, too many for a registration datagram; use shorter names, fewer \
             protocols or addresses, or fewer levels of providers",
            chain.iter().map(Vec::len).sum::<usize>()
        );
        write_pair(out, key_file, &key_pem, file, &(certificate.pem() + &self.chain_pem))
    }
}

/// A name and a validity, which ends with the issuer's.
fn params(name: &str, days: u32, issuer_not_after: u64) -> anyhow::Result<CertificateParams> {
    ensure!(!name.is_empty() && name.len() <= MAX_NAME, "--name {name:?}: give a name of 1 to {MAX_NAME} bytes");
    ensure!(!name.chars().any(char::is_control), "--name {name:?}: use printable characters only");
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // Unique by chance (62 random bits) and 12 bytes shorter than what RFC 5280 §4.1.2.2 allows: chains must be short.
    let mut serial: [u8; 8] = rand::random();
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let epoch = date_time_ymd(1970, 1, 1);
    let now = unix_now();
    let end = (now.as_secs() + u64::from(days) * 86_400).min(issuer_not_after);
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(BACKDATED).as_secs());
    params.not_after = epoch + Duration::from_secs(end);
    Ok(params)
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A new Ed25519 key, for rcgen and as PKCS #8 PEM.
fn new_key() -> anyhow::Result<(KeyPair, String)> {
    let secret: [u8; 32] = rand::random();
    let pem = SigningKey::from_bytes(&secret).to_pkcs8_pem(LineEnding::LF)?;
    Ok((KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &PKCS_ED25519)?, pem.to_string()))
}

/// Writes both files or none; never over existing ones. The key is readable by its owner only.
fn write_pair(dir: &Path, key_file: &str, key: &str, certificate_file: &str, certificate: &str) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("{}: cannot be made", dir.display()))?;
    let (key_path, certificate_path) = (dir.join(key_file), dir.join(certificate_file));
    for path in [&key_path, &certificate_path] {
        ensure!(
            !path.exists(),
            "{}: exists already and is not overwritten; give another --out, or remove it if nothing needs it any more",
            path.display()
        );
    }
    write_new(&key_path, key, 0o600)?;
    write_new(&certificate_path, certificate, 0o644).inspect_err(|_| {
        // Ours, and useless without the certificate.
        let _ = fs::remove_file(&key_path);
    })
}

fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("{}: cannot be written", path.display()))
}

#[cfg(test)]
mod tests;
