//! The UDP socket that the stack sees, with media going another way than the stack thinks.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::{DirectPath, Pair, frames};

/// A UDP socket, but media leaves by the active direct pair, and answers to its checks do not
/// reach the stack.
#[derive(Debug)]
pub(crate) struct SteeredSocket {
    /// What the stack's datagrams go through, a bridge to relays perhaps.
    inner: Arc<dyn AsyncUdpSocket>,
    path: Arc<DirectPath>,
    local: SocketAddr,
}

impl SteeredSocket {
    /// `plain` is the socket itself, `inner` what is between it and the stack.
    pub(crate) fn new(
        plain: &Arc<dyn AsyncUdpSocket>,
        inner: Arc<dyn AsyncUdpSocket>,
        path: Arc<DirectPath>,
    ) -> io::Result<Self> {
        path.add_socket(plain);
        Ok(Self { local: inner.local_addr()?, inner, path })
    }

    /// Sends what is media by the direct pair. `None` if it is something else.
    fn send_directly(
        &self,
        cx: &mut Context<'_>,
        transmit: &Transmit<'_>,
        (pair, socket): (Pair, Arc<dyn AsyncUdpSocket>),
    ) -> Option<Poll<io::Result<usize>>> {
        let contents = transmit.contents;
        let direct = |contents, segment_size| Transmit {
            destination: pair.remote,
            ecn: transmit.ecn,
            contents,
            segment_size,
            src_ip: None,
        };
        if frames::is_payload(*contents.first()?) {
            let sent = socket.poll_send(cx, &direct(contents, transmit.segment_size));
            return Some(self.counted(sent, contents.len()));
        }
        // For a relay each datagram comes alone.
        let payload = frames::payload(contents)?;
        let sent = socket.poll_send(cx, &direct(payload, None)).map_ok(|_| contents.len());
        Some(self.counted(sent, payload.len()))
    }

    fn counted(&self, sent: Poll<io::Result<usize>>, bytes: usize) -> Poll<io::Result<usize>> {
        if matches!(sent, Poll::Ready(Ok(_))) {
            self.path.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        sent
    }

    /// Takes the answers to checks out of one received buffer, which may hold several datagrams.
    fn take_answers(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let stride = meta.stride.max(1);
        let mut at = 0;
        while at < meta.len {
            let end = (at + stride).min(meta.len);
            if self.path.on_datagram(self.local, meta.addr, &buffer[at..end]) {
                buffer.copy_within(end..meta.len, at);
                meta.len -= end - at;
            } else {
                at = end;
            }
        }
    }
}

impl AsyncUdpSocket for SteeredSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        if let Some(direct) = self.path.steer()
            && let Some(sent) = self.send_directly(cx, transmit, direct)
        {
            return sent;
        }
        self.inner.poll_send(cx, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let received = self.inner.poll_recv(cx, bufs, meta);
            let Poll::Ready(Ok(count)) = received else { return received };
            let mut left = 0;
            for (buffer, meta) in bufs.iter_mut().zip(meta.iter_mut()).take(count) {
                let length = meta.len.min(buffer.len());
                meta.len = length;
                self.take_answers(buffer, meta);
                left += meta.len;
            }
            // The stack need not know that there was something.
            if left > 0 || count == 0 {
                return received;
            }
        }
    }

    fn max_gso_segments(&self) -> usize {
        self.inner.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.inner.max_gro_segments()
    }
}
