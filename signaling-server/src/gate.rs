//! Who gets a TCP connection: counts for the server and for each address, passes that give
//! themselves back, and streams that end when the other end does not read or does not begin. Any
//! thread.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum_server::accept::Accept;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep, timeout};

use crate::limits::{Full, Rates, Shares};
use crate::proxy::TrustedProxy;

/// Seconds' worth of connections, and of requests, that one address may make at once.
pub(crate) const BURST_SECONDS: f64 = 20.0;
/// Refused connections that are kept, at the same time, until the client has read why.
const LINGERING: usize = 64;
/// Time for telling it.
const REFUSAL_LIMIT: Duration = Duration::from_secs(1);

/// Counts connections of one kind.
pub(crate) struct Gate {
    state: Mutex<State>,
    total: usize,
    share: usize,
    /// Their connections are other people's, and have no share.
    proxies: Vec<TrustedProxy>,
    lingering: Semaphore,
}

struct State {
    shares: Shares,
    of_proxies: usize,
    rates: Option<Rates>,
    refused: u64,
}

/// Lets one connection be. Gives itself back when it is dropped.
pub(crate) struct Pass {
    gate: Arc<Gate>,
    /// `None`: a proxy's.
    address: Option<IpAddr>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        match self.address {
            Some(address) => state.shares.give_back(address),
            None => state.of_proxies -= 1,
        }
    }
}

impl Gate {
    /// `total` at once, `share` of them from one address and, if so many are told, new ones a second
    /// from one address.
    pub(crate) fn new(total: usize, share: usize, per_second: Option<u32>) -> Arc<Self> {
        Self::with_proxies(total, share, per_second, Vec::new())
    }

    /// The same, with addresses that have no share of their own.
    pub(crate) fn with_proxies(
        total: usize,
        share: usize,
        per_second: Option<u32>,
        proxies: Vec<TrustedProxy>,
    ) -> Arc<Self> {
        let rates = per_second.map(f64::from).map(|rate| Rates::new(rate * BURST_SECONDS, rate));
        let state = State { shares: Shares::default(), of_proxies: 0, rates, refused: 0 };
        Arc::new(Self {
            state: Mutex::new(state),
            total,
            share,
            proxies,
            lingering: Semaphore::new(LINGERING),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in, or says what there is too much of.
    pub(crate) fn enter(self: &Arc<Self>, now: Instant, address: IpAddr) -> Result<Pass, Full> {
        let proxy = self.proxies.iter().any(|proxy| proxy.contains(address));
        let mut state = self.lock();
        let within_rate =
            proxy || state.rates.as_mut().is_none_or(|rates| rates.take(now, address, 1.0));
        let full = if !within_rate || !(proxy || state.shares.has_room(address, self.share)) {
            Some(Full::Address)
        } else {
            (state.shares.total() + state.of_proxies >= self.total).then_some(Full::Server)
        };
        if let Some(full) = full {
            state.refused += 1;
            return Err(full);
        }
        if proxy {
            state.of_proxies += 1;
        } else {
            state.shares.take(address, usize::MAX);
        }
        Ok(Pass { gate: Arc::clone(self), address: (!proxy).then_some(address) })
    }

    /// How many are in.
    pub(crate) fn open(&self) -> usize {
        let state = self.lock();
        state.shares.total() + state.of_proxies
    }

    /// How many were refused since the start.
    pub(crate) fn refused(&self) -> u64 {
        self.lock().refused
    }

    /// Forgets addresses that have not connected for a while.
    pub(crate) fn tick(&self, now: Instant) {
        if let Some(rates) = &mut self.lock().rates {
            rates.forget_full(now);
        }
    }

    /// Tells a client of plain HTTP that it is not let in.
    pub(crate) async fn refuse(&self, mut stream: TcpStream, full: Full) {
        let (status, text) = match full {
            Full::Server => ("503 Service Unavailable", TOO_MANY),
            Full::Address => ("429 Too Many Requests", TOO_MANY_OF_ADDRESS),
        };
        let length = text.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {length}\r\nRetry-After: 5\r\nConnection: close\r\n\r\n{text}"
        );
        let telling = async {
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            // A socket closed with unread data in it may take the answer along. Not for too many at
            // the same time, who would be as good as let in.
            if let Ok(_permit) = self.lingering.try_acquire() {
                let mut request = [0; 1024];
                while stream.read(&mut request).await? > 0 {}
            }
            io::Result::Ok(())
        };
        let _ = timeout(REFUSAL_LIMIT, telling).await;
    }
}

/// What HTTP 503 says.
pub(crate) const TOO_MANY: &str = "too many connections\n";
/// What HTTP 429 says.
pub(crate) const TOO_MANY_OF_ADDRESS: &str = "too many connections or requests from this address\n";

/// A TCP connection with its pass, on which nothing waits to be written for longer than a limit.
pub(crate) struct Guarded {
    stream: TcpStream,
    _pass: Pass,
    limit: Duration,
    /// Runs while the other end does not read.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    /// Nothing is being written yet.
    pub(crate) fn new(stream: TcpStream, pass: Pass, limit: Duration) -> Self {
        Self { stream, _pass: pass, limit, deadline: None }
    }

    /// The connection itself.
    pub(crate) fn get_ref(&self) -> &TcpStream {
        &self.stream
    }

    fn limited<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.deadline = None;
            return outcome;
        }
        let limit = self.limit;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(limit)));
        match deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.limited(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.limited(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Accepts what another acceptor does, as [`InTime`].
#[derive(Clone)]
pub(crate) struct AcceptInTime<A> {
    pub(crate) inner: A,
    /// Time for the first bytes to arrive.
    pub(crate) limit: Duration,
}

impl<A, I, S> Accept<I, S> for AcceptInTime<A>
where
    A: Accept<I, S>,
    A::Future: Send + 'static,
{
    type Stream = InTime<A::Stream>;
    type Service = A::Service;
    type Future = BoxFuture<'static, io::Result<(InTime<A::Stream>, A::Service)>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let (accepted, limit) = (self.inner.accept(stream, service), self.limit);
        Box::pin(async move {
            let (stream, service) = accepted.await?;
            let deadline = Box::pin(sleep(limit));
            Ok((InTime { stream, missing: VERSION_BYTES, deadline }, service))
        })
    }
}

/// As many bytes as the HTTP server looks at to tell HTTP/2 from HTTP/1, for which it would wait for
/// ever; its own limit for a request's head begins after them.
const VERSION_BYTES: usize = 24;

/// A stream that ends if its first bytes do not arrive in time.
pub(crate) struct InTime<T> {
    stream: T,
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl<T: AsyncRead + Unpin> AsyncRead for InTime<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if self.missing > 0 {
            self.missing = self.missing.saturating_sub(buffer.filled().len() - before);
            if outcome.is_pending() && self.deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        outcome
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for InTime<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_shared_out_and_given_back() {
        let gate = Gate::new(3, 2, None);
        let now = Instant::now();
        let [a, b, c] = [1, 2, 3].map(|n| IpAddr::from([192, 0, 2, n]));
        let first = gate.enter(now, a).unwrap();
        let _second = gate.enter(now, a).unwrap();
        assert_eq!(gate.enter(now, a).err(), Some(Full::Address));
        let _third = gate.enter(now, b).unwrap();
        assert_eq!(gate.enter(now, c).err(), Some(Full::Server));
        assert_eq!((gate.open(), gate.refused()), (3, 2));
        drop(first);
        assert!(gate.enter(now, c).is_ok());
    }

    #[test]
    fn connections_a_second_are_limited() {
        let gate = Gate::new(1000, 1000, Some(2));
        let now = Instant::now();
        let [a, b] = [1, 2].map(|n| IpAddr::from([192, 0, 2, n]));
        assert_eq!((0..100).filter(|_| gate.enter(now, a).is_ok()).count(), 40);
        assert!(gate.enter(now, b).is_ok());
        assert!(gate.enter(now + Duration::from_secs(1), a).is_ok());
        gate.tick(now + Duration::from_secs(60));
        assert_eq!((0..100).filter(|_| gate.enter(now, a).is_ok()).count(), 40);
    }

    #[test]
    fn a_proxy_has_no_share_but_counts() {
        let proxies = vec!["192.0.2.1".parse().unwrap()];
        let gate = Gate::with_proxies(3, 1, Some(1), proxies);
        let (now, proxy) = (Instant::now(), IpAddr::from([192, 0, 2, 1]));
        let passes: Vec<_> = (0..3).map(|_| gate.enter(now, proxy).unwrap()).collect();
        assert_eq!(gate.enter(now, proxy).err(), Some(Full::Server));
        drop(passes);
        assert_eq!(gate.open(), 0);
    }
}
