//! One socket's stream to one relay: connected when there is something to send, and anew after it
//! broke.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::StreamRelay;

/// What a stream is made from.
pub(super) struct Lane {
    pub(super) relay: StreamRelay,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    /// The address whose interface it should leave by.
    pub(super) local: IpAddr,
    /// The address that the stack knows the relay by.
    pub(super) stand_in: SocketAddr,
    pub(super) deliver: mpsc::Sender<(SocketAddr, Bytes)>,
}

impl Lane {
    /// Carries datagrams from `queue` to the relay and back until the queue is closed. `failed` is
    /// told each time the relay cannot be reached.
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
        let host = (self.relay.host.as_str(), self.relay.port);
        let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        for address in tokio::net::lookup_host(host).await? {
            outcome = self.connect_to(address).await;
            if outcome.is_ok() {
                break;
            }
        }
        let stream = outcome?;
        if !self.relay.tls {
            return Ok(Stream::Plain(stream));
        }
        let Some(tls) = &self.tls else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "no TLS is set up"));
        };
        let name = ServerName::try_from(self.relay.host.clone()).map_err(io::Error::other)?;
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
        let (mut reader, mut writer) = tokio::io::split(stream);
        let read = async {
            let mut buffer = BytesMut::with_capacity(READ_BUFFER_BYTES);
            loop {
                while let Some(frame) = take_frame(&mut buffer)? {
                    // A full queue loses datagrams, as a socket would.
                    let _ = self.deliver.try_send((self.stand_in, frame));
                }
                if reader.read_buf(&mut buffer).await? == 0 {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up"));
                }
            }
        };
        let write = async {
            let mut next = Some(first);
            while let Some(datagram) = next {
                writer.write_all(&datagram).await?;
                let padding = datagram.len().next_multiple_of(4) - datagram.len();
                writer.write_all(&[0; 3][..padding]).await?;
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
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// The next STUN message or ChannelData message (RFC 8656 §12.4), without its padding.
fn take_frame(buffer: &mut BytesMut) -> io::Result<Option<Bytes>> {
    let Some([kind, _, a, b]) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([*a, *b]));
    let frame = match kind >> 6 {
        0 => 20 + length,
        1 => 4 + length,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not speak TURN")),
    };
    let padded = frame.next_multiple_of(4);
    if buffer.len() < padded {
        buffer.reserve(padded - buffer.len());
        return Ok(None);
    }
    let mut frame_bytes = buffer.split_to(padded);
    frame_bytes.truncate(frame);
    Ok(Some(frame_bytes.freeze()))
}

/// TCP and TLS together; a name that cannot be looked up counts in.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const RECONNECT_AFTER: Duration = Duration::from_secs(1);
/// 400 ms of 2.5 Mbps.
const SEND_BUFFER_BYTES: u32 = 128 * 1024;
const READ_BUFFER_BYTES: usize = 16 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
                while let Some(frame) = take_frame(&mut buffer).unwrap() {
                    frames.push(frame.to_vec());
                }
            }
            assert_eq!(frames, [stun.clone(), channel.clone(), stun.clone()]);
        }
        let mut http = BytesMut::from(&b"HTTP/1.1 400 Bad Request"[..]);
        assert!(take_frame(&mut BytesMut::from(&[0x80u8, 0, 0, 0][..])).is_err());
        // "H" has the bits of ChannelData: it waits for more, and the relay hangs up.
        assert!(take_frame(&mut http).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = take_frame(&mut buffer) {}
        }
    }
}
