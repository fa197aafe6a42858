//! Streams beneath the stack's UDP sockets: to relays over TCP and TLS, and to candidates over TCP.

mod lane;
mod socket;

#[cfg(any(test, fuzzing))]
pub(crate) use lane::cut;
pub(crate) use socket::StreamSocket;
