//! One TCP port for page, WebSocket and TURN: acceptors that look at the first byte of a stream,
//! before TLS and, if there is TLS, inside it. TURN streams end here; the others go on to HTTP.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum_server::accept::Accept;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::net::Relay;
use super::wire::begins_stun;
use crate::gate::{Gate, Guarded};

/// Time for the first byte to arrive.
const FIRST_BYTE_LIMIT: Duration = Duration::from_secs(10);

/// Lets connections in, and diverts TURN over plain TCP.
#[derive(Clone)]
pub(crate) struct BeforeTls {
    pub(crate) relay: Option<Arc<Relay>>,
    pub(crate) gate: Arc<Gate>,
    /// Time that a client may take to read any of what is written to it.
    pub(crate) write_limit: Duration,
    /// Whether HTTP comes without TLS.
    pub(crate) plain_http: bool,
}

impl<S: Send + 'static> Accept<TcpStream, S> for BeforeTls {
    type Stream = Guarded;
    type Service = S;
    type Future = BoxFuture<'static, io::Result<(Guarded, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let door = self.clone();
        Box::pin(async move {
            let address = stream.peer_addr()?;
            let pass = match door.gate.enter(Instant::now(), address.ip()) {
                Ok(pass) => pass,
                Err(full) => {
                    if door.plain_http {
                        door.gate.refuse(stream, full).await;
                    }
                    return Err(served());
                }
            };
            stream.set_nodelay(true)?;
            let stream = Guarded::new(stream, pass, door.write_limit);
            let Some(relay) = door.relay else { return Ok((stream, service)) };
            let mut first = [0];
            let peek = stream.get_ref().peek(&mut first);
            let peeked = timeout(FIRST_BYTE_LIMIT, peek).await??;
            if peeked == 1 && begins_stun(first[0]) {
                relay.serve_stream(stream, address).await;
                return Err(served());
            }
            Ok((stream, service))
        })
    }
}

/// Diverts TURN inside TLS; `tls` makes the handshake.
#[derive(Clone)]
pub(crate) struct InsideTls<A> {
    pub(crate) tls: A,
    pub(crate) relay: Option<Arc<Relay>>,
}

impl<A, T, S> Accept<TcpStream, S> for InsideTls<A>
where
    A: Accept<TcpStream, S, Stream = T, Service = S>,
    A::Future: Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Send + 'static,
{
    type Stream = Begun<T>;
    type Service = S;
    type Future = BoxFuture<'static, io::Result<(Begun<T>, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let relay = self.relay.clone();
        let address = stream.peer_addr();
        let handshake = self.tls.accept(stream, service);
        Box::pin(async move {
            let (mut stream, service) = handshake.await?;
            let Some(relay) = relay else { return Ok((Begun { first: None, stream }, service)) };
            let first = timeout(FIRST_BYTE_LIMIT, stream.read_u8()).await??;
            let stream = Begun { first: Some(first), stream };
            if begins_stun(first) {
                let address: SocketAddr = address?;
                relay.serve_stream(stream, address).await;
                return Err(served());
            }
            Ok((stream, service))
        })
    }
}

/// What tells the HTTP server that a connection is none of its own.
fn served() -> io::Error {
    io::Error::other("this connection was served already")
}

/// A stream whose first byte has been read already.
pub(crate) struct Begun<T> {
    first: Option<u8>,
    stream: T,
}

impl<T: AsyncRead + Unpin> AsyncRead for Begun<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buffer.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Begun<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
