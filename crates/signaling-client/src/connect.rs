//! Opening the WebSocket: names, TCP, TLS, and in plain words why it does not work.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Error};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};
use visavis_signaling_protocol::limits::MAX_MESSAGE_BYTES;

use crate::{ClientError, ServerUrl};

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why a WebSocket could not be opened.
#[derive(Debug)]
pub(crate) struct ConnectError {
    /// For people: what happened and what to do.
    pub(crate) reason: String,
    /// Whether it makes sense to try again.
    pub(crate) permanent: bool,
}

fn passing(reason: String) -> ConnectError {
    ConnectError { reason, permanent: false }
}

fn permanent(reason: String) -> ConnectError {
    ConnectError { reason, permanent: true }
}

/// SHA-256 of a certificate, as a server with a certificate of its own making prints it. Parsing
/// takes 32 bytes in hexadecimal, with or without colons.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CertificateFingerprint([u8; 32]);

impl FromStr for CertificateFingerprint {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        let digits: Option<Vec<u8>> = text
            .chars()
            .filter(|c| *c != ':' && !c.is_whitespace())
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect();
        let digits = digits.ok_or(ClientError::BadFingerprint)?;
        let bytes: Vec<u8> =
            digits.chunks(2).map(|pair| pair.iter().fold(0, |b, d| b << 4 | d)).collect();
        match (digits.len(), <[u8; 32]>::try_from(bytes)) {
            (64, Ok(bytes)) => Ok(Self(bytes)),
            _ => Err(ClientError::BadFingerprint),
        }
    }
}

impl fmt::Display for CertificateFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<_> = self.0.iter().map(|byte| format!("{byte:02X}")).collect();
        f.write_str(&pairs.join(":"))
    }
}

impl fmt::Debug for CertificateFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateFingerprint({self})")
    }
}

/// What TLS trusts: the system's roots, or one certificate alone.
pub(crate) fn connector(
    trusted: Option<CertificateFingerprint>,
) -> Result<Connector, ConnectError> {
    let config = client_config(trusted, trusted.is_none())
        .map_err(|error| permanent(format!("TLS cannot be used: {error}")))?;
    Ok(Connector::Rustls(Arc::new(config)))
}

/// TLS for relays: they are trusted by the system's roots, and the certificate chosen for the server
/// is trusted too, for the server may be the relay. Reads the system's certificates: some
/// milliseconds.
///
/// # Errors
///
/// If the system has no certificates and none was chosen.
pub fn relay_tls(
    trusted: Option<CertificateFingerprint>,
) -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
    client_config(trusted, true).map(Arc::new)
}

/// Trusts `chosen` and, with `roots`, what the system trusts.
fn client_config(
    chosen: Option<CertificateFingerprint>,
    roots: bool,
) -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = roots.then(|| {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a system certificate cannot be read");
        }
        roots.add_parsable_certificates(found.certs);
        roots
    });
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let Some(fingerprint) = chosen else {
        let roots = roots.unwrap_or_else(RootCertStore::empty);
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    };
    let others = roots
        .filter(|roots| !roots.is_empty())
        .map(|roots| {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))
        })
        .transpose()?;
    let verifier = Arc::new(Pinned { fingerprint, others, provider });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Opens the WebSocket within `limit`.
pub(crate) async fn open(
    server: &ServerUrl,
    connector: &Connector,
    limit: Duration,
) -> Result<Socket, ConnectError> {
    match timeout(limit, open_at_leisure(server, connector)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(passing(format!(
            "{server} does not answer: the address may be wrong, or a firewall is in the way"
        ))),
    }
}

async fn open_at_leisure(
    server: &ServerUrl,
    connector: &Connector,
) -> Result<Socket, ConnectError> {
    let (host, port) = server.host_and_port();
    let addresses: Vec<_> = tokio::net::lookup_host((host.as_str(), port))
        .await
        .map_err(|error| {
            passing(format!(
                "the name {host} cannot be looked up ({error}): check the spelling and the network"
            ))
        })?
        .collect();
    let stream = connect_to_any(addresses).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => passing(format!(
            "nothing listens at {server}: the server is not running, or the port is wrong"
        )),
        _ => passing(format!("{server} cannot be reached: {error}")),
    })?;
    // Candidates are small and urgent. A failure only costs some milliseconds.
    let _ = stream.set_nodelay(true);
    let limits = WebSocketConfig::default()
        .max_message_size(Some(4 * MAX_MESSAGE_BYTES))
        .max_frame_size(Some(4 * MAX_MESSAGE_BYTES))
        .read_buffer_size(BUFFER_BYTES);
    let url = server.websocket_url();
    match client_async_tls_with_config(url, stream, Some(limits), Some(connector.clone())).await {
        Ok((socket, _)) => Ok(socket),
        Err(error) => Err(explain(server, &error)),
    }
}

/// Connects to the first address that answers. The families take turns, and each attempt begins a little after the one
/// before, or as soon as that has failed (RFC 8305 §5): an address that nobody answers at costs 250 ms.
async fn connect_to_any(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut untried = alternate(addresses).into_iter();
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        let next = untried.next();
        if let Some(address) = next {
            attempts.spawn(TcpStream::connect(address));
        }
        let others = async {
            match next {
                Some(_) => tokio::time::sleep(ATTEMPT_DELAY).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = attempts.join_next() => match ended {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => failure = error,
                Some(Err(error)) => failure = io::Error::other(error),
                None => return Err(failure),
            },
            () = others => {}
        }
    }
}

/// The addresses with the families taking turns, each in its order; the first one's family begins (RFC 8305 §4).
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_ipv6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let pairs = std::iter::from_fn(|| match (first.next(), second.next()) {
        (None, None) => None,
        pair => Some([pair.0, pair.1]),
    });
    pairs.flatten().flatten().collect()
}

fn explain(server: &ServerUrl, error: &Error) -> ConnectError {
    let tls = match error {
        Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()),
        _ => None,
    };
    match (tls, error) {
        (Some(rustls::Error::InvalidCertificate(fault)), _) => permanent(match fault {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the certificate of {server} has expired")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the certificate of {server} was made for another name")
            }
            CertificateError::ApplicationVerificationFailure => {
                format!("the certificate of {server} is not the one you chose to trust")
            }
            _ => format!(
                "the certificate of {server} is not trusted here; if the server made it itself, \
                 give the fingerprint that it prints"
            ),
        }),
        (Some(fault), _) => {
            passing(format!("TLS with {server} fails ({fault}): perhaps it wants http://"))
        }
        (None, Error::Http(response)) if [429, 503].contains(&response.status().as_u16()) => {
            passing(format!("{server} has too many connections just now; try again in a minute"))
        }
        (None, Error::Http(response)) => passing(format!(
            "{server} answers HTTP {}: no Visavis signaling server is there",
            response.status().as_u16()
        )),
        (None, tungstenite::Error::Io(error)) => {
            passing(format!("{server} hangs up ({error}): perhaps it wants https://"))
        }
        (None, error) => passing(format!(
            "{server} does not answer as a signaling server should ({error}): perhaps it wants \
             https://, or something else listens there"
        )),
    }
}

/// Trusts one certificate, or else what `others` trusts, and checks that the server holds its key.
#[derive(Debug)]
struct Pinned {
    fingerprint: CertificateFingerprint,
    others: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let digest = ring::digest::digest(&ring::digest::SHA256, end_entity);
        match &self.others {
            _ if digest.as_ref() == self.fingerprint.0 => Ok(ServerCertVerified::assertion()),
            None => Err(CertificateError::ApplicationVerificationFailure.into()),
            Some(others) => others.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// RFC 8305 §8.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Read buffer of a WebSocket, bytes.
const BUFFER_BYTES: usize = 16 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_as_they_are_printed() {
        let text = ["AB"; 32].join(":");
        let fingerprint: CertificateFingerprint = text.parse().unwrap();
        assert_eq!(fingerprint.to_string(), text);
        assert_eq!(text.replace(':', "").to_lowercase().parse(), Ok(fingerprint));
        for text in ["", "AB", &["AB"; 31].join(":"), &"A".repeat(63), &"X".repeat(64)] {
            assert_eq!(text.parse::<CertificateFingerprint>(), Err(ClientError::BadFingerprint));
        }
    }

    #[test]
    fn families_take_turns() {
        let of =
            |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let given = of(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let wanted = of(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(alternate(given), wanted);
        assert!(alternate(Vec::new()).is_empty());
    }

    /// Case 3 of what was seen in the field.
    #[tokio::test]
    async fn a_dead_address_costs_a_quarter_of_a_second_and_a_refused_one_nothing() {
        let good = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = good.local_addr().unwrap();
        // It takes one connection and lets all others wait for an answer.
        let full =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        full.listen(0).unwrap();
        let dead = full.local_addr().unwrap().as_socket().unwrap();
        let _first = TcpStream::connect(dead).await.unwrap();
        let refused = SocketAddr::from(([127, 0, 0, 1], 1));
        let begin = std::time::Instant::now();
        connect_to_any(vec![refused, good]).await.unwrap();
        assert!(begin.elapsed() < ATTEMPT_DELAY);
        let stream = connect_to_any(vec![dead, good]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        assert!(begin.elapsed() < 6 * ATTEMPT_DELAY);
        let all = connect_to_any(vec![refused]).await;
        assert_eq!(all.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(connect_to_any(Vec::new()).await.is_err());
    }
}
