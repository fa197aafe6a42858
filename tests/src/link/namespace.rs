//! Network namespaces without names: each lives as long as somebody holds it open or runs in it, so
//! the kernel cleans up whatever way a test ends. Needs `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use nix::sched::{CloneFlags, setns, unshare};

/// The namespace that the calling thread is in.
const OWN: &str = "/proc/thread-self/ns/net";
const TUN: &str = "/dev/net/tun";
/// A network namespace with a loopback interface.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// The name of a TUN device that leads out of a namespace.
    pub const DEVICE: &str = "link0";

    /// A new one. Its loopback interface is up.
    ///
    /// # Errors
    ///
    /// Not allowed, or `ip` (package iproute2) is missing.
    pub fn new() -> anyhow::Result<Self> {
        // Unsharing is for good: a thread that ends right after does it.
        let made = std::thread::spawn(|| -> anyhow::Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)
                .context("a network namespace cannot be made: root (CAP_SYS_ADMIN) is needed")?;
            Ok(File::open(OWN)?)
        });
        let namespace = Self(made.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??);
        namespace.within(|| ip("link set lo up"))??;
        Ok(namespace)
    }

    /// Runs `act` in this namespace. Sockets that it opens and processes that it starts stay there;
    /// threads that it starts too.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered.
    ///
    /// # Panics
    ///
    /// The thread's own namespace cannot be entered again.
    pub fn within<T>(&self, act: impl FnOnce() -> T) -> anyhow::Result<T> {
        /// Goes back on a panic, too.
        struct Back(File);
        impl Drop for Back {
            fn drop(&mut self) {
                let back = setns(&self.0, CloneFlags::CLONE_NEWNET);
                assert!(back.is_ok() || std::thread::panicking(), "cannot leave: {back:?}");
            }
        }
        let back = Back(File::open(OWN)?);
        setns(&self.0, CloneFlags::CLONE_NEWNET).context("a namespace cannot be entered")?;
        let result = act();
        drop(back);
        Ok(result)
    }

    /// Runs `ip` with these words in this namespace.
    ///
    /// # Errors
    ///
    /// It fails, or is not there (package iproute2).
    pub fn ip(&self, arguments: &str) -> anyhow::Result<()> {
        self.within(|| ip(arguments))?
    }

    /// A pair of devices joined by a cable: `name` here with `address` (`10.0.0.1/24`), `far_name`
    /// in `far` with `far_address`. Both are up.
    ///
    /// # Errors
    ///
    /// As [`Namespace::ip`].
    pub fn cable(
        &self,
        (name, address): (&str, &str),
        far: &Self,
        (far_name, far_address): (&str, &str),
    ) -> anyhow::Result<()> {
        // `ip` takes a path for a namespace; ours has no name, but a descriptor.
        let path = format!("/proc/{}/fd/{}", std::process::id(), far.0.as_raw_fd());
        self.ip(&format!("link add {name} type veth peer name {far_name} netns {path}"))?;
        for (namespace, name, address) in [(self, name, address), (far, far_name, far_address)] {
            namespace.without_made_up_addresses(name)?;
            namespace.ip(&format!("addr add {address} dev {name}"))?;
            namespace.ip(&format!("link set {name} up"))?;
        }
        Ok(())
    }

    /// Loads these nftables rules here.
    ///
    /// # Errors
    ///
    /// They are refused, or there is no `nft` (package nftables).
    pub fn nft(&self, rules: &str) -> anyhow::Result<()> {
        let mut command = Command::new("nft");
        command.args(["-f", "-"]).stdin(Stdio::piped());
        let started = self.within(|| command.spawn())?;
        let mut nft = started.context("nft cannot be run; the package is nftables")?;
        nft.stdin.take().context("no standard input")?.write_all(rules.as_bytes())?;
        anyhow::ensure!(nft.wait()?.success(), "nft refuses the rules");
        Ok(())
    }

    /// Writes a setting of the kernel's network: `name` is a path below `/proc/sys/net`.
    ///
    /// # Errors
    ///
    /// There is none such.
    pub fn set(&self, name: &str, value: &str) -> anyhow::Result<()> {
        let path = format!("/proc/sys/net/{name}");
        self.within(|| std::fs::write(&path, value))?.with_context(|| format!("{path} is not set"))
    }

    /// A TUN device here, with this address; everything outside goes through it.
    pub(crate) fn tun(&self, address: Ipv4Addr) -> anyhow::Result<File> {
        let device = Self::DEVICE;
        let file = self.open_tun()?;
        // No IPv6: its addresses need a second to settle (duplicate address detection).
        self.set(&format!("ipv6/conf/{device}/disable_ipv6"), "1").ok();
        self.ip(&format!("addr add {address}/24 dev {device}"))?;
        self.ip(&format!("link set {device} mtu 1500 txqueuelen 10000 up"))?;
        // Chromium asks the route to a public address which of its own to use.
        self.ip(&format!("route add default dev {device}"))?;
        Ok(file)
    }

    /// The same with any addresses, each alone in its network.
    pub(crate) fn uplink(&self, addresses: &[IpAddr]) -> anyhow::Result<File> {
        let device = Self::DEVICE;
        let file = self.open_tun()?;
        self.without_made_up_addresses(device)?;
        for address in addresses {
            let length = if address.is_ipv4() { 32 } else { 128 };
            // Nobody else has them: no duplicate address detection.
            let nodad = if address.is_ipv4() { "" } else { "nodad" };
            self.ip(&format!("addr add {address}/{length} dev {device} {nodad}"))?;
        }
        self.ip(&format!("link set {device} mtu 1500 txqueuelen 10000 up"))?;
        for (family, wanted) in [("-4", true), ("-6", false)] {
            if addresses.iter().any(|address| address.is_ipv4() == wanted) {
                self.ip(&format!("{family} route add default dev {device}"))?;
            }
        }
        Ok(file)
    }

    /// No link-local IPv6 address and none of a router's making. Where there is no IPv6, nothing.
    fn without_made_up_addresses(&self, device: &str) -> anyhow::Result<()> {
        if Path::new("/proc/sys/net/ipv6").exists() {
            self.set(&format!("ipv6/conf/{device}/addr_gen_mode"), "1")?;
            self.set(&format!("ipv6/conf/{device}/accept_ra"), "0")?;
        }
        Ok(())
    }

    fn open_tun(&self) -> anyhow::Result<File> {
        self.within(|| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
                .open(TUN)
                .with_context(|| format!("{TUN} cannot be opened"))?;
            attach(&file).context("a TUN device cannot be made")?;
            Ok(file)
        })?
    }
}

/// Why namespaces and TUN devices cannot be had here; `None` if they can.
pub fn unavailable() -> Option<String> {
    let probe = || Namespace::new()?.tun(Ipv4Addr::new(10, 77, 0, 1));
    probe().err().map(|error| format!("{error:#}"))
}

/// For tests: whether there can be no namespaces here, which is said. Root is needed.
///
/// # Panics
///
/// There are none in CI, where they have to be.
pub fn cannot_test() -> bool {
    let Some(why) = unavailable() else { return false };
    assert!(std::env::var_os("CI").is_none(), "CI has to have namespaces: {why}");
    eprintln!("NOT TESTED, there can be no network namespaces here: {why}");
    true
}

fn ip(arguments: &str) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .context("ip cannot be run; the package is iproute2")?;
    if !output.status.success() {
        bail!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Makes the device behind an open `/dev/net/tun`: plain IP packets, no extra header.
fn attach(tun: &File) -> io::Result<()> {
    // SAFETY: an `ifreq` is plain data (integers, and pointers that may be null): zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(Namespace::DEVICE.bytes()) {
        *to = libc::c_char::try_from(from).unwrap_or_default();
    }
    #[expect(clippy::cast_possible_truncation, reason = "0x1001 fits a short")]
    {
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    }
    // SAFETY: the descriptor is open, and TUNSETIFF reads and writes one `ifreq`, which outlives
    // the call.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs the calling thread before all ordinary ones, so that a busy machine does not add delay of
/// its own. Not being allowed to is no error: the link is then as punctual as the machine.
pub(crate) fn hurry() {
    let priority = libc::sched_param { sched_priority: 10 };
    // SAFETY: the parameter outlives the call; 0 is the calling thread.
    let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const priority) };
}
