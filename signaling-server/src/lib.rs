//! The Visavis signaling server: introduces two people who enter the same room code, and serves
//! the browser client. Its relay passes on what the two cannot send each other directly; it sees
//! audio, video and data only encrypted end to end.
//!
//! `docs/protocol.md` specifies what is spoken at `/ws`. [`Server`] is for programs with a tokio
//! runtime; [`EmbeddedServer`] brings its own thread.

mod embedded;
mod gate;
mod hub;
mod ice;
mod limits;
mod metrics;
mod proxy;
mod relay;
mod rooms;
mod server;
mod tls;
mod web;

pub use embedded::EmbeddedServer;
pub use ice::{TurnSecret, parse_ice_server, parse_turn_url};
pub use limits::{Limits, MESSAGE_COST_BYTES};
pub use proxy::TrustedProxy;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use relay::fuzzing;
pub use relay::{RelayConfig, RelayLimits};
pub use server::{MetricsAt, Server, ServerConfig, ServerError};
pub use tls::{Tls, machine_addresses};
