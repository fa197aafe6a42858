//! The UDP socket that the stack sees, with media going another way than the stack thinks.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::time::Sleep;
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::prompt::Fate;
use super::{DirectPath, Pair, frames, stun};
use crate::guard::Verdict;

/// A UDP socket, but media leaves by the active direct pair, and answers to its checks do not
/// reach the stack.
#[derive(Debug)]
pub(crate) struct SteeredSocket {
    /// What the stack's datagrams go through, a bridge to relays perhaps.
    inner: Arc<dyn AsyncUdpSocket>,
    path: Arc<DirectPath>,
    local: SocketAddr,
    /// Whether this socket is for multicast DNS, which has no address of its own.
    is_multicast: bool,
    inbox: Arc<Inbox>,
    /// When a flight of DTLS goes again.
    repeat: Mutex<Option<Pin<Box<Sleep>>>>,
    /// For [`DirectPath`], which does not keep it.
    _sender: Arc<UdpSocket>,
}

/// What the stack shall read from a socket beside what comes from outside.
#[derive(Debug, Default)]
pub(super) struct Inbox(Mutex<Letters>);

#[derive(Debug, Default)]
struct Letters {
    ready: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Until a pair is selected.
    held: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Until the other side is described.
    checks: VecDeque<(SocketAddr, Vec<u8>)>,
    /// The last nomination of each remote address, until a pair is selected.
    nominations: VecDeque<(SocketAddr, Vec<u8>)>,
    reader: Option<Waker>,
}

impl Inbox {
    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the socket polled.
    fn wake(&self) {
        if let Some(reader) = self.letters().reader.take() {
            reader.wake();
        }
    }

    fn deliver(&self, from: SocketAddr, datagram: Vec<u8>) {
        let mut letters = self.letters();
        letters.ready.push_back((from, datagram));
        if let Some(reader) = letters.reader.take() {
            reader.wake();
        }
    }

    /// Keeps a datagram until [`Self::release`]; when it is full the oldest is lost, as it would
    /// have been.
    fn hold(&self, from: SocketAddr, datagram: &[u8]) {
        keep(&mut self.letters().held, from, datagram);
    }

    /// The same until [`Self::release_checks`].
    fn hold_check(&self, from: SocketAddr, datagram: &[u8]) {
        keep(&mut self.letters().checks, from, datagram);
    }

    pub(super) fn release_checks(&self) {
        let mut letters = self.letters();
        let checks = std::mem::take(&mut letters.checks);
        letters.ready.extend(checks);
        if let Some(reader) = letters.reader.take() {
            reader.wake();
        }
    }

    /// Remembers a nomination.
    fn nominated(&self, from: SocketAddr, request: &[u8]) {
        let mut letters = self.letters();
        letters.nominations.retain(|(known, _)| *known != from);
        keep(&mut letters.nominations, from, request);
    }

    /// A check of ours was answered from there: a nomination that came before its pair was proven
    /// counts from now on (RFC 8445 §7.3.1.5). The stack's agent forgets it, and would wait for the next.
    fn proven(&self, from: SocketAddr) {
        let mut letters = self.letters();
        if let Some(at) = letters.nominations.iter().position(|(known, _)| *known == from)
            && let Some(nomination) = letters.nominations.remove(at)
        {
            letters.ready.push_back(nomination);
            if let Some(reader) = letters.reader.take() {
                reader.wake();
            }
        }
    }

    pub(super) fn release(&self) {
        let mut letters = self.letters();
        letters.nominations.clear();
        let held = std::mem::take(&mut letters.held);
        letters.ready.extend(held);
        if let Some(reader) = letters.reader.take() {
            reader.wake();
        }
    }

    /// The next datagram, or the reader is woken when there is one.
    fn take(&self, cx: &Context<'_>) -> Option<(SocketAddr, Vec<u8>)> {
        let mut letters = self.letters();
        let next = letters.ready.pop_front();
        if next.is_none() {
            letters.reader = Some(cx.waker().clone());
        }
        next
    }
}

fn keep(queue: &mut VecDeque<(SocketAddr, Vec<u8>)>, from: SocketAddr, datagram: &[u8]) {
    if queue.len() >= MAX_HELD {
        queue.pop_front();
    }
    queue.push_back((from, datagram.to_vec()));
}

/// DTLS flights are of some six records.
const MAX_HELD: usize = 32;

impl SteeredSocket {
    /// `plain` is the socket itself, `sender` another handle of it, `inner` what is between it and the stack.
    pub(crate) fn new(
        plain: &Arc<dyn AsyncUdpSocket>,
        sender: UdpSocket,
        inner: Arc<dyn AsyncUdpSocket>,
        path: Arc<DirectPath>,
    ) -> io::Result<Self> {
        let (inbox, sender) = (Arc::default(), Arc::new(sender));
        path.add_socket(plain, &sender, &inbox);
        let local = inner.local_addr()?;
        Ok(Self {
            local,
            is_multicast: local.ip().is_unspecified() || local.ip().is_multicast(),
            inner,
            path,
            inbox,
            repeat: Mutex::default(),
            _sender: sender,
        })
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

    /// Passes on what goes the stack's way, and remembers it if it is of DTLS's handshake.
    fn send_as_it_is(
        &self,
        cx: &mut Context<'_>,
        transmit: &Transmit<'_>,
    ) -> Poll<io::Result<usize>> {
        let sent = self.inner.poll_send(cx, transmit);
        if !self.path.is_settled() && transmit.segment_size.is_none() && sent.is_ready() {
            let pair = Pair { local: self.local, remote: transmit.destination };
            if self.path.sends_flight(pair, transmit.contents) {
                // For the time of its repetition, which reading waits for.
                self.inbox.wake();
            }
        }
        sent
    }

    /// Sends a flight of DTLS again if it is time, and sees to it that there is a next time. Called by who
    /// reads, for the socket wakes only one task.
    fn repeat_flight(&self, cx: &mut Context<'_>) {
        let mut repeat = self.repeat.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (due, next) = self.path.flights().due(Instant::now(), self.local);
            for (destination, contents) in due {
                let contents = contents.as_slice();
                let again =
                    Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None };
                // What does not fit is lost like on the way.
                let _ = self.inner.poll_send(cx, &again);
            }
            let Some(next) = next.map(tokio::time::Instant::from_std) else {
                *repeat = None;
                return;
            };
            let sleep = repeat.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
            if sleep.deadline() != next {
                sleep.as_mut().reset(next);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return;
            }
        }
    }

    fn counted(&self, sent: Poll<io::Result<usize>>, bytes: usize) -> Poll<io::Result<usize>> {
        if matches!(sent, Poll::Ready(Ok(_))) {
            self.path.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        sent
    }

    /// Takes out of one received buffer, which may hold several datagrams, what is not for the stack, or not yet, or
    /// not as it is.
    fn sort(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let stride = meta.stride.max(1);
        let mut at = 0;
        while at < meta.len {
            let end = (at + stride).min(meta.len);
            if self.passes(meta.addr, &buffer[at..end]) {
                at = end;
            } else {
                buffer.copy_within(end..meta.len, at);
                meta.len -= end - at;
            }
        }
    }

    /// Whether the stack gets this datagram now and as it is.
    fn passes(&self, from: SocketAddr, datagram: &[u8]) -> bool {
        let guard = &self.path.guard;
        if self.is_multicast {
            return guard.check_multicast(from, datagram) == Verdict::Pass;
        }
        let pair = Pair { local: self.local, remote: from };
        match guard.check(Instant::now(), from, datagram, self.path.phase()) {
            Verdict::Drop => false,
            Verdict::Replace(peer, records) => {
                self.path.on_datagram(pair, datagram);
                for record in records {
                    self.path.receives_flight(&record);
                    if self.path.is_selected() {
                        self.inbox.deliver(peer, record);
                    } else {
                        self.inbox.hold(peer, &record);
                    }
                }
                false
            }
            Verdict::Pass => self.is_in_time(pair, datagram),
        }
    }

    /// Whether the stack can use a datagram already; what it cannot use yet is kept.
    fn is_in_time(&self, pair: Pair, datagram: &[u8]) -> bool {
        if !self.path.is_settled() {
            self.path.receives_flight(datagram);
        }
        if frames::is_dtls(datagram) && !self.path.is_selected() {
            self.inbox.hold(pair.remote, datagram);
            return false;
        }
        if frames::is_request(datagram) && !self.path.is_described() {
            self.inbox.hold_check(pair.remote, datagram);
            return false;
        }
        if !self.path.is_selected() {
            if frames::is_request(datagram) && stun::has_use_candidate(datagram) {
                self.inbox.nominated(pair.remote, datagram);
            } else if frames::is_success(datagram) {
                // Read after this one.
                self.inbox.proven(pair.remote);
            }
        }
        !self.path.on_datagram(pair, datagram)
    }
}

impl AsyncUdpSocket for SteeredSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.path.guard.on_send(transmit.destination, transmit.contents);
        if let Some(direct) = self.path.steer()
            && let Some(sent) = self.send_directly(cx, transmit, direct)
        {
            return sent;
        }
        if !self.path.is_selected() && transmit.segment_size.is_none() {
            let pair = Pair { local: self.local, remote: transmit.destination };
            let length = transmit.contents.len();
            match self.path.before_selection(pair, transmit.contents) {
                Fate::Pass => {}
                Fate::Drop => return Poll::Ready(Ok(length)),
                Fate::Answer(answer) => {
                    self.inbox.deliver(pair.remote, answer);
                    return Poll::Ready(Ok(length));
                }
                Fate::Replace(contents) => {
                    let other = Transmit { contents: &contents, ..*transmit };
                    return self.inner.poll_send(cx, &other).map_ok(|_| length);
                }
            }
        }
        self.send_as_it_is(cx, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if !self.path.is_settled() {
            self.repeat_flight(cx);
        }
        if let Some((from, datagram)) = self.inbox.take(cx)
            && let (Some(buffer), Some(meta)) = (bufs.first_mut(), meta.first_mut())
        {
            let length = datagram.len().min(buffer.len());
            buffer[..length].copy_from_slice(&datagram[..length]);
            *meta = RecvMeta::default();
            (meta.addr, meta.len, meta.stride) = (from, length, length.max(1));
            return Poll::Ready(Ok(1));
        }
        loop {
            let received = self.inner.poll_recv(cx, bufs, meta);
            let Poll::Ready(Ok(count)) = received else { return received };
            let mut left = 0;
            for (buffer, meta) in bufs.iter_mut().zip(meta.iter_mut()).take(count) {
                let length = meta.len.min(buffer.len());
                meta.len = length;
                self.sort(buffer, meta);
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::poll_fn;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use webrtc::runtime::{Runtime, TokioRuntime};

    use super::super::checks::Generation;
    use super::*;

    async fn read(socket: &SteeredSocket) -> Vec<u8> {
        let (mut buffer, mut meta) = ([0; 2048], [RecvMeta::default()]);
        let mut buffers = [IoSliceMut::new(&mut buffer)];
        let read = poll_fn(|cx| socket.poll_recv(cx, &mut buffers, &mut meta));
        tokio::time::timeout(Duration::from_secs(5), read).await.unwrap().unwrap();
        buffer[..meta[0].len].to_vec()
    }

    /// A check as the remote peer signs it, with USE-CANDIDATE or without.
    fn signed_check(path: &DirectPath, nominates: bool) -> Vec<u8> {
        path.guard.local_credentials("ours", "password");
        let generation = Generation {
            local_ufrag: "theirs".into(),
            remote_ufrag: "ours".into(),
            remote_password: "password".into(),
        };
        stun::request(&generation, true, nominates, 1).unwrap().1
    }

    #[tokio::test]
    async fn a_nomination_counts_again_once_its_pair_is_proven() {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (near, far, other) = (bind(), bind(), bind());
        let to = near.local_addr().unwrap();
        let sender = near.try_clone().unwrap();
        let plain = TokioRuntime.wrap_udp_socket(near).unwrap();
        let path = Arc::new(DirectPath::default());
        let socket = SteeredSocket::new(&plain, sender, plain.clone(), path.clone()).unwrap();
        path.described();
        let nomination = signed_check(&path, true);
        let answer = stun::success([7; 12], to, "password").unwrap();
        let media = vec![128, 0, 0, 0];
        for (from, datagram, read_as) in [
            (&far, &nomination, vec![&nomination]),
            (&other, &answer, vec![&answer]),
            (&far, &answer, vec![&answer, &nomination]),
            (&far, &answer, vec![&answer]),
            (&far, &media, vec![&media]),
        ] {
            from.send_to(datagram, to).unwrap();
            for wanted in read_as {
                assert_eq!(read(&socket).await, *wanted);
            }
        }
    }

    #[tokio::test]
    async fn a_flight_that_nobody_answers_goes_again_until_data_comes() {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (near, far) = (bind(), bind());
        let (to, peer) = (near.local_addr().unwrap(), far.local_addr().unwrap());
        far.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let sender = near.try_clone().unwrap();
        let plain = TokioRuntime.wrap_udp_socket(near).unwrap();
        let path = Arc::new(DirectPath::default());
        path.described();
        path.connected();
        let socket = SteeredSocket::new(&plain, sender, plain.clone(), path.clone()).unwrap();
        let check = signed_check(&path, false);
        path.guard.check(Instant::now(), peer, &check, path.phase());
        let socket = Arc::new(socket);
        let reading = socket.clone();
        let reader = tokio::spawn(async move { read(&reading).await });
        // The reader waits before there is anything to repeat.
        tokio::task::yield_now().await;
        let flight = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
        let transmit = Transmit {
            destination: peer,
            ecn: None,
            contents: &flight,
            segment_size: None,
            src_ip: None,
        };
        poll_fn(|cx| socket.poll_send(cx, &transmit)).await.unwrap();
        let far = tokio::task::spawn_blocking(move || {
            for _ in 0..3 {
                let mut buffer = [0; 64];
                let (length, _) = far.recv_from(&mut buffer).unwrap();
                assert_eq!(buffer[..length], flight);
            }
            far.send_to(&[128, 0, 0, 0], to).unwrap();
            far
        });
        far.await.unwrap();
        assert_eq!(reader.await.unwrap(), [128, 0, 0, 0]);
        assert!(path.is_settled());
    }

    /// A record of DTLS, the first but `number`.
    fn change_cipher_spec(number: u8) -> Vec<u8> {
        vec![20, 254, 253, 0, 0, 0, 0, 0, 0, 0, number, 0, 1, 1]
    }

    #[tokio::test]
    async fn what_comes_too_early_waits_for_its_time_and_nothing_else_does() {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (near, far) = (bind(), bind());
        let to = near.local_addr().unwrap();
        let sender = near.try_clone().unwrap();
        let plain = TokioRuntime.wrap_udp_socket(near).unwrap();
        let path = Arc::new(DirectPath::default());
        let socket = SteeredSocket::new(&plain, sender, plain.clone(), path.clone()).unwrap();
        let check = signed_check(&path, false);
        let (dtls, media) = (change_cipher_spec(0), vec![128, 0, 1, 2]);
        for datagram in [&check, &dtls, &media] {
            far.send_to(datagram, to).unwrap();
        }
        assert_eq!(read(&socket).await, media);
        path.described();
        assert_eq!(read(&socket).await, check);
        path.connected();
        assert_eq!(read(&socket).await, dtls);
        for datagram in [change_cipher_spec(1), check.clone()] {
            far.send_to(&datagram, to).unwrap();
            assert_eq!(read(&socket).await, datagram);
        }
        // A restart begins with a description, so that checks are not held again; DTLS is.
        path.reset();
        for datagram in [change_cipher_spec(2), check.clone()] {
            far.send_to(&datagram, to).unwrap();
        }
        assert_eq!(read(&socket).await, check);
    }
}
