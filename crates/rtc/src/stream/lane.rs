//! One socket's stream to one other end: connected when there is something to send, and anew after it
//! broke.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::turn::StreamRelay;

/// What a stream is made from.
pub(super) struct Lane {
    /// `None` for a candidate, which is where it says.
    pub(super) relay: Option<StreamRelay>,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    /// The address whose interface it should leave by.
    pub(super) local: IpAddr,
    /// The address that the stack knows the other end by.
    pub(super) end: SocketAddr,
    pub(super) deliver: mpsc::Sender<(SocketAddr, Bytes)>,
    /// Whether what comes is to be delivered later ([`HEAD_START`]); asked for each datagram.
    pub(super) is_late: Box<dyn Fn() -> bool + Send + Sync>,
}

/// How datagrams follow each other on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// They delimit themselves, padded to four bytes (RFC 8656 §3.7, §12.5).
    Turn,
    /// Each has its length in front (RFC 4571 §2).
    Length,
}

impl Lane {
    /// Carries datagrams from `queue` to the other end and back until the queue is closed. `failed` is
    /// told each time it cannot be reached.
    pub(super) async fn run(self, mut queue: mpsc::Receiver<Bytes>, failed: impl Fn(String)) {
        while let Some(first) = queue.recv().await {
            let outcome = match timeout(CONNECT_LIMIT, self.connect()).await {
                Ok(Ok(Stream::Plain(stream))) => self.carry(stream, first, &mut queue).await,
                Ok(Ok(Stream::Tls(stream))) => self.carry(*stream, first, &mut queue).await,
                Ok(Err(error)) => Err(error),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")),
            };
            let Err(error) = outcome else { return };
            failed(error.to_string());
            tokio::time::sleep(RECONNECT_AFTER).await;
            // What waited is of no use any more: the stack has asked again, or given up.
            while queue.try_recv().is_ok() {}
        }
    }

    async fn connect(&self) -> io::Result<Stream> {
        let Some(relay) = &self.relay else {
            return Ok(Stream::Plain(self.connect_to(self.end).await?));
        };
        let host = (relay.host.as_str(), relay.port);
        let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        for address in tokio::net::lookup_host(host).await? {
            outcome = self.connect_to(address).await;
            if outcome.is_ok() {
                break;
            }
        }
        let stream = outcome?;
        if !relay.tls {
            return Ok(Stream::Plain(stream));
        }
        let Some(tls) = &self.tls else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "no TLS is set up"));
        };
        let name = ServerName::try_from(relay.host.clone()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(tls.clone()).connect(name, stream).await?;
        Ok(Stream::Tls(Box::new(stream)))
    }

    async fn connect_to(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if self.local.is_ipv4() == address.is_ipv4() && !self.local.is_loopback() {
            socket.bind(SocketAddr::new(self.local, 0))?;
        }
        // What waits in the system cannot be taken back when the path gets slower.
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn carry(
        &self,
        stream: impl AsyncRead + AsyncWrite,
        first: Bytes,
        queue: &mut mpsc::Receiver<Bytes>,
    ) -> io::Result<()> {
        let framing = if self.relay.is_some() { Framing::Turn } else { Framing::Length };
        let buffer = BytesMut::with_capacity(READ_BUFFER_BYTES);
        carry(stream, buffer, framing, Some(first), queue, |frame| {
            // A full queue loses datagrams, as a socket would.
            let Ok(place) = self.deliver.clone().try_reserve_owned() else { return };
            let delivered = (self.end, frame);
            if (self.is_late)() {
                tokio::spawn(async move {
                    tokio::time::sleep(HEAD_START).await;
                    place.send(delivered);
                });
            } else {
                place.send(delivered);
            }
        })
        .await
    }
}

/// Carries datagrams both ways until the queue is closed; `first` goes before those in the queue, and
/// `buffer` has what was read already.
pub(super) async fn carry(
    stream: impl AsyncRead + AsyncWrite,
    mut buffer: BytesMut,
    framing: Framing,
    first: Option<Bytes>,
    queue: &mut mpsc::Receiver<Bytes>,
    deliver: impl Fn(Bytes),
) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let read = async {
        loop {
            while let Some(datagram) = framing.take(&mut buffer)? {
                if !datagram.is_empty() {
                    deliver(datagram);
                }
            }
            if reader.read_buf(&mut buffer).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up"));
            }
        }
    };
    let write = async {
        let mut next = match first {
            Some(first) => Some(first),
            None => queue.recv().await,
        };
        while let Some(datagram) = next {
            match framing {
                Framing::Turn => {
                    writer.write_all(&datagram).await?;
                    let padding = datagram.len().next_multiple_of(4) - datagram.len();
                    writer.write_all(&[0; 3][..padding]).await?;
                }
                Framing::Length => {
                    let length = u16::try_from(datagram.len()).map_err(io::Error::other)?;
                    writer.write_all(&[&length.to_be_bytes(), &datagram[..]].concat()).await?;
                }
            }
            if queue.is_empty() {
                writer.flush().await?;
            }
            next = queue.recv().await;
        }
        writer.shutdown().await
    };
    tokio::select! {
        outcome = read => outcome,
        outcome = write => outcome,
    }
}

/// The first datagram of a stream that somebody else opened, and what came behind it.
pub(super) async fn first_datagram(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<(Bytes, BytesMut)> {
    let mut buffer = BytesMut::with_capacity(READ_BUFFER_BYTES);
    loop {
        if let Some(first) = Framing::Length.take(&mut buffer)? {
            return Ok((first, buffer));
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl Framing {
    /// The next datagram, if all of it is there.
    fn take(self, buffer: &mut BytesMut) -> io::Result<Option<Bytes>> {
        let Some([kind, length, a, b]) = buffer.first_chunk::<4>() else {
            // An empty datagram is of two bytes.
            return Ok(None);
        };
        let (skipped, length) = match (self, kind >> 6) {
            (Self::Length, _) => (2, usize::from(u16::from_be_bytes([*kind, *length]))),
            // A STUN message, or one of ChannelData (RFC 8656 §12.4).
            (Self::Turn, 0) => (0, 20 + usize::from(u16::from_be_bytes([*a, *b]))),
            (Self::Turn, 1) => (0, 4 + usize::from(u16::from_be_bytes([*a, *b]))),
            (Self::Turn, _) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not speak TURN"));
            }
        };
        let whole = skipped + if self == Self::Turn { length.next_multiple_of(4) } else { length };
        if buffer.len() < whole {
            buffer.reserve(whole - buffer.len());
            return Ok(None);
        }
        let mut frame = buffer.split_to(whole);
        frame.advance(skipped);
        frame.truncate(length);
        Ok(Some(frame.freeze()))
    }
}

/// The datagrams of a stream that comes in pieces, until one is malformed.
#[cfg(any(test, fuzzing))]
pub(crate) fn cut<'a>(turn: bool, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Bytes> {
    let framing = if turn { Framing::Turn } else { Framing::Length };
    let (mut buffer, mut datagrams) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match framing.take(&mut buffer) {
                Ok(Some(datagram)) => datagrams.push(datagram),
                Ok(None) => break,
                Err(_) => return datagrams,
            }
        }
    }
    datagrams
}

/// TCP and TLS together; a name that cannot be looked up counts in.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const RECONNECT_AFTER: Duration = Duration::from_secs(1);
/// Before a pair is selected, what comes over a stream to a relay is delivered this much later where a relay over
/// UDP is there: the stack nominates the pair that answers first, and stays with it. More than a busy machine's
/// tasks wait for each other.
const HEAD_START: Duration = Duration::from_millis(50);
/// 400 ms of 2.5 Mbps.
pub(super) const SEND_BUFFER_BYTES: u32 = 128 * 1024;
const READ_BUFFER_BYTES: usize = 16 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn what_comes_over_a_stream_is_late_while_it_must_not_win() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let end = listener.local_addr().unwrap();
        let (deliver, mut delivered) = mpsc::channel(8);
        let late = Arc::new(AtomicBool::new(true));
        let is_late = Box::new({
            let late = late.clone();
            move || late.load(Ordering::Relaxed)
        });
        let local = Ipv4Addr::LOCALHOST.into();
        let lane = Lane { relay: None, tls: None, local, end, deliver, is_late };
        let (queue, queued) = mpsc::channel(8);
        tokio::spawn(lane.run(queued, |_| {}));
        queue.try_send(Bytes::from_static(&[1])).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let sent = Instant::now();
        for datagram in [2, 3] {
            stream.write_all(&[0, 2, 0, datagram]).await.unwrap();
            let came = delivered.recv().await.unwrap();
            assert_eq!(came, (end, Bytes::copy_from_slice(&[0, datagram])));
            assert!(sent.elapsed() >= HEAD_START || !late.load(Ordering::Relaxed));
            late.store(false, Ordering::Relaxed);
        }
    }

    #[test]
    fn frames_are_cut_out_of_the_stream_without_their_padding() {
        let stun = [&[0x01, 0x03, 0, 4][..], &[9; 20]].concat();
        let channel = [&[0x40, 0x01, 0, 5][..], &[7; 5]].concat();
        let all = [&stun[..], &channel, &[0; 3], &stun].concat();
        for chunk in 1..all.len() {
            let mut buffer = BytesMut::new();
            let mut frames = Vec::new();
            for part in all.chunks(chunk) {
                buffer.extend_from_slice(part);
                while let Some(frame) = Framing::Turn.take(&mut buffer).unwrap() {
                    frames.push(frame.to_vec());
                }
            }
            assert_eq!(frames, [stun.clone(), channel.clone(), stun.clone()]);
        }
        let mut http = BytesMut::from(&b"HTTP/1.1 400 Bad Request"[..]);
        assert!(Framing::Turn.take(&mut BytesMut::from(&[0x80u8, 0, 0, 0][..])).is_err());
        // "H" has the bits of ChannelData: it waits for more, and the relay hangs up.
        assert!(Framing::Turn.take(&mut http).is_ok());
    }

    #[test]
    fn datagrams_with_their_length_are_cut_out_of_the_stream() {
        let all = [&[0, 5][..], b"hello", &[0, 0], &[0, 2], b"ab"].concat();
        for chunk in 1..all.len() {
            let mut buffer = BytesMut::new();
            let mut frames = Vec::new();
            for part in all.chunks(chunk) {
                buffer.extend_from_slice(part);
                while let Some(frame) = Framing::Length.take(&mut buffer).unwrap() {
                    frames.push(frame.to_vec());
                }
            }
            assert_eq!(frames, [&b"hello"[..], b"", b"ab"]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for framing in [Framing::Turn, Framing::Length] {
                let mut buffer = BytesMut::from(&bytes[..]);
                while let Ok(Some(_)) = framing.take(&mut buffer) {}
            }
        }
    }
}
