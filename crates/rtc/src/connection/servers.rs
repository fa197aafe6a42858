//! STUN servers and relays as the owner names them.

use std::time::Duration;

use rtc::ice::url::{ProtoType, SchemeType, Url};
use visavis_ice::RelayTransport;

use crate::error::RtcError;
use crate::types::{AddressPolicy, IceServer};

/// A STUN server, or a relay by one way of reaching it.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// As the owner gave it.
    pub(crate) url: String,
    /// A name or an address.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// How it is reached if it is a relay; `None` for a STUN server.
    pub(crate) relay: Option<RelayTransport>,
    pub(crate) username: String,
    pub(crate) password: String,
}

impl Server {
    /// The servers that are used: with [`AddressPolicy::RelayOnly`] no STUN server.
    ///
    /// # Errors
    ///
    /// [`RtcError::Stack`] names the URL that is malformed.
    pub(crate) fn parse_all(
        servers: &[IceServer],
        policy: AddressPolicy,
    ) -> Result<Vec<Self>, RtcError> {
        let mut parsed = Vec::new();
        for server in servers {
            for url in &server.urls {
                parsed.extend(Self::parse(server, url)?);
            }
        }
        parsed.retain(|server: &Self| server.relay.is_some() || policy != AddressPolicy::RelayOnly);
        parsed.truncate(MAX_SERVERS);
        Ok(parsed)
    }

    fn parse(server: &IceServer, url: &str) -> Result<Option<Self>, RtcError> {
        let parsed = Url::parse_url(url)
            .map_err(RtcError::stack("reading the address of a STUN server or relay"))?;
        let relay = match (parsed.scheme, parsed.proto) {
            (SchemeType::Stun, ProtoType::Udp) => None,
            (SchemeType::Turn, ProtoType::Udp) => Some(RelayTransport::Udp),
            (SchemeType::Turn, ProtoType::Tcp) => Some(RelayTransport::Tcp),
            (SchemeType::Turns, ProtoType::Tcp) => Some(RelayTransport::Tls),
            // STUN over TLS gives no address of UDP, and TURN over DTLS is hardly spoken by anybody.
            _ => return Ok(None),
        };
        Ok(Some(Self {
            url: url.to_owned(),
            host: parsed.host,
            port: parsed.port,
            relay,
            username: server.username.clone().unwrap_or_default(),
            password: server.credential.clone().unwrap_or_default(),
        }))
    }
}

/// Signaling gives a handful; each is asked from each address of this machine.
const MAX_SERVERS: usize = 16;
/// Between the first attempts at two addresses of one relay (RFC 8305 §8).
pub(super) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_how_a_server_is_reached() {
        let urls = [
            "stun:a.example",
            "turn:b.example:3479?transport=udp",
            "turn:c.example?transport=tcp",
            "turns:[2001:db8::1]:443",
            "turn:d.example",
        ];
        let server = IceServer {
            urls: urls.map(str::to_owned).to_vec(),
            username: Some("user".into()),
            credential: Some("password".into()),
        };
        let servers = [server];
        let parsed = Server::parse_all(&servers, AddressPolicy::All).unwrap();
        let all: Vec<_> = parsed.iter().map(|s| (s.host.as_str(), s.port, s.relay)).collect();
        let [udp, tcp, tls] = [RelayTransport::Udp, RelayTransport::Tcp, RelayTransport::Tls];
        assert_eq!(
            all,
            [
                ("a.example", 3478, None),
                ("b.example", 3479, Some(udp)),
                ("c.example", 3478, Some(tcp)),
                ("2001:db8::1", 443, Some(tls)),
                ("d.example", 3478, Some(udp)),
            ]
        );
        let relays = Server::parse_all(&servers, AddressPolicy::RelayOnly).unwrap();
        assert_eq!(relays.len(), 4);
        let odd = [IceServer { urls: vec!["nonsense".into()], ..Default::default() }];
        assert!(Server::parse_all(&odd, AddressPolicy::All).is_err());
    }
}
