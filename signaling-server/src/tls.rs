//! Certificates: from files, or made at start.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::ServerError;

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// PEM files: the chain, the server's own certificate first, and its private key.
    Files {
        /// The chain.
        certificate: PathBuf,
        /// PKCS#8, PKCS#1 or SEC1.
        key: PathBuf,
    },
    /// A certificate made at start for localhost, the host name and the machine's addresses. It
    /// lives as long as the server; browsers ask before they trust it.
    SelfSigned,
}

/// A certificate in use.
pub(crate) struct Loaded {
    pub(crate) config: Arc<rustls::ServerConfig>,
    pub(crate) fingerprint: String,
}

/// Reads or makes the certificate of a server that listens on `listening`.
pub(crate) fn load(tls: &Tls, listening: IpAddr) -> Result<Loaded, ServerError> {
    let (chain, key) = match tls {
        Tls::Files { certificate, key } => from_files(certificate, key),
        Tls::SelfSigned => self_signed(listening).map_err(|error| error.to_string()),
    }
    .map_err(ServerError::Tls)?;
    let own = chain.first().ok_or_else(|| ServerError::Tls("no certificate".into()))?;
    let fingerprint = fingerprint(own);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| ServerError::Tls(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Loaded { config: Arc::new(config), fingerprint })
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn from_files(certificate: &Path, key: &Path) -> Result<Pair, String> {
    let wrong = |path: &Path, error: rustls::pki_types::pem::Error| {
        format!("cannot read {}: {error}", path.display())
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(certificate, error))?;
    if chain.is_empty() {
        return Err(format!("{} holds no certificate in PEM form", certificate.display()));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error))?;
    Ok((chain, key))
}

fn self_signed(listening: IpAddr) -> Result<Pair, rcgen::Error> {
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    let names = ["localhost".to_owned(), format!("{host}.local"), host];
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Visavis signaling server");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    // A host name may be what no certificate can say; then the addresses must do.
    params.subject_alt_names =
        names.into_iter().filter_map(|name| name.try_into().ok().map(SanType::DnsName)).collect();
    let mut addresses = machine_addresses();
    addresses.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    if !listening.is_unspecified() && !addresses.contains(&listening) {
        addresses.push(listening);
    }
    addresses.dedup();
    params.subject_alt_names.extend(addresses.into_iter().map(SanType::IpAddress));
    let now = SystemTime::now();
    // A day back, for machines whose clocks differ; a year on, for Apple's systems take no more
    // than 825 days.
    params.not_before = (now - Duration::from_secs(24 * 60 * 60)).into();
    params.not_after = (now + Duration::from_secs(365 * 24 * 60 * 60)).into();
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Ok((vec![certificate.der().clone()], key))
}

/// Addresses by which other machines reach this one; loopback and IPv6 link-local ones are left
/// out, for no URL of use is made from them.
pub fn machine_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "the machine's addresses are not known");
        Vec::new()
    });
    let mut addresses: Vec<_> = interfaces
        .iter()
        .filter(|interface| !interface.is_loopback())
        .map(if_addrs::Interface::ip)
        .filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// SHA-256 as browsers show it.
fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    let pairs: Vec<_> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}
