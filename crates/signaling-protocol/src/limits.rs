//! Limits that both ends respect. Those a deployment may change are defaults of the server's flags.

use std::time::Duration;

/// Largest WebSocket message in either direction, bytes. A browser's offer with audio, video and
/// a data channel is about 8 kB.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Longest display name, in Unicode scalar values.
pub const MAX_DISPLAY_NAME_CHARS: usize = 64;
/// ICE servers that a client takes from its signaling server.
pub const MAX_ICE_SERVERS: usize = 8;
/// URLs of one ICE server that a client takes.
pub const MAX_ICE_URLS: usize = 4;
/// Longest URL, user name or credential of an ICE server that a client takes, bytes. RFC 8489 §14.3
/// has user names below 509.
pub const MAX_ICE_TEXT_BYTES: usize = 512;
/// Sustained messages a second from one connection.
pub const MESSAGES_PER_SECOND: u32 = 50;
/// Messages that may arrive at once before the sustained rate counts (trickled candidates).
pub const MESSAGE_BURST: u32 = 200;
/// `join` attempts a minute from one address (IPv6: from one /64), as many at once. A hundred people
/// of one company may come in the same minute, and again after a restart of the server.
pub const JOINS_PER_MINUTE: u32 = 200;
/// `join` attempts a minute from one IPv6 /48, the largest network that is commonly given to one
/// customer (RFC 6177), as many at once.
pub const JOINS_PER_MINUTE_PER_SITE: u32 = 1000;
/// Rooms that one server holds.
pub const MAX_ROOMS: usize = 10_000;
/// Rooms that were opened from one address.
pub const MAX_ROOMS_PER_ADDRESS: usize = 300;
/// Seats that were taken from one address, those without a WebSocket included.
pub const MAX_SEATS_PER_ADDRESS: usize = 400;
/// WebSockets from one address.
pub const MAX_WEBSOCKETS_PER_ADDRESS: usize = 400;
/// Bytes of messages a second from one address, each message counted as at least 1 KiB; eight times
/// as many may come at once. A call is set up with less than 64 KiB.
pub const BYTES_PER_SECOND_PER_ADDRESS: u32 = 2 * 1024 * 1024;
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
