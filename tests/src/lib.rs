//! What the end-to-end tests share: programs of this workspace, browsers, devices, screens.
//!
//! The tests start the real binaries, which `./dev test` has built beside them.

#[cfg(target_os = "linux")]
pub mod attack;
pub mod bars;
pub mod browser;
pub mod document;
pub mod engine;
pub mod link;
pub mod mitm;
#[cfg(target_os = "linux")]
pub mod nat;
#[cfg(target_os = "linux")]
pub mod network;
pub mod program;
pub mod proxy;
pub mod pulse;
pub mod screen;
pub mod sound;
pub mod trace;
pub mod vm;
