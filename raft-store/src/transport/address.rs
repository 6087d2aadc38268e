//! Addresses: loopback only unless TLS is configured (DESIGN §8).

use std::net::{IpAddr, SocketAddr, TcpListener};

use crate::config::{Listen, MAX_ADDR_BYTES};
use crate::error::StoreError;

/// Binds the listener, or takes the one given.
pub(crate) fn bind(listen: Listen, tls: bool) -> Result<(TcpListener, SocketAddr), StoreError> {
    let (listener, addr) = match listen {
        Listen::Addr(addr) => {
            check_ip(addr.ip(), tls).map_err(|()| StoreError::NeedsTls { addr: addr.to_string() })?;
            let failed = |e: std::io::Error| StoreError::Listen { addr, error: e.to_string() };
            let listener = TcpListener::bind(addr).map_err(failed)?;
            let bound = listener.local_addr().map_err(failed)?;
            (listener, bound)
        }
        Listen::Bound(listener) => {
            let addr = listener
                .local_addr()
                .map_err(|e| StoreError::Config(format!("the listener handed over has no address: {e}")))?;
            check_ip(addr.ip(), tls).map_err(|()| StoreError::NeedsTls { addr: addr.to_string() })?;
            (listener, addr)
        }
    };
    listener.set_nonblocking(true).map_err(|e| StoreError::Listen { addr, error: e.to_string() })?;
    Ok((listener, addr))
}

fn check_ip(ip: IpAddr, tls: bool) -> Result<(), ()> {
    if tls || ip.is_loopback() { Ok(()) } else { Err(()) }
}

/// A member's `host:port`: well formed, and loopback unless there is TLS.
pub(crate) fn check_addr(addr: &str, tls: bool) -> Result<(), StoreError> {
    let wrong = |why: &str| StoreError::Config(format!("{:?} is not a member's address: {why}", shorten(addr)));
    if addr.len() > MAX_ADDR_BYTES {
        return Err(wrong("it is too long"));
    }
    let (host, port) = addr.rsplit_once(':').ok_or_else(|| wrong("write host:port"))?;
    if port.parse::<u16>().ok().filter(|&p| p != 0).is_none() {
        return Err(wrong("the port is a number from 1 to 65535"));
    }
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let name_ok =
        |h: &str| !h.is_empty() && h.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    match bare.parse::<IpAddr>() {
        Ok(ip) => check_ip(ip, tls).map_err(|()| StoreError::NeedsTls { addr: addr.to_owned() }),
        Err(_) if !name_ok(bare) => Err(wrong("the host is neither a name nor an IP address")),
        Err(_) if tls || bare == "localhost" => Ok(()),
        Err(_) => Err(StoreError::NeedsTls { addr: addr.to_owned() }),
    }
}

fn shorten(addr: &str) -> String {
    addr.chars().take(MAX_ADDR_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_without_tls() {
        for addr in ["127.0.0.1:1", "localhost:51700", "[::1]:9"] {
            assert!(check_addr(addr, false).is_ok(), "{addr}");
        }
        for addr in ["192.0.2.1:51700", "gateway.example:51700", "[2001:db8::1]:1"] {
            assert!(matches!(check_addr(addr, false), Err(StoreError::NeedsTls { .. })), "{addr}");
            assert!(check_addr(addr, true).is_ok(), "{addr}");
        }
        assert!(matches!(bind(Listen::Addr("0.0.0.0:0".parse().unwrap()), false), Err(StoreError::NeedsTls { .. })));
    }

    #[test]
    fn nonsense_is_not_an_address() {
        for addr in ["", "x", ":1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:70000", "a b:1", "user@host:1", "h/x:1"] {
            assert!(matches!(check_addr(addr, true), Err(StoreError::Config(_))), "{addr}");
        }
        assert!(check_addr(&"a".repeat(1000), true).is_err());
    }
}
