//! Signaling over WebSocket with heartbeat, backoff and resume.
//!
//! [`SignalingClient::connect`] spawns one task on the caller's tokio runtime; it keeps a seat in
//! a room through lost WebSockets and restarted servers, and tells what happens by
//! [`SignalingEvent`]s. `docs/protocol.md` specifies what it speaks.

mod backoff;
mod client;
mod connect;
mod outgoing;
mod server_url;

pub use client::{ClientConfig, Farewell, SignalingClient, SignalingEvent};
pub use connect::{CertificateFingerprint, relay_tls};
pub use server_url::ServerUrl;

/// What may be wrong with what a person types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Not the address of a server.
    #[error(
        "`{0}` is not the address of a server, such as https://example.org or 192.168.1.5:8080"
    )]
    BadServerUrl(String),
    /// Not a fingerprint.
    #[error("a fingerprint is 32 bytes in hexadecimal, such as the server prints at its start")]
    BadFingerprint,
}
