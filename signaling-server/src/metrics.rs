//! `/metrics` in the Prometheus text format.

use std::fmt::Write as _;

use crate::rooms::Rooms;

/// Content type of the format, version 0.0.4.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All figures of the rooms.
pub(crate) fn text(rooms: &Rooms) -> String {
    let counters = rooms.counters();
    let mut text = String::new();
    let mut figure = |name: &str, kind: &str, help: &str, value: u64| {
        let name = format!("visavis_signaling_{name}");
        // Writing to a string cannot fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    };
    figure("rooms", "gauge", "Rooms with somebody in them.", rooms.room_count() as u64);
    figure("seats", "gauge", "Taken seats.", rooms.seat_count() as u64);
    figure("connections", "gauge", "Open WebSockets.", rooms.connection_count() as u64);
    figure("connections_total", "counter", "WebSockets opened.", counters.connections);
    figure("joins_total", "counter", "Seats taken anew.", counters.joins);
    figure("resumes_total", "counter", "Seats taken back.", counters.resumes);
    figure("messages_total", "counter", "Messages received.", counters.messages_received);
    figure("received_bytes_total", "counter", "Bytes of messages.", counters.bytes_received);
    figure("relayed_signals_total", "counter", "Signals passed on.", counters.signals_relayed);
    let name = "visavis_signaling_errors_total";
    let _ = write!(text, "# HELP {name} Errors answered.\n# TYPE {name} counter\n");
    for (code, count) in &counters.errors {
        let _ = writeln!(text, "{name}{{code=\"{code}\"}} {count}");
    }
    text
}
