//! `dmux switch --tls-cert … --tls-key … --tls-ca …`

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use dmux_softswitch::server::listener::Tls;

/// TLS of the P4Runtime server.
#[derive(Debug, Args)]
pub struct TlsArgs {
    /// The switch's certificate (PEM): P4Runtime is then served with TLS.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The authority (PEM) whose certificate every controller must present: mutual TLS. Without it whoever reaches the
    /// address controls the switch.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_ca: Option<PathBuf>,
}

impl TlsArgs {
    /// Reads the files; `None` without TLS.
    pub fn read(&self) -> anyhow::Result<Option<Tls>> {
        let read = |flag: &str, path: &Path| {
            std::fs::read(path).with_context(|| format!("{flag}: {} cannot be read", path.display()))
        };
        let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        Ok(Some(Tls {
            cert_pem: read("--tls-cert", cert)?,
            key_pem: read("--tls-key", key)?,
            client_ca_pem: self.tls_ca.as_deref().map(|path| read("--tls-ca", path)).transpose()?,
        }))
    }
}
