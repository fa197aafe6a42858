//! Where log and trace go: the log to standard error by `RUST_LOG`, what follows the media
//! ([`visavis_engine::TRACE`]) to a file of JSON lines, if one is wanted.

use std::fs::File;
use std::io::{LineWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Starts both. Call once.
///
/// # Errors
///
/// The file cannot be made.
pub(crate) fn init(trace: Option<&Path>) -> std::io::Result<()> {
    let words = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new("error,pulseaudio=off,rtc=off,rtc_dtls=off,rtc_ice=off,webrtc::peer_connection::transport=off")
    });
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(words);
    let trace = trace.map(File::create).transpose()?.map(|file| {
        let only = Targets::new().with_target(visavis_engine::TRACE, LevelFilter::TRACE);
        JsonLines(Mutex::new(LineWriter::new(file))).with_filter(only)
    });
    tracing_subscriber::registry().with(log).with(trace).init();
    Ok(())
}

/// `{"event": MESSAGE, "unix_ms": …, FIELD: …}` for each event.
struct JsonLines(Mutex<LineWriter<File>>);

impl<S: Subscriber> Layer<S> for JsonLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut fields = Fields(Map::new());
        fields.0.insert("unix_ms".into(), json!(now.as_secs_f64() * 1e3));
        event.record(&mut fields);
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk ends the trace, not the call.
        let _ = writeln!(file, "{}", Value::Object(fields.0));
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let name = if field.name() == "message" { "event" } else { field.name() };
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, json!(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, json!(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, json!(format!("{value:?}")));
    }
}
