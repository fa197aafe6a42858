//! A network link for tests and benchmarks: seeded, in user space, either direction on its own.
//!
//! - [`Link`] is the model of one direction: sans-IO, on virtual time. A packet is pushed with its
//!   size and comes out later, twice, or never.
//! - `Emulator` (Linux) joins two network namespaces by TUN devices and carries every IP packet
//!   through two such links. Real programs run in the namespaces, ours or Chromium.
//!
//! A packet goes through, in this order: blackout, drop-tail queue and rate, loss, delay with
//! jitter, reordering, detour of its kind, duplication. Loss comes after the queue, as on a radio: what is lost has used
//! its share of the rate.

mod model;
mod random;
mod record;

#[cfg(target_os = "linux")]
mod classify;
#[cfg(target_os = "linux")]
mod emulator;
#[cfg(target_os = "linux")]
mod namespace;

pub use model::{Conditions, Link, Loss, Rate, Reordering, Schedule, StreamKind};
pub use record::{Bin, Flow, Record, Tag};

#[cfg(target_os = "linux")]
pub use emulator::{Direction, Emulator, FlowName, Recording};
#[cfg(target_os = "linux")]
pub(crate) use namespace::hurry;
#[cfg(target_os = "linux")]
pub use namespace::{Namespace, cannot_test, unavailable};
