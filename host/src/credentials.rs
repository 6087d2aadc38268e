//! A router's certificate chain and key, as `dmux ca router` writes them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dmux_wire::control::{Kind, Register, SIGNATURE_LEN, encode};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use thiserror::Error;

/// File with the router's certificate, followed by its issuers' without the authority's.
pub const CERTIFICATE_FILE: &str = "router.crt";
/// File with the router's private key, PKCS #8.
pub const KEY_FILE: &str = "router.key";
/// File with an endpoint's certificate, as `dmux ca endpoint` writes it.
pub const ENDPOINT_CERTIFICATE_FILE: &str = "endpoint.crt";
/// File with its private key, PKCS #8.
pub const ENDPOINT_KEY_FILE: &str = "endpoint.key";
/// Largest file that is read.
const MAX_FILE: u64 = 64 * 1024;
/// The longest body of a registration: all fields at their widest, with the longest cookie.
const MAX_BODY: usize = 106;

/// What a router proves itself with.
#[derive(Clone)]
pub struct Credentials {
    /// Its key.
    pub key: SigningKey,
    /// Certificates in DER, the router's first.
    pub chain: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials {{ certificates: {}, .. }}", self.chain.len())
    }
}

/// Why credentials cannot be used; the text says what to do.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("{path}: {source}; `dmux ca router --out {dir}` makes it", dir = dir(path))]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is too large to be one.
    #[error("{path} has {size} bytes, which no certificate or key needs; is it the right file?")]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// Its size.
        size: u64,
    },
    /// No certificate in it.
    #[error("{path} holds no certificate in PEM; `dmux ca router` writes one")]
    NoCertificate {
        /// Which.
        path: PathBuf,
    },
    /// Not a private key.
    #[error("{path} is no Ed25519 private key in PKCS #8 PEM ({why}); `dmux ca router` writes one")]
    Key {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The chain does not fit a control message.
    #[error(
        "{path}: the chain has {length} bytes, too many for a registration; use shorter names, or fewer levels of \
         providers"
    )]
    ChainTooLong {
        /// Which.
        path: PathBuf,
        /// Bytes of all certificates.
        length: usize,
    },
}

fn dir(path: &Path) -> String {
    path.parent().unwrap_or(Path::new(".")).display().to_string()
}

impl Credentials {
    /// Reads [`CERTIFICATE_FILE`] and [`KEY_FILE`] in a folder.
    pub fn load(dir: &Path) -> Result<Self, CredentialsError> {
        Self::load_files(&dir.join(CERTIFICATE_FILE), &dir.join(KEY_FILE))
    }

    /// Reads a PEM file with the chain and one with the key.
    pub fn load_files(certificates: &Path, key: &Path) -> Result<Self, CredentialsError> {
        let path = certificates.to_owned();
        let chain: Vec<_> = CertificateDer::pem_slice_iter(read(certificates)?.as_bytes())
            .map_while(Result::ok)
            .map(|der| der.to_vec())
            .collect();
        if chain.is_empty() {
            return Err(CredentialsError::NoCertificate { path });
        }
        let length: usize = chain.iter().map(Vec::len).sum();
        if !fits(&chain) {
            return Err(CredentialsError::ChainTooLong { path, length });
        }
        let bad = |why: String| CredentialsError::Key { path: key.to_owned(), why };
        let key = SigningKey::from_pkcs8_pem(&read(key)?).map_err(|e| bad(e.to_string()))?;
        Ok(Self { key, chain })
    }
}

/// Whether a registration with this chain fits a control message.
pub fn fits(chain: &[Vec<u8>]) -> bool {
    let message = Register { body: vec![0; MAX_BODY], chain: chain.to_vec(), signature: vec![0; SIGNATURE_LEN] };
    encode(0, Kind::Register(message)).is_ok()
}

fn read(path: &Path) -> Result<String, CredentialsError> {
    let fail = |source| CredentialsError::Read { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(fail)?.len();
    if size > MAX_FILE {
        return Err(CredentialsError::TooLarge { path: path.to_owned(), size });
    }
    fs::read_to_string(path).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::pkcs8::EncodePrivateKey;
    use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;

    /// Bytes of a certificate are not looked into here: the gateway does that.
    fn certificate(length: usize) -> String {
        // Base64 of zero bytes, three to four letters.
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", "AAAA".repeat(length / 3))
    }

    fn folder(certificates: &str, key: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(CERTIFICATE_FILE), certificates).unwrap();
        fs::write(dir.path().join(KEY_FILE), key).unwrap();
        dir
    }

    fn key() -> (SigningKey, String) {
        let key = SigningKey::from_bytes(&[7; 32]);
        let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
        (key, pem)
    }

    #[test]
    fn chain_and_key_are_read() {
        let (key, pem) = key();
        let dir = folder(&(certificate(300) + &certificate(330)), &pem);
        let credentials = Credentials::load(dir.path()).unwrap();
        assert_eq!(credentials.key.to_bytes(), key.to_bytes());
        assert_eq!(credentials.chain.iter().map(Vec::len).collect::<Vec<_>>(), [300, 330]);
        assert!(!format!("{credentials:?}").contains('7'), "no key in logs");
    }

    #[test]
    fn no_body_is_longer_than_expected() {
        let body = dmux_wire::control::RegisterBody {
            protocol: dmux_wire::ProtocolId(u16::MAX),
            provider: dmux_wire::ProviderId(u32::MAX),
            router: "223.255.255.255:65535".parse().unwrap(),
            weight: u16::MAX,
            sequence: u64::MAX,
            cookie: vec![0; dmux_wire::control::MAX_COOKIE],
            keepalive_interval_ms: u32::MAX,
            draining: true,
        };
        assert!(body.encode().len() <= MAX_BODY, "{}", body.encode().len());
    }

    #[test]
    fn each_thing_that_can_be_wrong_says_what_to_do() {
        let (_, pem) = key();
        let load = |certificates: &str, key: &str| {
            let dir = folder(certificates, key);
            Credentials::load(dir.path()).unwrap_err().to_string()
        };
        assert!(load("", &pem).contains("holds no certificate"));
        assert!(load(&certificate(300), "nonsense").contains("no Ed25519 private key"));
        assert!(load(&certificate(1200), &pem).contains("shorter names"));
        assert!(load(&"x".repeat(70_000), &pem).contains("is it the right file"));
        let missing = Credentials::load(Path::new("does/not/exist")).unwrap_err().to_string();
        assert!(missing.contains("`dmux ca router --out does/not/exist` makes it"), "{missing}");
    }
}
