//! Notices that the machine's way to the network is another one, or none: asks the system again and
//! again which address it would send from. That is a look into the routing table; nothing is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// See the module. Sans-IO but for the look.
#[derive(Debug, Default)]
pub(crate) struct NetworkWatch {
    looked: Option<Instant>,
    ways: Option<Ways>,
    /// The way changed: until then something has to arrive, or the path is dead. With the packets
    /// that had arrived by then.
    suspicion: Option<(Instant, u64)>,
}

/// Where to, and the addresses to send from: anywhere by IPv4, by IPv6, and there.
type Ways = (Option<SocketAddr>, [Option<IpAddr>; 3]);

impl NetworkWatch {
    /// Whether the path has died with the way that it took. `remote` is the other end of the path,
    /// `received` counts what came over it.
    pub(crate) fn lost(&mut self, now: Instant, remote: Option<SocketAddr>, received: u64) -> bool {
        if self.looked.is_some_and(|at| now < at + INTERVAL) {
            return false;
        }
        self.looked = Some(now);
        let to = [Some(ANYWHERE_V4), Some(ANYWHERE_V6), remote];
        self.saw(now, (remote, to.map(|to| way_to(to?))), received)
    }

    fn saw(&mut self, now: Instant, ways: Ways, received: u64) -> bool {
        let changed = self.ways.is_some_and(|(remote, froms)| remote == ways.0 && froms != ways.1);
        self.ways = Some(ways);
        if changed {
            self.suspicion = Some((now + GRACE, received));
        }
        match self.suspicion {
            Some((_, then)) if received != then => self.suspicion = None,
            // Without any way there is nothing to be done yet.
            Some((until, _)) if now >= until && ways.1.iter().any(Option::is_some) => {
                self.suspicion = None;
                return true;
            }
            _ => {}
        }
        false
    }
}

/// The address that the system would send from; `None` if it knows no way.
fn way_to(to: SocketAddr) -> Option<IpAddr> {
    let any =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// For documentation (RFC 5737, RFC 3849): reached by the default route, if by any.
const ANYWHERE_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 9);
const ANYWHERE_V6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1)), 9);
/// Some tens of microseconds each time.
const INTERVAL: Duration = Duration::from_millis(200);
/// Media comes every 20 ms; a path on which nothing has come for so long is dead.
const GRACE: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    const WIFI: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
    const CABLE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 7));

    fn ways(from: Option<IpAddr>) -> Ways {
        (Some(ANYWHERE_V4), [from, None, from])
    }

    #[test]
    fn a_dead_path_is_noticed_and_one_that_lives_is_left_alone() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut watch = NetworkWatch::default();
        assert!(!watch.saw(at(0), ways(Some(WIFI)), 10));
        assert!(!watch.saw(at(200), ways(Some(WIFI)), 10));
        // A cable is plugged in, and the Wi-Fi goes on.
        assert!(!watch.saw(at(400), ways(Some(CABLE)), 20));
        assert!(!watch.saw(at(600), ways(Some(CABLE)), 30));
        assert!(!watch.saw(at(1000), ways(Some(CABLE)), 30));
        // It is pulled out again.
        assert!(!watch.saw(at(1200), ways(Some(WIFI)), 40));
        assert!(!watch.saw(at(1400), ways(Some(WIFI)), 40));
        assert!(watch.saw(at(1600), ways(Some(WIFI)), 40));
        assert!(!watch.saw(at(1800), ways(Some(WIFI)), 40));
    }

    #[test]
    fn without_any_network_it_waits_for_one() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut watch = NetworkWatch::default();
        watch.saw(at(0), ways(Some(WIFI)), 10);
        for ms in (200..5000).step_by(200) {
            assert!(!watch.saw(at(ms), ways(None), 10));
        }
        assert!(!watch.saw(at(5000), ways(Some(CABLE)), 10));
        assert!(watch.saw(at(5400), ways(Some(CABLE)), 10));
    }

    #[test]
    fn another_remote_end_is_no_change_of_ours() {
        let now = Instant::now();
        let mut watch = NetworkWatch::default();
        watch.saw(now, (None, [Some(WIFI), None, None]), 0);
        watch.saw(now, ways(Some(WIFI)), 0);
        assert_eq!(watch.suspicion, None);
    }

    #[test]
    fn the_way_to_oneself_is_oneself() {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        assert_eq!(way_to(local), Some(Ipv4Addr::LOCALHOST.into()));
    }
}
