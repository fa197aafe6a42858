//! Networks joined in the middle: one thread carries IP packets between TUN devices by their
//! destination, each after the delay of both its ways.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::link::{Namespace, hurry};

/// One network's way into the middle.
pub struct Access {
    /// The addresses that lead there.
    pub addresses: Vec<IpAddr>,
    /// From it to the middle and from the middle to it, each.
    pub delay: Duration,
    tun: File,
}

impl Access {
    /// Gives `namespace` these addresses and its default routes, by a device of the name
    /// [`Namespace::DEVICE`].
    ///
    /// # Errors
    ///
    /// Not root, or `/dev/net/tun` or the program `ip` is missing.
    pub fn new(
        namespace: &Namespace,
        addresses: &[IpAddr],
        delay: Duration,
    ) -> anyhow::Result<Self> {
        Ok(Self { tun: namespace.uplink(addresses)?, addresses: addresses.to_vec(), delay })
    }
}

/// The middle. It ends when this is dropped.
pub struct Internet {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Internet {
    /// Carries packets between these from now on.
    ///
    /// # Errors
    ///
    /// There is no thread for it.
    pub fn start(accesses: Vec<Access>) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let runner = Runner {
            accesses,
            flying: BTreeMap::new(),
            number: 0,
            origin: Instant::now(),
            stop: stop.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("internet".into())
            .spawn(move || runner.run())
            .context("no thread")?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Runner {
    accesses: Vec<Access>,
    /// By arrival, and in order; with where to.
    flying: BTreeMap<(Duration, u64), (usize, Vec<u8>)>,
    number: u64,
    origin: Instant,
    stop: Arc<AtomicBool>,
}

impl Runner {
    /// At most so many packets are read before others are written.
    const BATCH: usize = 64;
    /// Longest sleep, for the flag.
    const TICK: Duration = Duration::from_millis(50);

    fn run(mut self) {
        hurry();
        let mut buffer = vec![0; 65_536];
        while !self.stop.load(Ordering::Relaxed) {
            self.sleep();
            for from in 0..self.accesses.len() {
                self.read(from, &mut buffer);
            }
            let now = self.origin.elapsed();
            while let Some(next) = self.flying.first_entry().filter(|next| next.key().0 <= now) {
                let (to, packet) = next.remove();
                // What the kernel refuses is lost; it hardly can.
                let _ = (&self.accesses[to].tun).write(&packet);
            }
        }
    }

    fn sleep(&self) {
        let now = self.origin.elapsed();
        let next = self.flying.first_key_value().map(|((at, _), _)| at.saturating_sub(now));
        let wait = next.unwrap_or(Self::TICK).min(Self::TICK);
        let mut polled: Vec<_> =
            self.accesses.iter().map(|a| PollFd::new(a.tun.as_fd(), PollFlags::POLLIN)).collect();
        // An interruption is as good as a packet.
        let _ = ppoll(&mut polled, Some(TimeSpec::from_duration(wait)), None);
    }

    fn read(&mut self, from: usize, buffer: &mut [u8]) {
        for _ in 0..Self::BATCH {
            let length = match (&self.accesses[from].tun).read(buffer) {
                Ok(length) if length > 0 => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Empty for now.
                _ => return,
            };
            let packet = &buffer[..length];
            let leads_there =
                |to: IpAddr| self.accesses.iter().position(|a| a.addresses.contains(&to));
            // What has no destination here (private addresses, multicast) goes nowhere.
            if let Some(to) = destination(packet).and_then(leads_there) {
                let delay = self.accesses[from].delay + self.accesses[to].delay;
                self.number += 1;
                let at = (self.origin.elapsed() + delay, self.number);
                self.flying.insert(at, (to, packet.to_vec()));
            }
        }
    }
}

/// Where an IP packet goes (RFC 791 §3.1, RFC 8200 §3).
fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(Ipv4Addr::from_octets(packet.get(16..20)?.try_into().ok()?).into()),
        6 => Some(Ipv6Addr::from_octets(packet.get(24..40)?.try_into().ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_told_by_their_destination() {
        let mut v4 = [0; 20];
        v4[0] = 0x45;
        v4[16..].copy_from_slice(&[20, 0, 0, 1]);
        assert_eq!(destination(&v4), Some(Ipv4Addr::new(20, 0, 0, 1).into()));
        let mut v6 = [0; 40];
        v6[0] = 0x60;
        v6[39] = 1;
        assert_eq!(destination(&v6), Some(Ipv6Addr::LOCALHOST.into()));
        for broken in [&[][..], &[0x45; 19], &[0x60; 39], &[0x10; 60]] {
            assert_eq!(destination(broken), None);
        }
    }
}
