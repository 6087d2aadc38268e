//! Dialling and listening, with mutual TLS or on loopback.

use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig};

use super::address::check_addr;
use super::link::{Link, Wire};
use crate::config::TlsConfig;
use crate::error::StoreError;

/// How long a connection attempt may take. Elections go on meanwhile.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);

/// Makes channels to members.
pub(crate) struct Dialer {
    tls: Option<ClientTlsConfig>,
    /// In place of TCP.
    wire: Option<Arc<dyn Wire>>,
}

impl Dialer {
    pub(crate) fn new(tls: Option<&TlsConfig>, wire: Option<Arc<dyn Wire>>) -> Dialer {
        let tls = tls.map(|t| {
            ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(&t.ca_pem))
                .identity(Identity::from_pem(&t.cert_pem, &t.key_pem))
                .domain_name(t.server_name.clone())
        });
        Dialer { tls, wire }
    }

    pub(crate) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// A channel to `addr` that connects at its first use, and again after it broke.
    pub(crate) fn dial(&self, addr: &str) -> Result<Link, StoreError> {
        check_addr(addr, self.has_tls())?;
        if let Some(wire) = &self.wire {
            return Ok(Link::Wire(wire.clone(), addr.to_owned()));
        }
        let scheme = if self.has_tls() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{addr}"))
            .map_err(|e| StoreError::Config(format!("{addr:?} is not a member's address: {e}")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true);
        let endpoint = match &self.tls {
            Some(tls) => endpoint.tls_config(tls.clone()).map_err(|e| StoreError::Tls(chain(&e)))?,
            None => endpoint,
        };
        Ok(Link::Tcp(endpoint.connect_lazy()))
    }
}

/// The server's side of mutual TLS: a client without a certificate of the authority is turned away.
pub(crate) fn server_tls(tls: &TlsConfig) -> ServerTlsConfig {
    ServerTlsConfig::new()
        .identity(Identity::from_pem(&tls.cert_pem, &tls.key_pem))
        .client_ca_root(Certificate::from_pem(&tls.ca_pem))
}

/// An error with its causes: tonic's own text is only "transport error".
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(c) = cause {
        let part = c.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = c.source();
    }
    text
}
