//! The address of a server, as people write it.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use url::{Host, Url};
use visavis_signaling_protocol::CallCode;

use crate::ClientError;

/// A server's origin: scheme, host and port.
///
/// Parsing takes `http(s)://…` and `ws(s)://…` URLs, whose path (a room link's, say) is dropped,
/// and bare `host[:port]`: localhost and IP addresses mean http, names https.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl(Url);

impl ServerUrl {
    /// Where the WebSocket is: `ws(s)://host[:port]/ws`.
    pub fn websocket_url(&self) -> String {
        let scheme = if self.is_tls() { "wss" } else { "ws" };
        format!("{scheme}://{}/ws", self.authority())
    }

    /// Where a browser enters the room: `http(s)://host[:port]/r/abc-def#ghj-kmn`.
    pub fn room_link(&self, code: &CallCode) -> String {
        format!("{self}{}", code.link_path())
    }

    /// Whether it is reached over TLS.
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Host without brackets, and port.
    pub(crate) fn host_and_port(&self) -> (String, u16) {
        let host = match self.0.host() {
            Some(Host::Ipv6(v6)) => v6.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        };
        (host, self.0.port_or_known_default().unwrap_or_default())
    }

    fn authority(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        match self.0.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }
}

impl FromStr for ServerUrl {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        let bad = || ClientError::BadServerUrl(text.to_owned());
        let trimmed = text.trim();
        let full = match trimmed.split_once("://") {
            Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
                "http" | "ws" => format!("http://{rest}"),
                "https" | "wss" => format!("https://{rest}"),
                _ => return Err(bad()),
            },
            None if trimmed.parse::<Ipv6Addr>().is_ok() => format!("http://[{trimmed}]"),
            None => {
                let url = Url::parse(&format!("https://{trimmed}")).map_err(|_| bad())?;
                let plain = match url.host() {
                    Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
                    Some(_) => true,
                    None => return Err(bad()),
                };
                format!("{}://{trimmed}", if plain { "http" } else { "https" })
            }
        };
        // The URL parser would take `///path` for a host.
        if full.split_once("://").is_some_and(|(_, rest)| rest.starts_with(['/', '\\'])) {
            return Err(bad());
        }
        let mut url = Url::parse(&full).map_err(|_| bad())?;
        if url.host_str().is_none_or(str::is_empty) || url.port() == Some(0) {
            return Err(bad());
        }
        url.set_path("");
        url.set_query(None);
        url.set_fragment(None);
        // Both fail only for URLs without a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Ok(Self(url))
    }
}

/// `http(s)://host[:port]`, without a slash at the end.
impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.authority())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, origin, websocket) in [
            ("https://example.org", "https://example.org", "wss://example.org/ws"),
            ("HTTPS://Example.org:443/", "https://example.org", "wss://example.org/ws"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "ws://127.0.0.1:8080/ws"),
            ("ws://127.0.0.1:8080/ws", "http://127.0.0.1:8080", "ws://127.0.0.1:8080/ws"),
            (
                "wss://example.org:8443/ws?x#y",
                "https://example.org:8443",
                "wss://example.org:8443/ws",
            ),
            (
                "https://example.org/r/abc-dek-ghj-kmn",
                "https://example.org",
                "wss://example.org/ws",
            ),
            ("https://ada:secret@example.org", "https://example.org", "wss://example.org/ws"),
            (" example.org ", "https://example.org", "wss://example.org/ws"),
            ("example.org:8443", "https://example.org:8443", "wss://example.org:8443/ws"),
            ("localhost:8080", "http://localhost:8080", "ws://localhost:8080/ws"),
            ("192.168.1.5:8080", "http://192.168.1.5:8080", "ws://192.168.1.5:8080/ws"),
            ("[::1]:8080", "http://[::1]:8080", "ws://[::1]:8080/ws"),
            ("::1", "http://[::1]", "ws://[::1]/ws"),
        ] {
            let url: ServerUrl = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(url.to_string(), origin, "{text}");
            assert_eq!(url.websocket_url(), websocket, "{text}");
            assert_eq!(url.to_string().parse(), Ok(url), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "  ", "ftp://example.org", "http://", "a b", "host:port", "host:0", "/r/x"]
        {
            assert!(text.parse::<ServerUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn room_links_open_the_page() {
        let url: ServerUrl = "[::1]:8080".parse().unwrap();
        let code: CallCode = "abcdefghjkmn".parse().unwrap();
        assert_eq!(url.room_link(&code), "http://[::1]:8080/r/abc-def#ghj-kmn");
        assert_eq!(url.host_and_port(), ("::1".to_owned(), 8080));
    }
}
