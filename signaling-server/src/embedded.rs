//! A server inside another program, on a thread and a runtime of its own.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::{Server, ServerConfig, ServerError};

/// A running server. Dropping it tells its clients, closes and waits for the end, at most two
/// seconds.
#[derive(Debug)]
pub struct EmbeddedServer {
    address: SocketAddr,
    url: String,
    fingerprint: Option<String>,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedServer {
    /// Starts one. Returns once it accepts connections; never waits for the network.
    pub fn start(config: ServerConfig) -> Result<Self, ServerError> {
        let server = Server::bind(config)?;
        let address = server.address();
        let url = server.urls().into_iter().next().unwrap_or_default();
        let fingerprint = server.fingerprint().map(str::to_owned);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (shutdown, asked) = oneshot::channel();
        let thread =
            std::thread::Builder::new().name("signaling-server".into()).spawn(move || {
                let asked = async {
                    // An error is a dropped sender, which asks as well.
                    let _ = asked.await;
                };
                if let Err(error) = runtime.block_on(server.run(asked)) {
                    tracing::error!(%error, "the embedded signaling server ended");
                }
            })?;
        Ok(Self { address, url, fingerprint, shutdown: Some(shutdown), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its page on this machine, such as `http://127.0.0.1:8080`.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// SHA-256 of its certificate, `AA:BB:…`, if it serves TLS.
    pub fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }
}

impl Drop for EmbeddedServer {
    fn drop(&mut self) {
        drop(self.shutdown.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}
