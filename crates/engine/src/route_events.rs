//! Tells that links, addresses or routes of this machine may have changed. The system says so on a
//! socket: netlink on Linux (`rtnetlink(7)`), a routing socket on macOS (`route(4)`). What it says is not
//! read any further.

use std::io;

/// See the module. Never waits.
#[derive(Debug)]
pub(crate) struct RouteEvents(system::Events);

impl RouteEvents {
    /// # Errors
    ///
    /// The system has no such socket, or refuses it (in a sandbox).
    pub(crate) fn open() -> io::Result<Self> {
        system::Events::open().map(Self)
    }

    /// Whether anything has changed since the last call.
    ///
    /// # Errors
    ///
    /// The socket is of no use any more.
    pub(crate) fn take(&self) -> io::Result<bool> {
        self.0.take()
    }
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
mod system {
    use std::io::{self, Read as _};

    use socket2::{Domain, Protocol, Socket, Type};

    /// Longer messages are cut, which does no harm.
    const MESSAGE_BYTES: usize = 4096;
    /// Messages taken at once; the next call goes on.
    const MESSAGES: usize = 64;

    #[derive(Debug)]
    pub(super) struct Events(Socket);

    impl Events {
        #[cfg(target_os = "linux")]
        pub(super) fn open() -> io::Result<Self> {
            const GROUPS: libc::c_int = libc::RTMGRP_LINK
                | libc::RTMGRP_IPV4_IFADDR
                | libc::RTMGRP_IPV4_ROUTE
                | libc::RTMGRP_IPV4_RULE
                | libc::RTMGRP_IPV6_IFADDR
                | libc::RTMGRP_IPV6_ROUTE;
            let protocol = Some(Protocol::from(libc::NETLINK_ROUTE));
            let domain = Domain::from(libc::AF_NETLINK);
            let socket = Socket::new(domain, Type::from(libc::SOCK_RAW), protocol)?;
            let mut storage = socket2::SockAddrStorage::zeroed();
            // SAFETY: `sockaddr_nl` is integers alone and smaller than the storage.
            let address = unsafe { storage.view_as::<libc::sockaddr_nl>() };
            address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
            address.nl_groups = GROUPS as u32;
            let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            // SAFETY: a `sockaddr_nl` stands in the storage.
            socket.bind(&unsafe { socket2::SockAddr::new(storage, length) })?;
            socket.set_nonblocking(true)?;
            Ok(Self(socket))
        }

        #[cfg(target_vendor = "apple")]
        pub(super) fn open() -> io::Result<Self> {
            let socket =
                Socket::new(Domain::from(libc::PF_ROUTE), Type::from(libc::SOCK_RAW), None)?;
            socket.set_nonblocking(true)?;
            Ok(Self(socket))
        }

        pub(super) fn take(&self) -> io::Result<bool> {
            let (mut told, mut message) = (false, [0; MESSAGE_BYTES]);
            for _ in 0..MESSAGES {
                match (&self.0).read(&mut message) {
                    Ok(_) => told = true,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // More was said than the socket holds: something has changed.
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => told = true,
                    Err(error) => return Err(error),
                }
            }
            Ok(told)
        }
    }
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
mod system {
    use std::io;

    #[derive(Debug)]
    pub(super) enum Events {}

    impl Events {
        pub(super) fn open() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn take(&self) -> io::Result<bool> {
            match *self {}
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_while_nothing_changes_and_nothing_waits() {
        let events = RouteEvents::open().unwrap();
        // Another program may change something meanwhile, but not for ever.
        assert!((0..100).any(|_| !events.take().unwrap()));
    }
}
