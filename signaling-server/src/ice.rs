//! What peers are told about STUN and TURN servers, with TURN credentials made on every join.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use visavis_signaling_protocol::{IceServer, PeerId};

/// A TURN server that shares a secret with this one: coturn's `use-auth-secret`,
/// draft-uberti-behave-turn-rest-00.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnSecret {
    /// `turn:` and `turns:` URLs.
    pub urls: Vec<String>,
    /// coturn's `static-auth-secret`.
    pub secret: String,
    /// How long a credential opens new allocations; one that exists lives on.
    pub lifetime: Duration,
}

/// Never shows the secret.
impl std::fmt::Debug for TurnSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TurnSecret").field("urls", &self.urls).finish_non_exhaustive()
    }
}

impl TurnSecret {
    /// How long credentials live unless told otherwise. They cannot be revoked, so that they are
    /// good for new allocations no longer than most calls last; what is open lives on.
    pub const LIFETIME: Duration = Duration::from_secs(6 * 60 * 60);

    /// Credentials for `peer`: user name `UNIX-EXPIRY:PEER`, password
    /// `base64(HMAC-SHA1(secret, user name))`.
    pub fn mint(&self, peer: &PeerId, now: SystemTime) -> IceServer {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let expiry = now.saturating_add(self.lifetime).as_secs();
        let username = format!("{expiry}:{}", peer.as_str());
        let credential = password(&self.secret, &username);
        IceServer {
            urls: self.urls.clone(),
            username: Some(username),
            credential: Some(credential),
        }
    }
}

/// The password that belongs to a minted user name.
pub(crate) fn password(secret: &str, username: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    STANDARD.encode(ring::hmac::sign(&key, username.as_bytes()))
}

/// Reads `URL[,USER,CREDENTIAL]`; a credential may contain commas.
///
/// A TURN URL needs both, for a browser refuses it without.
pub fn parse_ice_server(text: &str) -> Result<IceServer, String> {
    let mut parts = text.splitn(3, ',');
    let url = parts.next().unwrap_or_default();
    let scheme = check_url(url)?;
    let (username, credential) = (parts.next(), parts.next());
    let is_turn = scheme.starts_with("turn");
    match (username, credential) {
        (Some(username), Some(credential)) if !username.is_empty() && !credential.is_empty() => {
            if !is_turn {
                return Err(format!("`{url}`: a STUN server takes no user and credential"));
            }
        }
        (None, None) if !is_turn => {}
        (None, None) => return Err(format!("`{url}`: a TURN server needs `,USER,CREDENTIAL`")),
        _ => return Err(format!("`{url}`: give both user and credential, or neither")),
    }
    Ok(IceServer {
        urls: vec![url.to_owned()],
        username: username.map(str::to_owned),
        credential: credential.map(str::to_owned),
    })
}

/// Reads a `turn:` or `turns:` URL.
pub fn parse_turn_url(text: &str) -> Result<String, String> {
    if check_url(text)?.starts_with("turn") {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no `turn:` or `turns:` URL"))
    }
}

/// RFC 7064 §3.1 and RFC 7065 §3.1: `scheme:host[:port]`, for TURN with `?transport=udp` or `tcp`.
/// The scheme.
fn check_url(url: &str) -> Result<&str, String> {
    let wrong = |why: &str| format!("`{url}`: {why}");
    let (scheme, rest) = url
        .split_once(':')
        .filter(|(scheme, _)| matches!(*scheme, "stun" | "stuns" | "turn" | "turns"))
        .ok_or_else(|| wrong("an ICE server begins with stun:, stuns:, turn: or turns:"))?;
    let authority = match rest.split_once('?') {
        None => rest,
        Some((authority, "transport=udp" | "transport=tcp")) if scheme.starts_with("turn") => {
            authority
        }
        Some(_) => return Err(wrong("only ?transport=udp or tcp may follow, and only for TURN")),
    };
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, after) = v6.split_once(']').ok_or_else(|| wrong("`[` without `]`"))?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong("not an IPv6 address"))?;
            let port = match after.strip_prefix(':') {
                Some(port) => Some(port),
                None if after.is_empty() => None,
                None => return Err(wrong("something between `]` and the port")),
            };
            (host, port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let host_character = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || !host.chars().all(host_character) {
        return Err(wrong("the host name is missing or malformed"));
    }
    if port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
        return Err(wrong("the port is not a number from 1 to 65535"));
    }
    Ok(scheme)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn turn_credentials_are_those_of_coturn() {
        let turn = TurnSecret {
            urls: vec!["turn:turn.example.org".into()],
            secret: "north".into(),
            lifetime: Duration::from_secs(3600),
        };
        let peer = PeerId::try_from("a94be07c1d20f358".to_owned()).unwrap();
        let server = turn.mint(&peer, UNIX_EPOCH + Duration::from_secs(1_767_222_000));
        assert_eq!(server.username.as_deref(), Some("1767225600:a94be07c1d20f358"));
        // printf %s 1767225600:a94be07c1d20f358 | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(server.credential.as_deref(), Some("oUmn1xYilR46jKzuy5ZiUiNaD9Y="));
        assert!(!format!("{turn:?} {server:?}").contains("north"));
    }

    #[test]
    fn ice_servers_are_read() {
        for text in [
            "stun:stun.example.org",
            "stun:192.0.2.1:3478",
            "stuns:stun.example.org:5349",
            "stun:[2001:db8::1]:3478",
            "turn:turn.example.org:3478?transport=udp,ada,pass,word",
            "turns:turn.example.org:443?transport=tcp,ada,secret",
        ] {
            parse_ice_server(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        }
        let server = parse_ice_server("turn:t.example.org,ada,pass,word").unwrap();
        assert_eq!(server.username.as_deref(), Some("ada"));
        assert_eq!(server.credential.as_deref(), Some("pass,word"));
    }

    #[test]
    fn wrong_ice_servers_are_refused_in_words() {
        for text in [
            "",
            "stun.example.org",
            "http://stun.example.org",
            "stun:",
            "stun:exa mple.org",
            "stun:example.org:0",
            "stun:example.org:70000",
            "stun:example.org?transport=udp",
            "stun:example.org,ada,secret",
            "stun:[2001:db8::1",
            "turn:example.org",
            "turn:example.org,ada",
            "turn:example.org,,",
            "turn:example.org?transport=sctp,ada,secret",
        ] {
            let error = parse_ice_server(text).expect_err(text);
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(parse_turn_url("stun:example.org").is_err());
        assert!(parse_turn_url("turns:example.org:443?transport=tcp").is_ok());
    }
}
