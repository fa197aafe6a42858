//! A small TURN client over UDP, TCP or TLS. Everything has a deadline.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use turn_types::AddressFamily;
use turn_types::attribute::{
    ChannelNumber, RequestedAddressFamily, RequestedTransport, XorPeerAddress, XorRelayedAddress,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND};
use turn_types::stun::attribute::{AttributeWrite, ErrorCode, Nonce, Realm, Username};
use turn_types::stun::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageWriteVec, Method, TransactionId,
};
use turn_types::stun::prelude::{MessageWrite, MessageWriteExt};

use super::DEADLINE;

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub enum Way {
    Udp(UdpSocket),
    Stream(Box<dyn Stream>, Vec<u8>),
}

pub struct Turn {
    pub way: Way,
    pub user: String,
    pub password: String,
    challenge: Option<(String, String)>,
}

/// Code and reason of a refusal.
pub type Refused = (u16, String);

impl Turn {
    pub fn new(way: Way, user: &str, password: &str) -> Self {
        Self { way, user: user.into(), password: password.into(), challenge: None }
    }

    pub async fn udp(relay: SocketAddr, ice: &Value) -> Self {
        let own = if relay.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = UdpSocket::bind(own).await.unwrap();
        socket.connect(relay).await.unwrap();
        Self::with(Way::Udp(socket), ice)
    }

    pub async fn tcp(relay: SocketAddr, ice: &Value) -> Self {
        Self::stream(TcpStream::connect(relay).await.unwrap(), ice)
    }

    pub fn stream(stream: impl Stream + 'static, ice: &Value) -> Self {
        Self::with(Way::Stream(Box::new(stream), Vec::new()), ice)
    }

    /// With the credentials of `iceServers`.
    fn with(way: Way, ice: &Value) -> Self {
        let text = |name: &str| ice[1][name].as_str().unwrap().to_owned();
        Self::new(way, &text("username"), &text("credential"))
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        match &mut self.way {
            Way::Udp(socket) => {
                socket.send(bytes).await.unwrap();
            }
            Way::Stream(stream, _) => {
                stream.write_all(bytes).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    }

    /// One message, without the padding of ChannelData; `None` at the end of a stream.
    pub async fn receive(&mut self) -> Option<Vec<u8>> {
        timeout(DEADLINE, self.receive_at_leisure()).await.expect("nothing came")
    }

    async fn receive_at_leisure(&mut self) -> Option<Vec<u8>> {
        match &mut self.way {
            Way::Udp(socket) => {
                let mut buffer = vec![0; 65536];
                let bytes = socket.recv(&mut buffer).await.unwrap();
                buffer.truncate(bytes);
                Some(buffer)
            }
            Way::Stream(stream, buffer) => loop {
                if let Some([first, _, high, low]) = buffer.first_chunk() {
                    let length = usize::from(u16::from_be_bytes([*high, *low]));
                    let bytes = length + if *first < 0x40 { 20 } else { 4 };
                    if buffer.len() >= bytes.next_multiple_of(4) {
                        let mut message: Vec<_> =
                            buffer.drain(..bytes.next_multiple_of(4)).collect();
                        message.truncate(bytes);
                        return Some(message);
                    }
                }
                if stream.read_buf(buffer).await.ok()? == 0 {
                    return None;
                }
            },
        }
    }

    /// Asks, authenticated as the server's challenge wants it; the granting answer.
    pub async fn ask(
        &mut self,
        method: Method,
        attributes: impl Fn(TransactionId) -> Vec<Box<dyn AttributeWrite>>,
    ) -> Result<Vec<u8>, Refused> {
        loop {
            let mut message = Message::builder_request(method, MessageWriteVec::new());
            for attribute in attributes(message.transaction_id()) {
                message.add_attribute(&*attribute).unwrap();
            }
            if let Some((realm, nonce)) = &self.challenge {
                message.add_attribute(&Username::new(&self.user).unwrap()).unwrap();
                message.add_attribute(&Realm::new(realm).unwrap()).unwrap();
                message.add_attribute(&Nonce::new(nonce).unwrap()).unwrap();
                let (user, password) = (self.user.clone(), self.password.clone());
                let key = LongTermKeyCredentials::new(user, password, realm.clone());
                message.add_message_integrity(&key.into(), IntegrityAlgorithm::Sha1).unwrap();
            }
            self.send(&message.finish()).await;
            let bytes = self.receive().await.expect("the stream is open");
            let answer = Message::from_bytes(&bytes).unwrap();
            let Ok(error) = answer.attribute::<ErrorCode>() else { return Ok(bytes) };
            let refused = (error.code(), error.reason().to_owned());
            if self.challenge.is_some() {
                return Err(refused);
            }
            assert_eq!(refused.0, 401);
            self.challenge = Some((
                answer.attribute::<Realm>().unwrap().realm().to_owned(),
                answer.attribute::<Nonce>().unwrap().nonce().to_owned(),
            ));
        }
    }

    /// The relayed address.
    pub async fn allocate(&mut self, v6: bool) -> Result<SocketAddr, Refused> {
        let bytes = self
            .ask(ALLOCATE, |_| {
                let mut attributes: Vec<Box<dyn AttributeWrite>> =
                    vec![Box::new(RequestedTransport::new(RequestedTransport::UDP))];
                if v6 {
                    attributes.push(Box::new(RequestedAddressFamily::new(AddressFamily::IPV6)));
                }
                attributes
            })
            .await?;
        let answer = Message::from_bytes(&bytes).unwrap();
        let relayed = answer.attribute::<XorRelayedAddress>().unwrap();
        Ok(relayed.addr(answer.transaction_id()))
    }

    pub async fn bind(&mut self, number: u16, peer: SocketAddr) -> Result<(), Refused> {
        self.ask(CHANNEL_BIND, |id| {
            vec![Box::new(ChannelNumber::new(number)), Box::new(XorPeerAddress::new(peer, id))]
        })
        .await
        .map(drop)
    }

    pub async fn send_on(&mut self, number: u16, data: &[u8]) {
        let bytes = channel_data(number, data, matches!(self.way, Way::Stream(..)));
        self.send(&bytes).await;
    }
}

pub fn channel_data(number: u16, data: &[u8], padded: bool) -> Vec<u8> {
    let mut bytes = [&number.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat();
    if padded {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}
