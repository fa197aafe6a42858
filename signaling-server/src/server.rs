//! Listening, routes and the orderly end. Runs on the caller's tokio runtime.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::time::{MissedTickBehavior, interval, timeout};
use visavis_signaling_protocol::IceServer;

use crate::hub::{self, Hub, TICK};
use crate::ice::TurnSecret;
use crate::limits::Limits;
use crate::relay::{self, BeforeTls, InsideTls, Relay, RelayConfig};
use crate::tls::{self, Tls};
use crate::{metrics, web};

/// How one server is set up.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Addresses to try in this order; the first that is free is listened on. Port 0 is any.
    pub listen: Vec<SocketAddr>,
    /// `None`: plain HTTP, from which browsers give camera and microphone on localhost only.
    pub tls: Option<Tls>,
    /// What every peer is told.
    pub ice_servers: Vec<IceServer>,
    /// A TURN server for which every peer gets credentials of its own. In place of `relay`.
    pub turn: Option<TurnSecret>,
    /// The server's own STUN and TURN. `None`: none, as for a server that only this machine
    /// reaches.
    pub relay: Option<RelayConfig>,
    /// What is allowed.
    pub limits: Limits,
    /// Behind a reverse proxy: the client's address is the last of `X-Forwarded-For`. Without a
    /// proxy that sets it, clients could choose their address.
    pub trust_forwarded_for: bool,
    /// Origins (`https://host`) whose pages may use this server besides its own.
    pub allowed_origins: Vec<String>,
}

/// On this machine alone, port 8080 or, if that is taken, any other.
impl Default for ServerConfig {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            listen: vec![local(8080), local(0)],
            tls: None,
            ice_servers: Vec::new(),
            turn: None,
            relay: None,
            limits: Limits::default(),
            trust_forwarded_for: false,
            allowed_origins: Vec::new(),
        }
    }
}

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// No address to listen on.
    #[error("no address to listen on was given")]
    NoAddress,
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The last address tried.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The relay's UDP port is taken.
    #[error("cannot listen on UDP {address} for the relay: {source}")]
    ListenUdp {
        /// The last address tried.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificate or key is missing or wrong.
    #[error("TLS: {0}")]
    Tls(String),
    /// The runtime or its thread could not be had, or accepting failed.
    #[error("the server stopped: {0}")]
    Io(#[from] std::io::Error),
}

/// A server that listens, but does not serve yet.
pub struct Server {
    config: ServerConfig,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<tls::Loaded>,
    relay: Option<relay::Bound>,
    /// Where TURN alone is served over TCP, if not on `listener`.
    relay_listener: Option<TcpListener>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Takes the first free address of `config.listen` and reads certificates. Needs no runtime.
    pub fn bind(config: ServerConfig) -> Result<Self, ServerError> {
        let relay = config.relay.as_ref().filter(|_| config.turn.is_none());
        let mut outcome = Err(ServerError::NoAddress);
        for address in &config.listen {
            outcome = listen(*address, relay.filter(|relay| relay.listen.is_none()));
            if outcome.is_ok() {
                break;
            }
        }
        let (listener, mut bound) = outcome?;
        let mut relay_listener = None;
        if let Some((relay, address)) = relay.and_then(|relay| relay.listen.map(|at| (relay, at))) {
            let (listener, relay) = listen(address, Some(relay))?;
            (relay_listener, bound) = (Some(listener), relay);
        }
        let address = listener.local_addr()?;
        let tls = config.tls.as_ref().map(|tls| tls::load(tls, address.ip())).transpose()?;
        Ok(Self { config, listener, address, tls, relay: bound, relay_listener })
    }

    /// Where the relay listens, if there is one.
    pub fn relay_address(&self) -> Option<SocketAddr> {
        self.relay.as_ref().map(|relay| relay.address)
    }

    /// The IP addresses from which it relays, as its clients are told.
    pub fn relayed_addresses(&self) -> Vec<IpAddr> {
        let relayed = self.relay.iter().flat_map(|relay| &relay.relayed);
        relayed.map(|relayed| relayed.public).collect()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// SHA-256 of the certificate, `AA:BB:…`, if it serves TLS.
    pub fn fingerprint(&self) -> Option<&str> {
        self.tls.as_ref().map(|tls| tls.fingerprint.as_str())
    }

    /// Addresses under which the page can be opened, the nearest first.
    pub fn urls(&self) -> Vec<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let hosts = if self.address.ip().is_unspecified() {
            let mut hosts = vec!["localhost".to_owned()];
            hosts.extend(tls::machine_addresses().into_iter().map(relay::host_of));
            hosts
        } else {
            vec![relay::host_of(self.address.ip())]
        };
        hosts.iter().map(|host| format!("{scheme}://{host}:{}", self.address.port())).collect()
    }

    /// Serves until `shutdown` is ready; then tells every client, closes and returns within two
    /// seconds.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        // No `turns:` with a certificate that no client trusts for TURN.
        let turns = matches!(self.config.tls, Some(Tls::Files { .. }));
        let scheme_port = if self.tls.is_some() { 443 } else { 80 };
        let urls = self.relay.as_ref().map(|relay| relay.urls(scheme_port, turns));
        let relay = self.relay.map(Relay::start).transpose()?;
        let (hub, mut all_gone) = Hub::new(&self.config, urls);
        let ticks = tokio::spawn({
            let hub = Arc::clone(&hub);
            async move {
                let mut ticks = interval(TICK);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    hub.handle(crate::rooms::Input::Tick);
                }
            }
        });
        tracing::info!(tls = self.tls.is_some(), relay = relay.is_some(), "serving");
        let handle = axum_server::Handle::new();
        let config = Arc::new(self.config);
        let app = router(App { hub: Arc::clone(&hub), relay: relay.clone(), config });
        let tls = self.tls.map(|tls| tls.config);
        let mut serving = Box::pin({
            let page = serve(self.listener, tls.clone(), relay.clone(), handle.clone(), app);
            // Whatever is no TURN finds nothing there.
            let turn = self
                .relay_listener
                .map(|listener| serve(listener, tls, relay.clone(), handle.clone(), Router::new()));
            async move {
                match turn {
                    Some(turn) => tokio::try_join!(page, turn).map(|_| ()),
                    None => page.await,
                }
            }
        });
        let outcome = tokio::select! {
            outcome = &mut serving => outcome.map_err(ServerError::from),
            () = shutdown => {
                tracing::info!("going down");
                hub.shut_down();
                let _ = timeout(GOODBYE_LIMIT, all_gone.recv()).await;
                handle.shutdown();
                let _ = timeout(CLOSE_LIMIT, serving).await;
                Ok(())
            }
        };
        ticks.abort();
        if let Some(relay) = relay {
            relay.close();
        }
        outcome
    }
}

/// Listens for TCP and, with a relay, on the same port for UDP.
fn listen(
    address: SocketAddr,
    relay: Option<&RelayConfig>,
) -> Result<(TcpListener, Option<relay::Bound>), ServerError> {
    let mut attempts = 0;
    loop {
        let listener =
            TcpListener::bind(address).map_err(|source| ServerError::Listen { address, source })?;
        listener.set_nonblocking(true)?;
        let own = listener.local_addr()?;
        match relay.map(|relay| relay::Bound::new(relay.clone(), own)).transpose() {
            Ok(relay) => return Ok((listener, relay)),
            // Any port will do, and this one is taken for UDP.
            Err(_) if address.port() == 0 && attempts < PORT_ATTEMPTS => attempts += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Serves HTTP and, on the same port, the relay's TCP and TLS.
async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    relay: Option<Arc<Relay>>,
    handle: axum_server::Handle<SocketAddr>,
    app: Router,
) -> std::io::Result<()> {
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let before = BeforeTls { relay: relay.clone() };
    let server = axum_server::from_tcp(listener)?.handle(handle);
    match tls {
        None => prepare(server.acceptor(before)).serve(app).await,
        Some(config) => {
            let tls = RustlsAcceptor::new(RustlsConfig::from_config(config)).acceptor(before);
            prepare(server.acceptor(InsideTls { tls, relay })).serve(app).await
        }
    }
}

/// HTTP/1.1 only, for that is what WebSockets are upgraded from, and no waiting for slow headers.
fn prepare<A>(
    mut server: axum_server::Server<SocketAddr, A>,
) -> axum_server::Server<SocketAddr, A> {
    // Not the server's own `http1_only`, with which it forbids upgrades.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
    *server.http_builder() = builder;
    server
}

#[derive(Clone)]
struct App {
    hub: Arc<Hub>,
    relay: Option<Arc<Relay>>,
    config: Arc<ServerConfig>,
}

fn router(app: App) -> Router {
    Router::new()
        .route("/ws", any(websocket))
        .route("/healthz", get(async || "ok\n"))
        .route("/metrics", get(figures))
        .route("/", get(web::page))
        .route("/r/", get(web::page))
        .route("/r/{*code}", get(web::page))
        .route("/{*path}", get(web::asset))
        .with_state(app)
}

async fn figures(State(app): State<App>) -> Response {
    let text = app.hub.with_rooms(|rooms| metrics::text(rooms, app.relay.as_deref()));
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

async fn websocket(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if !web::origin_allowed(&headers, &app.config.allowed_origins) {
        return (StatusCode::FORBIDDEN, "pages of another origin may not use this server\n")
            .into_response();
    }
    let forwarded = if app.config.trust_forwarded_for { forwarded_for(&headers) } else { None };
    let Some(connection) = app.hub.open(forwarded.unwrap_or(peer.ip()), web::host(&headers)) else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many connections\n").into_response();
    };
    let limit = app.config.limits.message_bytes;
    upgrade
        // Both: a message may come in many frames. Refused by the header, before it is buffered.
        .max_message_size(limit)
        .max_frame_size(limit)
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .on_upgrade(move |socket| hub::serve(connection, socket))
}

/// The address that the nearest proxy saw.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?;
    last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// Ports tried until one is free for both TCP and UDP.
const PORT_ATTEMPTS: u32 = 16;
/// Time for every client to hear that the server goes down.
const GOODBYE_LIMIT: Duration = Duration::from_millis(1500);
/// Time for what is left of HTTP after that.
const CLOSE_LIMIT: Duration = Duration::from_millis(300);
/// Time for a request's headers to arrive.
const HEADER_LIMIT: Duration = Duration::from_secs(10);
/// A WebSocket's buffers, bytes; most messages are candidates of 200 bytes.
const BUFFER_BYTES: usize = 4 * 1024;
