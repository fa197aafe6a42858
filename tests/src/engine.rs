//! The engine itself in calls, as the window runs it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use visavis_engine::{
    AddressPolicy, CallCode, CallSnapshot, Command, Engine, EngineConfig, JoinOptions,
};

use crate::program::Server;

const LIMIT: Duration = Duration::from_secs(60);

/// Starts one and lets it join the room.
///
/// # Errors
///
/// It does not start.
pub fn enter(server: &Server, code: &CallCode, config: EngineConfig) -> anyhow::Result<Engine> {
    let engine = Engine::start(config)?;
    let join = JoinOptions {
        code: code.clone(),
        key: None,
        guesses: 0,
        server: server.url().to_owned(),
        display_name: None,
        ice_servers: Vec::new(),
        addresses: AddressPolicy::All,
    };
    anyhow::ensure!(engine.send(Command::Join(join)), "it has ended");
    Ok(engine)
}

/// Waits until the snapshot is as wanted.
///
/// # Panics
///
/// It is not within a minute; the message holds the last one.
pub fn wait(
    engine: &Engine,
    what: &str,
    wanted: impl Fn(&CallSnapshot) -> bool,
) -> Arc<CallSnapshot> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let now = engine.snapshot();
        if wanted(&now) {
            return now;
        }
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}; {now:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
