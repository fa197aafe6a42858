//! The views without engine, server or window: hand-made snapshots in, labels and actions out.
#![allow(clippy::unwrap_used)]

pub(crate) mod snapshots;
mod views;
