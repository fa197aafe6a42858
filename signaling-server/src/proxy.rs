//! Which proxies are believed, and what they say about who is behind them. Pure.

use std::net::IpAddr;
use std::str::FromStr;

use axum::http::HeaderMap;
use axum::http::header::FORWARDED;

/// A proxy, or a network of them, whose `X-Forwarded-For` or `Forwarded` is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedProxy {
    address: IpAddr,
    /// Leading bits that count.
    prefix: u8,
}

impl TrustedProxy {
    /// Whether `address` is one of them. An IPv4-mapped address is the IPv4 address in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differs = own.to_bits() ^ other.to_bits();
                differs.leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differs = own.to_bits() ^ other.to_bits();
                differs.leading_zeros() >= u32::from(self.prefix)
            }
            _ => false,
        }
    }
}

/// Reads `ADDRESS[/PREFIX]`.
impl FromStr for TrustedProxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}`: expected ADDRESS[/PREFIX], such as 10.0.0.0/8");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address = address.parse::<IpAddr>().map_err(|_| wrong())?.to_canonical();
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|p| *p <= bits).ok_or_else(wrong)?,
            None => bits,
        };
        Ok(Self { address, prefix })
    }
}

/// Who sent a request that came from `peer`: the right-most address that is no trusted proxy's.
/// Each proxy appends where a request came to it from, so that all to the left of that is the
/// client's own word.
///
/// `Forwarded` (RFC 7239) is read where there is no `X-Forwarded-For`.
pub(crate) fn client_address(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: &[TrustedProxy],
) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|proxy| proxy.contains(address));
    let mut client = peer.to_canonical();
    if !is_trusted(client) {
        return client;
    }
    let name = if headers.contains_key(FORWARDED_FOR) { FORWARDED_FOR } else { FORWARDED.as_str() };
    let lines = headers.get_all(name).iter().rev();
    let hops = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
    for hop in hops {
        let text = if name == FORWARDED_FOR { Some(hop) } else { forwarded_for(hop) };
        let Some(address) = text.and_then(address_of) else { break };
        client = address;
        if !is_trusted(client) {
            break;
        }
    }
    client
}

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The `for` of one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<&str> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    values.next().map(|(_, value)| value)
}

/// An address, quoted or not, in brackets or not, with a port or not.
fn address_of(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = match text.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?.0,
        None => match text.split_once(':') {
            Some((v4, port)) if !port.contains(':') => v4,
            _ => text,
        },
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn client(peer: &str, lines: &[(&'static str, &str)], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let trusted: Vec<_> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn nobody_is_believed_unless_named() {
        let said = [("x-forwarded-for", "192.0.2.9"), ("forwarded", "for=192.0.2.9")];
        assert_eq!(client("127.0.0.1", &said, &[]), "127.0.0.1");
        assert_eq!(client("198.51.100.1", &said, &["127.0.0.1", "10.0.0.0/8"]), "198.51.100.1");
        assert_eq!(client("127.0.0.1", &said, &["127.0.0.1"]), "192.0.2.9");
        assert_eq!(client("::ffff:127.0.0.1", &said, &["127.0.0.1"]), "192.0.2.9");
        assert_eq!(client("127.0.0.1", &said, &["::ffff:127.0.0.1"]), "192.0.2.9");
        assert_eq!(client("127.0.0.1", &[], &["127.0.0.1"]), "127.0.0.1");
    }

    #[test]
    fn the_right_most_address_that_is_not_trusted_is_the_client() {
        let trusted = ["127.0.0.1", "10.0.0.0/8"];
        for (said, is) in [
            ("1.1.1.1, 192.0.2.9", "192.0.2.9"),
            ("1.1.1.1, 192.0.2.9, 10.1.2.3", "192.0.2.9"),
            ("192.0.2.9:4711", "192.0.2.9"),
            ("1.1.1.1,2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("::ffff:192.0.2.9", "192.0.2.9"),
            ("10.9.9.9, 10.1.2.3", "10.9.9.9"),
            ("192.0.2.9, nonsense, 10.1.2.3", "10.1.2.3"),
            ("192.0.2.9, ", "127.0.0.1"),
            ("", "127.0.0.1"),
        ] {
            assert_eq!(client("127.0.0.1", &[("x-forwarded-for", said)], &trusted), is, "{said}");
        }
        let lines = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "192.0.2.9")];
        assert_eq!(client("127.0.0.1", &lines, &trusted), "192.0.2.9");
    }

    #[test]
    fn rfc_7239_is_read_where_there_is_nothing_else() {
        for (said, is) in [
            ("for=192.0.2.9", "192.0.2.9"),
            ("for=1.1.1.1, For=\"192.0.2.9:4711\";proto=https;by=203.0.113.1", "192.0.2.9"),
            ("proto=https;for=\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("for=192.0.2.9, for=_hidden", "127.0.0.1"),
            ("for=unknown", "127.0.0.1"),
            ("proto=https", "127.0.0.1"),
        ] {
            assert_eq!(client("127.0.0.1", &[("forwarded", said)], &["127.0.0.1"]), is, "{said}");
        }
    }

    #[test]
    fn networks_are_read() {
        let proxy: TrustedProxy = "192.0.2.0/25".parse().unwrap();
        assert!(proxy.contains([192, 0, 2, 127].into()));
        assert!(!proxy.contains([192, 0, 2, 128].into()));
        let all: TrustedProxy = "::/0".parse().unwrap();
        assert!(all.contains("2001:db8::1".parse().unwrap()));
        assert!(!all.contains([192, 0, 2, 1].into()));
        for wrong in ["", "10.0.0.0/33", "::1/129", "10.0.0.0/", "proxy.example.org", "10.0.0.1/-1"]
        {
            assert!(wrong.parse::<TrustedProxy>().is_err(), "{wrong}");
        }
    }
}
