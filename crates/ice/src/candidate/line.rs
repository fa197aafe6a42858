//! The candidate line of SDP (RFC 8839 §5.1), read strictly and written.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::{Candidate, CandidateAddress, CandidateKind, LocalName, MAX_PRIORITY, Transport};
use crate::error::IceError;

impl Candidate {
    /// Reads a line, with or without `a=` and `candidate:` before it and with or without its line end.
    ///
    /// Strict where RFC 8839 §5.1 and RFC 6544 §4.5 are; only two things are not asked for: a related address
    /// of reflexive and relayed candidates, which some implementations leave out, and lower case.
    ///
    /// # Errors
    ///
    /// [`IceError::InvalidCandidate`] says which field is wrong.
    pub fn parse(line: &str) -> Result<Self, IceError> {
        if line.len() > MAX_LINE_BYTES {
            return Err(invalid("too long"));
        }
        let line = line.strip_suffix("\r\n").or(line.strip_suffix('\n')).unwrap_or(line);
        if !line.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(invalid("not printable ASCII"));
        }
        let line = line.strip_prefix("a=").unwrap_or(line);
        let line = line.strip_prefix("candidate:").unwrap_or(line);
        let mut words = line.split(' ').peekable();
        let mut field = |name| words.next().filter(|word| !word.is_empty()).ok_or(invalid(name));

        let foundation = field("foundation")?;
        if foundation.len() > 32 || !foundation.bytes().all(is_ice_char) {
            return Err(invalid("foundation"));
        }
        let component = number(field("component")?, 3).filter(|c| (1..=256).contains(c));
        let component = component.ok_or(invalid("component"))?;
        let protocol = field("transport")?;
        let priority = number(field("priority")?, 10).filter(|p| (1..=MAX_PRIORITY).contains(p));
        let priority = priority.ok_or(invalid("priority"))?;
        let address = field("address")?;
        let address = match address.parse() {
            Ok(ip) => CandidateAddress::Ip(ip),
            Err(_) => CandidateAddress::Name(LocalName::parse(address)?),
        };
        let port = port(field("port")?).ok_or(invalid("port"))?;
        if field("typ")? != "typ" {
            return Err(invalid("typ"));
        }
        let kind = match field("type")? {
            "host" => CandidateKind::Host,
            "srflx" => CandidateKind::ServerReflexive,
            "prflx" => CandidateKind::PeerReflexive,
            "relay" => CandidateKind::Relayed,
            _ => return Err(invalid("type")),
        };

        let mut related = None;
        if words.next_if_eq(&"raddr").is_some() {
            let ip: IpAddr =
                words.next().and_then(|word| word.parse().ok()).ok_or(invalid("raddr"))?;
            let port = words
                .next_if_eq(&"rport")
                .and_then(|_| words.next())
                .and_then(self::port)
                .ok_or(invalid("rport"))?;
            related = Some(SocketAddr::new(ip, port));
        }

        let mut extensions = Vec::new();
        let mut tcp_type = None;
        while let Some(name) = words.next() {
            let value = words.next().ok_or(invalid("an extension without a value"))?;
            if name.is_empty() || value.is_empty() {
                return Err(invalid("two spaces"));
            }
            match name {
                "raddr" | "rport" | "typ" => return Err(invalid("a field in the wrong place")),
                "tcptype" if tcp_type.is_some() => return Err(invalid("tcptype twice")),
                "tcptype" => tcp_type = Some(value),
                _ if extensions.len() >= MAX_EXTENSIONS => return Err(invalid("extensions")),
                _ => extensions.push((name.to_owned(), value.to_owned())),
            }
        }

        let transport = if protocol.eq_ignore_ascii_case("udp") {
            if tcp_type.is_some() {
                return Err(invalid("tcptype of UDP"));
            }
            Transport::Udp
        } else if protocol.eq_ignore_ascii_case("tcp") {
            match tcp_type {
                Some("active") => Transport::TcpActive,
                Some("passive") => Transport::TcpPassive,
                Some("so") => Transport::TcpSimultaneousOpen,
                _ => return Err(invalid("tcptype")),
            }
        } else {
            return Err(invalid("transport"));
        };
        Ok(Self {
            foundation: foundation.to_owned(),
            component: component as u16,
            transport,
            priority,
            address,
            port,
            kind,
            related,
            extensions,
        })
    }
}

impl FromStr for Candidate {
    type Err = IceError;

    fn from_str(line: &str) -> Result<Self, IceError> {
        Self::parse(line)
    }
}

/// Without `a=`, as `RTCIceCandidate.candidate` has it.
impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.transport.is_tcp() { "tcp" } else { "udp" };
        write!(f, "candidate:{} {} {protocol}", self.foundation, self.component)?;
        write!(f, " {} ", self.priority)?;
        match &self.address {
            CandidateAddress::Ip(ip) => write!(f, "{ip}")?,
            CandidateAddress::Name(name) => f.write_str(name.as_str())?,
        }
        write!(f, " {} typ {}", self.port, self.kind)?;
        if let Some(related) = self.related {
            write!(f, " raddr {} rport {}", related.ip(), related.port())?;
        }
        match self.transport {
            Transport::Udp => {}
            Transport::TcpActive => f.write_str(" tcptype active")?,
            Transport::TcpPassive => f.write_str(" tcptype passive")?,
            Transport::TcpSimultaneousOpen => f.write_str(" tcptype so")?,
        }
        self.extensions.iter().try_for_each(|(name, value)| write!(f, " {name} {value}"))
    }
}

fn invalid(what: &'static str) -> IceError {
    IceError::InvalidCandidate(what)
}

/// `ice-char` of RFC 8839 §5.1.
fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

/// Digits alone: `parse` of the standard library also takes a sign.
fn number(word: &str, max_digits: usize) -> Option<u32> {
    let digits = (1..=max_digits).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_digit());
    word.parse().ok().filter(|_| digits)
}

fn port(word: &str) -> Option<u16> {
    number(word, 5)?.try_into().ok()
}

/// Twice what a browser's longest line takes.
const MAX_LINE_BYTES: usize = 512;
/// A browser has four.
const MAX_EXTENSIONS: usize = 16;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const HOST: &str =
        "candidate:1 1 udp 2122260223 192.0.2.1 50000 typ host generation 0 ufrag abcd";

    #[test]
    fn candidates_of_browsers_are_read_and_written_as_they_are() {
        for line in [
            HOST,
            "candidate:842163049 1 udp 1677729535 198.51.100.4 61011 typ srflx raddr 0.0.0.0 rport 0 \
             generation 0 ufrag EsAw network-cost 999",
            "candidate:1 1 udp 2122252543 3c1b5ee4-e0a3-4d3e-9b43-5b7a1d5a6c11.local 9 typ host",
            "candidate:0 1 tcp 2105524479 2001:db8::1 9 typ host tcptype active",
            "candidate:9 1 udp 7935 198.51.100.7 50000 typ relay raddr 192.0.2.1 rport 4000 ufrag x+/y",
        ] {
            let candidate = Candidate::parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!(candidate.to_string(), line);
            assert_eq!(Candidate::parse(&format!("a={line}\r\n")).unwrap(), candidate);
        }
        let upper = HOST.replace("udp", "UDP");
        assert_eq!(Candidate::parse(&upper).unwrap(), Candidate::parse(HOST).unwrap());
        assert_eq!(Candidate::parse(HOST).unwrap().extension("ufrag"), Some("abcd"));
    }

    #[test]
    fn malformed_candidates_are_refused() {
        for line in [
            "",
            "candidate:",
            "hello",
            "candidate:1 1 udp 1 192.0.2.1 99999 typ host",
            "candidate:1 1 udp 1 192.0.2.1 +1 typ host",
            "candidate:1 +1 udp 1 192.0.2.1 1 typ host",
            "candidate:1 0 udp 1 192.0.2.1 1 typ host",
            "candidate:1 257 udp 1 192.0.2.1 1 typ host",
            "candidate:1 1 udp 0 192.0.2.1 1 typ host",
            "candidate:1 1 udp 2147483648 192.0.2.1 1 typ host",
            "candidate:1 1 sctp 1 192.0.2.1 1 typ host",
            "candidate:1_ 1 udp 1 192.0.2.1 1 typ host",
            "candidate:1 1 udp 1 192.0.2.1 1 typ guest",
            "candidate:1 1 udp 1 example.com 1 typ host",
            "candidate:1 1 udp 1 fe80::1%eth0 1 typ host",
            "candidate:1 1 udp 1 192.0.2.1 1 typ srflx raddr x rport 1",
            "candidate:1 1 udp 1 192.0.2.1 1 typ srflx raddr 192.0.2.1",
            "candidate:1 1 udp 1 192.0.2.1 1 typ srflx rport 1 raddr 192.0.2.1",
            "candidate:1 1 udp 1 192.0.2.1 1 typ host lonely",
            "candidate:1 1 udp 1 192.0.2.1 1 typ host ",
            "candidate:1 1 udp 1 192.0.2.1 1  typ host",
            "candidate:1 1 udp 1 192.0.2.1 1 typ host tcptype active",
            "candidate:1 1 tcp 1 192.0.2.1 1 typ host",
            "candidate:1 1 tcp 1 192.0.2.1 1 typ host tcptype active tcptype so",
            "candidate:1 1 udp 1 ..local 1 typ host",
            "candidate:1 1 udp 1 printer.local 1 typ host",
            "candidate:1 1 udp 1 3c1b5ee4-e0a3-4d3e-9b43-5b7a1d5a6c1é.local 1 typ host",
        ] {
            assert!(Candidate::parse(line).is_err(), "{line}");
        }
        assert!(Candidate::parse(&format!("{HOST} {}", "x y ".repeat(200))).is_err());
    }

    prop_compose! {
        fn ip()(v6 in any::<bool>(), bits in any::<u128>()) -> IpAddr {
            if v6 { IpAddr::V6(bits.into()) } else { IpAddr::V4((bits as u32).into()) }
        }
    }

    prop_compose! {
        fn candidate()(
            foundation in "[a-zA-Z0-9+/]{1,32}",
            component in 1..=256u16,
            transport in prop::sample::select(vec![
                Transport::Udp, Transport::TcpActive, Transport::TcpPassive,
                Transport::TcpSimultaneousOpen,
            ]),
            priority in 1..=MAX_PRIORITY,
            ip in ip(),
            name in prop::option::of("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}[.]local"),
            port in any::<u16>(),
            kind in prop::sample::select(vec![
                CandidateKind::Host, CandidateKind::ServerReflexive, CandidateKind::PeerReflexive,
                CandidateKind::Relayed,
            ]),
            related in prop::option::of((self::ip(), any::<u16>())),
            extensions in prop::collection::vec(("x-[!-~]{1,8}", "[!-~]{1,8}"), 0..8),
        ) -> Candidate {
            let address = match name {
                Some(name) => CandidateAddress::Name(LocalName::parse(&name).unwrap()),
                None => CandidateAddress::Ip(ip),
            };
            let related = related.map(|(ip, port)| SocketAddr::new(ip, port));
            Candidate {
                foundation, component, transport, priority, address, port, kind, related, extensions,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(candidate in candidate()) {
            prop_assert_eq!(Candidate::parse(&candidate.to_string()), Ok(candidate));
        }

        #[test]
        fn any_text_is_survived(text in "\\PC{0,80}") {
            let _ = Candidate::parse(&text);
        }

        #[test]
        fn what_is_nearly_a_candidate_is_read_the_same_after_writing(
            candidate in candidate(), at in any::<prop::sample::Index>(), with in "[ -~]{0,3}",
        ) {
            let mut line = candidate.to_string();
            let at = at.index(line.len());
            line.replace_range(at..=at, &with);
            if let Ok(read) = Candidate::parse(&line) {
                prop_assert_eq!(Candidate::parse(&read.to_string()), Ok(read));
            }
        }
    }
}
