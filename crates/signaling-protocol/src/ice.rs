//! The ICE servers that a client takes from its signaling server: so few that they cannot make it send
//! to addresses by the hundred, and only what a peer connection takes. The page's `usableIceServers` does the
//! same; `fixtures/ice-servers.json` holds both to it.

use serde::{Deserialize as _, Deserializer};

use crate::IceServer;
use crate::limits::{MAX_ICE_SERVERS, MAX_ICE_TEXT_BYTES, MAX_ICE_URLS};

impl IceServer {
    /// Those of `servers` that can be used, the first [`MAX_ICE_SERVERS`] with the first [`MAX_ICE_URLS`]
    /// addresses each.
    pub fn usable(servers: Vec<Self>) -> Vec<Self> {
        servers.into_iter().filter_map(Self::with_usable_urls).take(MAX_ICE_SERVERS).collect()
    }

    fn with_usable_urls(mut self) -> Option<Self> {
        let has_credential = self.username.is_some() && self.credential.is_some();
        self.urls.retain(|url| is_usable(url, has_credential));
        self.urls.truncate(MAX_ICE_URLS);
        let texts = [&self.username, &self.credential];
        let fit = texts.into_iter().flatten().all(|text| text.len() <= MAX_ICE_TEXT_BYTES);
        (fit && !self.urls.is_empty()).then_some(self)
    }
}

/// RFC 7064 and 7065, as far as it has to be looked at here. A relay without credentials is none: browsers refuse
/// the whole configuration (W3C WebRTC 1.0 §4.4.1.6).
fn is_usable(url: &str, has_credential: bool) -> bool {
    let Some((scheme, address)) = url.split_once(':') else { return false };
    let known = match scheme.to_ascii_lowercase().as_str() {
        "stun" => true,
        "turn" | "turns" => has_credential,
        _ => false,
    };
    known
        && !address.is_empty()
        && url.len() <= MAX_ICE_TEXT_BYTES
        && url.bytes().all(|byte| byte.is_ascii_graphic())
}

/// For the field `iceServers`.
pub(crate) fn usable<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<IceServer>, D::Error> {
    Vec::deserialize(input).map(IceServer::usable)
}
