//! UDP sockets, one for each local address, read and written in batches (GRO, GSO).

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use bytes::BytesMut;
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// A datagram that came.
pub(super) struct Datagram {
    pub(super) base: SocketAddr,
    pub(super) source: SocketAddr,
    pub(super) bytes: BytesMut,
}

struct Socket {
    base: SocketAddr,
    socket: UdpSocket,
    state: UdpSocketState,
}

/// All sockets of a connection.
pub(super) struct Sockets {
    sockets: Vec<Socket>,
    buffer: Vec<u8>,
    batch: Batch,
}

/// Datagrams of one size for one destination that are sent by one system call.
#[derive(Default)]
struct Batch {
    base: Option<SocketAddr>,
    destination: Option<SocketAddr>,
    segment: usize,
    count: usize,
    bytes: Vec<u8>,
}

impl Sockets {
    pub(super) fn new() -> Self {
        Self { sockets: Vec::new(), buffer: vec![0; BATCH * BUFFER_BYTES], batch: Batch::default() }
    }

    /// Binds a socket to an address; gives it with its port.
    pub(super) fn bind(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        let socket = std::net::UdpSocket::bind(address)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let options = socket2::SockRef::from(&socket);
        // The system caps what it grants (`net.core.rmem_max`); less is not an error.
        let _ = options.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        let _ = options.set_send_buffer_size(SOCKET_BUFFER_BYTES);
        socket.set_nonblocking(true)?;
        let base = socket.local_addr()?;
        let socket = UdpSocket::from_std(socket)?;
        self.sockets.push(Socket { base, socket, state });
        Ok(base)
    }

    pub(super) fn close(&mut self, base: SocketAddr) {
        self.sockets.retain(|socket| socket.base != base);
    }

    pub(super) fn bases(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.sockets.iter().map(|socket| socket.base)
    }

    /// Sends a datagram, perhaps with those that follow at [`Sockets::flush`].
    pub(super) fn send(&mut self, base: SocketAddr, mut destination: SocketAddr, bytes: &[u8]) {
        // A link-local address is reached by the interface of ours (RFC 4007 §6).
        if let (SocketAddr::V6(ours), SocketAddr::V6(theirs)) = (base, &mut destination)
            && theirs.ip().is_unicast_link_local()
        {
            theirs.set_scope_id(ours.scope_id());
        }
        let fits = self.batch.fits(base, destination, bytes.len())
            && self.batch.count < self.max_segments(base);
        if !fits {
            self.flush();
            self.batch.base = Some(base);
            self.batch.destination = Some(destination);
            self.batch.segment = bytes.len();
        }
        self.batch.count += 1;
        self.batch.bytes.extend_from_slice(bytes);
        // A shorter one can only be the last.
        if bytes.len() < self.batch.segment {
            self.flush();
        }
    }

    fn max_segments(&self, base: SocketAddr) -> usize {
        let socket = self.sockets.iter().find(|socket| socket.base == base);
        socket.map_or(1, |socket| socket.state.max_gso_segments())
    }

    /// Sends what was collected. What does not fit into the socket's buffer is lost like on the way.
    pub(super) fn flush(&mut self) {
        let Batch { base, destination, segment, count, .. } = self.batch;
        if let (Some(base), Some(destination)) = (base, destination)
            && let Some(socket) = self.sockets.iter().find(|socket| socket.base == base)
        {
            let transmit = Transmit {
                destination,
                ecn: None,
                contents: &self.batch.bytes,
                segment_size: (count > 1).then_some(segment),
                src_ip: None,
            };
            // Not by tokio, which would first have to hear that it is writable.
            let sent = socket.state.try_send(UdpSockRef::from(&socket.socket), &transmit);
            if let Err(error) = sent {
                tracing::debug!(%error, %destination, "not sent");
            }
        }
        self.batch.base = None;
        self.batch.count = 0;
        self.batch.bytes.clear();
    }

    /// Reads what has come to any socket into `received`; ready once there is something.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        received: &mut Vec<Datagram>,
    ) -> Poll<()> {
        for socket in &self.sockets {
            while let Poll::Ready(ready) = socket.socket.poll_recv_ready(cx) {
                if ready.is_err() {
                    break;
                }
                let mut metas = [RecvMeta::default(); BATCH];
                let mut slices = self.buffer.chunks_mut(BUFFER_BYTES).map(IoSliceMut::new);
                let mut slices: [IoSliceMut<'_>; BATCH] =
                    std::array::from_fn(|_| slices.next().unwrap_or(IoSliceMut::new(&mut [])));
                let count = socket.socket.try_io(Interest::READABLE, || {
                    socket.state.recv(UdpSockRef::from(&socket.socket), &mut slices, &mut metas)
                });
                match count {
                    Ok(count) => {
                        for (buffer, meta) in slices.iter().zip(&metas).take(count) {
                            let bytes = &buffer[..meta.len.min(buffer.len())];
                            for bytes in bytes.chunks(meta.stride.max(1)) {
                                received.push(Datagram {
                                    base: socket.base,
                                    source: meta.addr,
                                    bytes: bytes.into(),
                                });
                            }
                        }
                        if received.len() >= MAX_RECEIVED {
                            return Poll::Ready(());
                        }
                    }
                    // Registered for the next one.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // Of an earlier datagram that somebody refused (ICMP): the next read goes on.
                    Err(error) => tracing::trace!(%error, base = %socket.base, "not received"),
                }
            }
        }
        if received.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Batch {
    fn fits(&self, base: SocketAddr, destination: SocketAddr, length: usize) -> bool {
        self.base == Some(base)
            && self.destination == Some(destination)
            && length <= self.segment
            && self.bytes.len() + length <= MAX_BATCH_BYTES
    }
}

/// A keyframe is a burst of some eighty packets, as many as fit into Linux' default receive buffer. A second of the
/// highest bitrate we send.
const SOCKET_BUFFER_BYTES: usize = 1 << 20;
/// Read at once; each may hold several datagrams of one sender (GRO).
const BATCH: usize = 4;
const BUFFER_BYTES: usize = 1 << 16;
/// Datagrams read before they are looked at.
const MAX_RECEIVED: usize = 256;
/// What UDP takes by one call.
const MAX_BATCH_BYTES: usize = 60_000;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn datagrams_of_several_sizes_arrive_in_order_with_their_bounds() {
        let (mut from, mut to) = (Sockets::new(), Sockets::new());
        let local = "127.0.0.1:0".parse().unwrap();
        let (base, destination) = (from.bind(local).unwrap(), to.bind(local).unwrap());
        let sizes = [100, 1200, 1200, 1200, 40, 1200, 1200, 1, 7, 7, 7, 8];
        for (number, size) in sizes.iter().enumerate() {
            from.send(base, destination, &vec![u8::try_from(number).unwrap(); *size]);
        }
        from.flush();
        let mut received = Vec::new();
        while received.len() < sizes.len() {
            std::future::poll_fn(|cx| to.poll_receive(cx, &mut received)).await;
        }
        for ((number, size), datagram) in sizes.iter().enumerate().zip(&received) {
            assert_eq!(datagram.bytes, vec![u8::try_from(number).unwrap(); *size]);
            assert_eq!((datagram.base, datagram.source), (destination, base));
        }
    }
}
