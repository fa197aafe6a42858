//! Notices that the machine's route to the network is another one, or none: asks the system which
//! address it would send from whenever the system says that routes have changed ([`RouteEvents`]), or five
//! times a second where it does not say. That is a look into the routing table; nothing is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::route_events::RouteEvents;

/// See the module. Sans-IO but for the look.
#[derive(Debug, Default)]
pub(crate) struct NetworkWatch {
    /// `None` where the system does not tell.
    events: Option<RouteEvents>,
    looked: Option<Instant>,
    routes: Option<Routes>,
    suspicion: Option<Suspicion>,
}

/// The addresses to send from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Routes {
    /// The other end of the path.
    remote: Option<SocketAddr>,
    /// To anywhere by IPv4, by IPv6, and to `remote`.
    from: [Option<IpAddr>; 3],
}

/// The route changed: until then something has to arrive, or the path is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Suspicion {
    until: Instant,
    /// Packets that had arrived when the route changed.
    received: u64,
}

impl NetworkWatch {
    pub(crate) fn new() -> Self {
        let events = RouteEvents::open()
            .inspect_err(|error| tracing::debug!(%error, "changes of routes are not told"))
            .ok();
        Self { events, ..Self::default() }
    }

    /// Whether the path has died with the route that it took. `remote` is the other end of the path,
    /// `received` counts what came over it.
    pub(crate) fn lost(&mut self, now: Instant, remote: Option<SocketAddr>, received: u64) -> bool {
        if !self.is_due(now, remote) {
            return false;
        }
        self.looked = Some(now);
        let to = [Some(ANYWHERE_V4), Some(ANYWHERE_V6), remote];
        self.saw(now, Routes { remote, from: to.map(|to| source_address(to?)) }, received)
    }

    /// Whether it is time to look.
    fn is_due(&mut self, now: Instant, remote: Option<SocketAddr>) -> bool {
        let told = match self.events.as_ref().map(RouteEvents::take) {
            Some(Ok(told)) => told,
            Some(Err(error)) => {
                tracing::debug!(%error, "changes of routes are not told any more");
                self.events = None;
                true
            }
            None => false,
        };
        let interval = if self.events.is_none() || self.suspicion.is_some() {
            INTERVAL
        } else {
            UNTOLD_INTERVAL
        };
        told || self.routes.is_none_or(|routes| routes.remote != remote)
            || self.looked.is_none_or(|at| now >= at + interval)
    }

    fn saw(&mut self, now: Instant, routes: Routes, received: u64) -> bool {
        let changed = self
            .routes
            .is_some_and(|before| before.remote == routes.remote && before.from != routes.from);
        self.routes = Some(routes);
        if changed {
            self.suspicion = Some(Suspicion { until: now + GRACE, received });
        }
        match self.suspicion {
            Some(suspicion) if received != suspicion.received => self.suspicion = None,
            // Without any route there is nothing to be done yet.
            Some(suspicion)
                if now >= suspicion.until && routes.from.iter().any(Option::is_some) =>
            {
                self.suspicion = None;
                return true;
            }
            _ => {}
        }
        false
    }
}

/// The address that the system would send from; `None` if it knows no route.
fn source_address(to: SocketAddr) -> Option<IpAddr> {
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
/// Between two looks where the system does not tell, and while the path is suspected. One takes some tens of
/// microseconds.
const INTERVAL: Duration = Duration::from_millis(200);
/// Between two looks where the system tells, in case that it tells less than it should.
const UNTOLD_INTERVAL: Duration = Duration::from_secs(2);
/// Media comes every 20 ms; a path on which nothing has come for so long is dead.
const GRACE: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    const WIFI: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
    const CABLE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 7));

    fn routes(from: Option<IpAddr>) -> Routes {
        Routes { remote: Some(ANYWHERE_V4), from: [from, None, from] }
    }

    #[test]
    fn a_dead_path_is_noticed_and_one_that_lives_is_left_alone() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut watch = NetworkWatch::default();
        assert!(!watch.saw(at(0), routes(Some(WIFI)), 10));
        assert!(!watch.saw(at(200), routes(Some(WIFI)), 10));
        // A cable is plugged in, and the Wi-Fi goes on.
        assert!(!watch.saw(at(400), routes(Some(CABLE)), 20));
        assert!(!watch.saw(at(600), routes(Some(CABLE)), 30));
        assert!(!watch.saw(at(1000), routes(Some(CABLE)), 30));
        // It is pulled out again.
        assert!(!watch.saw(at(1200), routes(Some(WIFI)), 40));
        assert!(!watch.saw(at(1400), routes(Some(WIFI)), 40));
        assert!(watch.saw(at(1600), routes(Some(WIFI)), 40));
        assert!(!watch.saw(at(1800), routes(Some(WIFI)), 40));
    }

    #[test]
    fn without_any_network_it_waits_for_one() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut watch = NetworkWatch::default();
        watch.saw(at(0), routes(Some(WIFI)), 10);
        for ms in (200..5000).step_by(200) {
            assert!(!watch.saw(at(ms), routes(None), 10));
        }
        assert!(!watch.saw(at(5000), routes(Some(CABLE)), 10));
        assert!(watch.saw(at(5400), routes(Some(CABLE)), 10));
    }

    #[test]
    fn another_remote_end_is_no_change_of_ours() {
        let now = Instant::now();
        let mut watch = NetworkWatch::default();
        watch.saw(now, Routes { remote: None, from: [Some(WIFI), None, None] }, 0);
        watch.saw(now, routes(Some(WIFI)), 0);
        assert_eq!(watch.suspicion, None);
    }

    #[test]
    fn the_system_is_asked_when_it_tells_something_and_seldom_otherwise() {
        let start = Instant::now();
        let remote = Some(ANYWHERE_V4);
        let mut watch = NetworkWatch::default();
        assert!(watch.is_due(start, remote));
        watch.looked = Some(start);
        watch.saw(start, routes(Some(WIFI)), 10);
        // Where it does not tell.
        assert!(!watch.is_due(start + INTERVAL / 2, remote));
        assert!(watch.is_due(start + INTERVAL, remote));
        // Where it does, or the path is another.
        watch.events = RouteEvents::open().ok();
        if watch.events.is_some() {
            assert!((0..100).any(|_| !watch.is_due(start + INTERVAL, remote)));
        }
        assert!(watch.is_due(start + UNTOLD_INTERVAL, remote));
        assert!(watch.is_due(start + INTERVAL / 2, None));
    }

    #[test]
    fn one_sends_to_oneself_from_oneself() {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        assert_eq!(source_address(local), Some(Ipv4Addr::LOCALHOST.into()));
    }
}
