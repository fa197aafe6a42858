//! `/metrics` in the Prometheus text format.

use std::fmt::{Display, Write as _};

use crate::gate::Gate;
use crate::hub::Hub;
use crate::relay::Relay;
use crate::rooms::Rooms;

/// Content type of the format, version 0.0.4.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The figures written so far. Writing to a string cannot fail.
#[derive(Default)]
pub(crate) struct Figures {
    text: String,
}

impl Figures {
    /// What goes up and down.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "gauge", help);
        let _ = writeln!(self.text, "{PREFIX}{name} {value}");
    }

    /// What only goes up.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        let _ = writeln!(self.text, "{PREFIX}{name} {value}");
    }

    /// One counter for each value of a label.
    pub(crate) fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (impl Display, u64)>,
    ) {
        self.head(name, "counter", help);
        for (value, count) in values {
            let _ = writeln!(self.text, "{PREFIX}{name}{{{label}=\"{value}\"}} {count}");
        }
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.text, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n");
    }
}

const PREFIX: &str = "visavis_signaling_";

/// All figures of the rooms, of connections and of the relay.
pub(crate) fn text(hub: &Hub, gate: &Gate, relay: Option<&Relay>) -> String {
    let mut figures = Figures::default();
    hub.with_rooms(|rooms| write_rooms(&mut figures, rooms));
    let (kept, gave_way) = hub.kept();
    figures.gauge("kept_bytes", "Bytes kept for clients.", kept as u64);
    figures.counter(
        "gave_way_total",
        "Backlogs and slow WebSockets dropped for want of memory.",
        gave_way,
    );
    figures.gauge("tcp_connections", "Open TCP connections.", gate.open() as u64);
    figures.counter("tcp_refused_total", "TCP connections refused.", gate.refused());
    if let Some(relay) = relay {
        relay.write_figures(&mut figures);
    }
    figures.text
}

fn write_rooms(figures: &mut Figures, rooms: &Rooms) {
    let counters = rooms.counters();
    figures.gauge("rooms", "Rooms with somebody in them.", rooms.room_count() as u64);
    figures.gauge("seats", "Taken seats.", rooms.seat_count() as u64);
    figures.gauge("connections", "Open WebSockets.", rooms.connection_count() as u64);
    figures.counter("connections_total", "WebSockets opened.", counters.connections);
    figures.counter("joins_total", "Seats taken anew.", counters.joins);
    figures.counter("resumes_total", "Seats taken back.", counters.resumes);
    figures.counter("messages_total", "Messages received.", counters.messages_received);
    figures.counter("received_bytes_total", "Bytes of messages.", counters.bytes_received);
    figures.counter("relayed_signals_total", "Signals passed on.", counters.signals_relayed);
    let errors = counters.errors.iter().map(|(code, count)| (code, *count));
    figures.counters("errors_total", "Errors answered.", "code", errors);
}
