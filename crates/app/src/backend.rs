//! The engine and the embedded server, started on threads of their own so that the window is on
//! screen first. All methods are for the UI thread and return at once.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use visavis_engine::{CallSnapshot, Command, Engine, EngineConfig, Event};
use visavis_signaling::{EmbeddedServer, ServerConfig};

use crate::view::ServerStatus;

/// Where the server inside listens unless `--listen` says so; if the port is taken, any free one.
const DEFAULT_PORT: u16 = 8080;
/// Commands kept while the engine starts; more are refused.
const MAX_QUEUED: usize = 64;

/// Something that is being made on another thread.
enum Pending<T> {
    Starting(Receiver<Result<T, String>>),
    Ready(T),
    Failed(String),
}

impl<T: Send + 'static> Pending<T> {
    fn start(
        name: &str,
        ctx: &egui::Context,
        make: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Self {
        // One result, one place: the send never waits.
        let (sender, receiver) = sync_channel(1);
        let ctx = ctx.clone();
        let spawned = std::thread::Builder::new().name(name.into()).spawn(move || {
            let _ = sender.send(make());
            ctx.request_repaint();
        });
        match spawned {
            Ok(_) => Self::Starting(receiver),
            Err(e) => Self::Failed(e.to_string()),
        }
    }

    /// Whether it has just become ready.
    fn poll(&mut self) -> bool {
        let Self::Starting(receiver) = self else { return false };
        match receiver.try_recv() {
            Ok(Ok(made)) => {
                *self = Self::Ready(made);
                true
            }
            Ok(Err(why)) => {
                *self = Self::Failed(why);
                false
            }
            Err(TryRecvError::Empty) => false,
            Err(TryRecvError::Disconnected) => {
                *self = Self::Failed("its thread ended early".into());
                false
            }
        }
    }
}

/// Engine and server, in whatever state they are.
pub(crate) struct Backend {
    engine: Pending<Engine>,
    queued: VecDeque<Command>,
    server: Pending<EmbeddedServer>,
    listen: Option<SocketAddr>,
    open_to_network: bool,
    status: ServerStatus,
    idle: Arc<CallSnapshot>,
}

impl Backend {
    /// Begins to start both. `listen` is the flag; without it the port is chosen, on this
    /// computer only unless `open_to_network`.
    pub(crate) fn start(
        ctx: &egui::Context,
        config: EngineConfig,
        listen: Option<SocketAddr>,
        open_to_network: bool,
    ) -> Self {
        let engine = Pending::start("engine start", ctx, move || {
            Engine::start(config).map_err(|e| e.to_string())
        });
        let server = start_server(ctx, listen, open_to_network);
        Self {
            engine,
            queued: VecDeque::new(),
            server,
            listen,
            open_to_network,
            status: ServerStatus::Starting,
            idle: Arc::default(),
        }
    }

    /// Starts the server anew, on the network or on this computer only.
    pub(crate) fn restart_server(&mut self, ctx: &egui::Context, open_to_network: bool) {
        self.open_to_network = open_to_network;
        self.listen = None;
        self.status = ServerStatus::Starting;
        let old = std::mem::replace(&mut self.server, Pending::Failed(String::new()));
        let address = None;
        self.server = Pending::start("server restart", ctx, move || {
            // The old one frees its port first; this thread may wait for that.
            drop(old);
            start_listening(address, open_to_network)
        });
    }

    /// Takes over what has become ready; the engine, if it has just now.
    pub(crate) fn poll(&mut self) -> Option<&Engine> {
        if self.server.poll() || matches!(self.server, Pending::Failed(_)) {
            self.status = self.read_status();
        }
        if !self.engine.poll() {
            return None;
        }
        let Pending::Ready(engine) = &self.engine else { return None };
        for command in self.queued.drain(..) {
            if !engine.send(command) {
                tracing::warn!("the engine refused a command at its start");
            }
        }
        Some(engine)
    }

    /// Passes a command on; `false` if the engine is too busy or did not start.
    pub(crate) fn send(&mut self, command: Command) -> bool {
        match &self.engine {
            Pending::Ready(engine) => engine.send(command),
            Pending::Starting(_) if self.queued.len() < MAX_QUEUED => {
                self.queued.push_back(command);
                true
            }
            _ => false,
        }
    }

    /// The newest snapshot; an empty one while the engine starts.
    pub(crate) fn snapshot(&self) -> Arc<CallSnapshot> {
        match &self.engine {
            Pending::Ready(engine) => engine.snapshot(),
            _ => Arc::clone(&self.idle),
        }
    }

    /// The next unread event.
    pub(crate) fn poll_event(&self) -> Option<Event> {
        match &self.engine {
            Pending::Ready(engine) => engine.poll_event(),
            _ => None,
        }
    }

    /// A sentence if there is no engine.
    pub(crate) fn engine_problem(&self) -> Option<String> {
        match &self.engine {
            Pending::Failed(why) => Some(format!(
                "Calls are not possible: {why}. Close other programs and start Visavis again."
            )),
            _ => None,
        }
    }

    /// How the server inside is.
    pub(crate) fn server_status(&self) -> &ServerStatus {
        &self.status
    }

    fn read_status(&self) -> ServerStatus {
        match &self.server {
            Pending::Starting(_) => ServerStatus::Starting,
            Pending::Failed(why) => ServerStatus::Failed(format!(
                "The server inside this program did not start: {why}. Enter another server's address."
            )),
            Pending::Ready(server) => {
                let open = match self.listen {
                    Some(listen) => !listen.ip().is_loopback(),
                    None => self.open_to_network,
                };
                ServerStatus::Running {
                    url: public_url(&server.url(), open),
                    open_to_network: open,
                }
            }
        }
    }
}

fn start_server(
    ctx: &egui::Context,
    listen: Option<SocketAddr>,
    open_to_network: bool,
) -> Pending<EmbeddedServer> {
    Pending::start("server start", ctx, move || start_listening(listen, open_to_network))
}

fn start_listening(
    listen: Option<SocketAddr>,
    open_to_network: bool,
) -> Result<EmbeddedServer, String> {
    let host = if open_to_network { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
    let listen = match listen {
        Some(address) => vec![address],
        None => [DEFAULT_PORT, 0].map(|port| SocketAddr::new(host.into(), port)).to_vec(),
    };
    EmbeddedServer::start(ServerConfig { listen, ..ServerConfig::default() })
        .map_err(|e| e.to_string())
}

/// `url` with this computer's address on the network in place of one that only works here.
fn public_url(url: &str, open: bool) -> String {
    let only_here = ["//127.0.0.1", "//0.0.0.0", "//localhost", "//[::]"];
    match (open, lan_address()) {
        (true, Some(ip)) => only_here
            .iter()
            .find(|host| url.contains(**host))
            .map_or_else(|| url.to_owned(), |host| url.replace(host, &format!("//{ip}"))),
        _ => url.to_owned(),
    }
}

/// The address from which this computer would reach others. Connecting a UDP socket only looks up
/// the route; nothing is sent (the destination is RFC 5737's documentation network).
fn lan_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}
