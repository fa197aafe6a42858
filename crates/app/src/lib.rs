//! The Visavis desktop application: lobby, call, debug panel.
//!
//! The window's thread runs everything in this crate. It sends commands to the engine, reads one
//! snapshot and takes the newest pictures; it never waits and never sees a peer connection.

mod app;
mod backend;
mod call_view;
mod cli;
mod debug;
mod devices;
mod ended;
mod format;
mod knock_card;
mod lobby;
mod proof_card;
mod room_entry;
mod screens;
mod server_settings;
mod settings;
mod settings_file;
mod theme;
mod video;
mod view;
mod waiting;
mod widgets;

#[cfg(test)]
mod tests;

pub use app::run;
