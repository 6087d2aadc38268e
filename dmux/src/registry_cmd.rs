//! `dmux revoke` and `dmux drain`: what operators do to registrations, through any controller's `Registry` service.

use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use dmux_controller::api::v1::revoke_request::Key;
use dmux_controller::api::v1::{DrainRequest, RegistrationName, RevokeRequest, UnrevokeRequest};
use dmux_controller::model::Fingerprint;
use dmux_controller::registration::chain::certificate_fingerprint;
use dmux_wire::ProtocolId;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::api_client::{ApiArgs, refused};

/// Revoke the key of a router's or a provider's certificate, on all gateways.
///
/// Registrations that rest on it go at once, and are refused from then on. `dmux get revocations` shows what is revoked.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// PEM file; its first certificate's key is meant (router.crt: the router's, ca.crt of a provider: the provider's).
    #[arg(long, value_name = "FILE", required_unless_present = "fingerprint", conflicts_with = "fingerprint")]
    cert: Option<PathBuf>,
    /// SHA-256 of the certificate's SubjectPublicKeyInfo, 64 hexadecimal digits, instead of --cert.
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<Fingerprint>,
    /// For people: whose, why; at most 128 bytes. Without it, the certificate's name.
    #[arg(long, default_value = "")]
    note: String,
    /// Take the revocation back: the routers may register again.
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Let a router keep its clients and get no new ones, or get new ones again.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Address and port of the router.
    #[arg(long, value_name = "ADDRESS:PORT")]
    router: SocketAddrV4,
    /// Protocol of the registration.
    #[arg(long, value_name = "ID")]
    protocol: ProtocolId,
    /// It gets new clients again.
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Runs `dmux revoke`.
pub async fn revoke(args: RevokeArgs) -> anyhow::Result<()> {
    let (fingerprint, subject) = match (&args.cert, args.fingerprint) {
        (Some(path), _) => named(path)?,
        (None, Some(fingerprint)) => (fingerprint, String::new()),
        (None, None) => bail!("give --cert FILE or --fingerprint HEX"),
    };
    let mut client = args.api.registry().await?;
    if args.undo {
        let request = UnrevokeRequest { fingerprint: fingerprint.to_string() };
        client.unrevoke(request).await.map_err(refused)?;
        println!("{fingerprint} is not revoked any more");
        return Ok(());
    }
    let note = if args.note.is_empty() { subject } else { args.note };
    let request = RevokeRequest { key: Some(Key::Fingerprint(fingerprint.to_string())), note };
    let reply = client.revoke(request).await.map_err(refused)?.into_inner();
    println!("revoked {}; registrations removed: {}", reply.fingerprint, reply.registrations);
    Ok(())
}

/// Runs `dmux drain`.
pub async fn drain(args: DrainArgs) -> anyhow::Result<()> {
    let registration = RegistrationName { protocol: args.protocol.0.into(), router: args.router.to_string() };
    let request = DrainRequest { registration: Some(registration), draining: !args.undo };
    args.api.registry().await?.drain(request).await.map_err(refused)?;
    let what = if args.undo { "takes new clients again" } else { "keeps its clients and gets no new ones" };
    println!("router {} of protocol {} {what}", args.router, args.protocol);
    Ok(())
}

fn named(path: &Path) -> anyhow::Result<(Fingerprint, String)> {
    let pem = fs::read(path).with_context(|| format!("--cert {}: cannot be read", path.display()))?;
    let certificate = CertificateDer::pem_slice_iter(&pem).next();
    let Some(Ok(certificate)) = certificate else {
        bail!("--cert {}: holds no certificate in PEM; give the file that `dmux ca` wrote", path.display());
    };
    certificate_fingerprint(&certificate)
        .with_context(|| format!("--cert {}: its first certificate is not X.509", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_dmux_ca_names_the_key_of_its_first_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let (authority, provider, router) = (dir.path().join("a"), dir.path().join("p"), dir.path().join("r"));
        crate::ca_cmd::make_authority(&authority, "authority").unwrap();
        let id = dmux_wire::ProviderId(7);
        crate::ca_cmd::issue_provider(&authority, &provider, id, &[ProtocolId(41)], "Example Net").unwrap();
        crate::ca_cmd::issue_router(&provider, &router, "203.0.113.1".parse().unwrap(), "r1").unwrap();
        let (of_router, subject) = named(&router.join("router.crt")).unwrap();
        assert_eq!(subject, "r1");
        let (of_provider, subject) = named(&provider.join("ca.crt")).unwrap();
        assert_eq!(subject, "Example Net");
        assert_ne!(of_router, of_provider);
        let key = named(&router.join("router.key")).unwrap_err().to_string();
        assert!(key.contains("holds no certificate"), "{key}");
    }
}
