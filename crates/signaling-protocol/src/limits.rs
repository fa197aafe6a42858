//! Limits that both ends respect. Those a deployment may change are defaults of the server's flags.

use std::time::Duration;

/// Largest WebSocket message in either direction, bytes. A browser's offer with audio, video and
/// a data channel is about 8 kB.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Longest display name, in Unicode scalar values.
pub const MAX_DISPLAY_NAME_CHARS: usize = 64;
/// Sustained messages a second from one connection.
pub const MESSAGES_PER_SECOND: u32 = 50;
/// Messages that may arrive at once before the sustained rate counts (trickled candidates).
pub const MESSAGE_BURST: u32 = 200;
/// `join` attempts a minute from one address.
pub const JOINS_PER_MINUTE: u32 = 60;
/// Rooms that one server holds.
pub const MAX_ROOMS: usize = 10_000;
/// Peers in a room.
pub const ROOM_SEATS: usize = 2;
/// How often a client sends `ping`.
pub const PING_INTERVAL: Duration = Duration::from_secs(4);
/// Silence after which the server frees a seat, and after which a client takes its WebSocket for dead.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(12);
/// How long a seat waits for a client that left and may return. A page is loaded anew within a
/// second or two; until then nobody knows that it was closed.
pub const RETURN_LIMIT: Duration = Duration::from_secs(5);
/// How many may knock at one room at a time; others are told `room-full`.
pub const MAX_KNOCKS: usize = 4;
/// How long a knock waits for its answer.
pub const KNOCK_LIMIT: Duration = Duration::from_secs(60);
/// Knocks at one room from one address: so many at once, and then one each [`KNOCK_INTERVAL`]. A
/// refusal uses all of them up.
pub const KNOCK_BURST: u32 = 3;
/// See [`KNOCK_BURST`].
pub const KNOCK_INTERVAL: Duration = Duration::from_secs(30);
/// Time that a connection may stay without a `join`.
pub const JOIN_DEADLINE: Duration = Duration::from_secs(10);
/// Messages kept for a peer whose WebSocket is gone; the oldest is dropped beyond that.
pub const BACKLOG_MESSAGES: usize = 256;
/// Bytes kept for such a peer; the oldest message is dropped beyond that.
pub const BACKLOG_BYTES: usize = 512 * 1024;
