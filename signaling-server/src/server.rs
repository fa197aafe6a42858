//! Listening, routes and the orderly end. Runs on the caller's tokio runtime.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::time::{MissedTickBehavior, interval, timeout};
use visavis_signaling_protocol::IceServer;

use crate::gate::{AcceptInTime, Gate, TOO_MANY, TOO_MANY_OF_ADDRESS};
use crate::hub::{self, Hub, TICK};
use crate::ice::TurnSecret;
use crate::limits::{Full, Limits};
use crate::proxy::{TrustedProxy, client_address};
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
    /// Reverse proxies that are believed about where a request came to them from.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Where `/metrics` is served.
    pub metrics: MetricsAt,
    /// Whether browsers are told to come by https alone, if there is a certificate from files. They
    /// then do so for the host name whatever the port, and let nobody click a warning away.
    pub hsts: bool,
    /// Origins (`https://host`) whose pages may use this server besides its own.
    pub allowed_origins: Vec<String>,
}

/// Where `/metrics` is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsAt {
    /// Nowhere.
    Nowhere,
    /// By plain HTTP at an address of its own.
    Address(SocketAddr),
    /// Where the page is, for whoever reaches that.
    Page,
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
            trusted_proxies: Vec::new(),
            metrics: MetricsAt::Nowhere,
            hsts: true,
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
    /// The address for `/metrics` is taken or not this machine's.
    #[error("cannot listen on {address} for /metrics: {source}")]
    ListenMetrics {
        /// The address.
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
    metrics_listener: Option<TcpListener>,
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
        let metrics_listener = match config.metrics {
            MetricsAt::Address(address) => Some(listen_for_metrics(address)?),
            MetricsAt::Nowhere | MetricsAt::Page => None,
        };
        let address = listener.local_addr()?;
        let tls = config.tls.as_ref().map(|tls| tls::load(tls, address.ip())).transpose()?;
        let relay = bound;
        Ok(Self { config, listener, address, tls, relay, relay_listener, metrics_listener })
    }

    /// Where `/metrics` is served, if that is not where the page is.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_listener.as_ref().and_then(|listener| listener.local_addr().ok())
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
        let trusted = matches!(self.config.tls, Some(Tls::Files { .. }));
        let scheme_port = if self.tls.is_some() { 443 } else { 80 };
        let urls = self.relay.as_ref().map(|relay| relay.urls(scheme_port, trusted));
        let relay = self.relay.map(Relay::start).transpose()?;
        let (hub, mut all_gone) = Hub::new(&self.config, urls, relay.clone());
        let limits = &self.config.limits;
        let gate = Gate::with_proxies(
            limits.tcp_connections,
            limits.tcp_connections_per_address,
            Some(limits.tcp_connections_per_second),
            self.config.trusted_proxies.clone(),
        );
        let ticks = tokio::spawn({
            let (hub, gate) = (Arc::clone(&hub), Arc::clone(&gate));
            async move {
                let mut ticks = interval(TICK);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    hub.tick();
                    gate.tick(Instant::now());
                }
            }
        });
        tracing::info!(tls = self.tls.is_some(), relay = relay.is_some(), "serving");
        let handle = axum_server::Handle::new();
        let config = Arc::new(self.config);
        // Not with a certificate of its own making: browsers would let nobody click the warning away
        // any more once such a certificate was trusted, and there is another one at the next start.
        let hsts = config.hsts && trusted;
        let app = App { hub: Arc::clone(&hub), relay: relay.clone(), gate, config, hsts };
        let tls = self.tls.map(|tls| tls.config);
        let mut serving = Box::pin({
            let page = serve(self.listener, tls.clone(), handle.clone(), &app, router(app.clone()));
            // Whatever is no TURN finds nothing there.
            let turn = self
                .relay_listener
                .map(|listener| serve(listener, tls, handle.clone(), &app, Router::new()));
            let metrics = self.metrics_listener.map(|listener| {
                let gate = Gate::new(METRICS_CONNECTIONS, METRICS_CONNECTIONS, None);
                let router = Router::new().route("/metrics", get(figures)).with_state(app.clone());
                let app = App { gate, relay: None, ..app.clone() };
                serve(listener, None, handle.clone(), &app, router)
            });
            async move { tokio::try_join!(page, if_any(turn), if_any(metrics)).map(|_| ()) }
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

/// Ready at once if there is nothing to serve.
async fn if_any(serving: Option<impl Future<Output = std::io::Result<()>>>) -> std::io::Result<()> {
    match serving {
        Some(serving) => serving.await,
        None => Ok(()),
    }
}

fn listen_for_metrics(address: SocketAddr) -> Result<TcpListener, ServerError> {
    let listener = TcpListener::bind(address)
        .map_err(|source| ServerError::ListenMetrics { address, source })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
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
        // The standard library's 128 are full when one address opens many at once, and then
        // everybody's SYNs are dropped, to come again a second later.
        socket2::SockRef::from(&listener).listen(ACCEPT_QUEUE)?;
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
fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    handle: axum_server::Handle<SocketAddr>,
    app: &App,
    router: Router,
) -> impl Future<Output = std::io::Result<()>> + use<> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let limits = &app.config.limits;
    let (head_limit, relay) = (limits.head, app.relay.clone());
    let before = BeforeTls {
        relay: relay.clone(),
        gate: Arc::clone(&app.gate),
        write_limit: limits.write,
        plain_http: tls.is_none(),
    };
    async move {
        let server = axum_server::from_tcp(listener)?.handle(handle);
        match tls {
            None => {
                let acceptor = AcceptInTime { inner: before, limit: head_limit };
                prepare(server.acceptor(acceptor), head_limit).serve(service).await
            }
            Some(config) => {
                let tls = RustlsAcceptor::new(RustlsConfig::from_config(config)).acceptor(before);
                let acceptor = AcceptInTime { inner: InsideTls { tls, relay }, limit: head_limit };
                prepare(server.acceptor(acceptor), head_limit).serve(service).await
            }
        }
    }
}

/// HTTP/1.1 only, for that is what WebSockets are upgraded from, no waiting for slow headers, and
/// no more of them than browsers and proxies send.
fn prepare<A>(
    mut server: axum_server::Server<SocketAddr, A>,
    head_limit: Duration,
) -> axum_server::Server<SocketAddr, A> {
    // Not the server's own `http1_only`, with which it forbids upgrades.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_limit)
        // Who has asked may say that it was all: it is answered all the same.
        .half_close(true)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_LINES);
    *server.http_builder() = builder;
    server
}

#[derive(Clone)]
struct App {
    hub: Arc<Hub>,
    relay: Option<Arc<Relay>>,
    gate: Arc<Gate>,
    config: Arc<ServerConfig>,
    hsts: bool,
}

fn router(app: App) -> Router {
    let mut router = Router::new();
    if app.config.metrics == MetricsAt::Page {
        router = router.route("/metrics", get(figures));
    }
    router
        .route("/ws", any(websocket))
        .route("/healthz", get(async || "ok\n"))
        .route("/", get(web::page))
        .route("/r/", get(web::page))
        .route("/r/{*code}", get(web::page))
        .route("/{*path}", get(web::asset))
        .layer(middleware::from_fn_with_state(app.clone(), around))
        .with_state(app)
}

/// What holds for every request and every answer.
async fn around(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let address = client_address(peer.ip(), request.headers(), &app.config.trusted_proxies);
    let headers = web::security_headers(request.headers());
    let mut response = if app.hub.may_request(address) {
        next.run(request).await
    } else {
        let close = [(header::CONNECTION, HeaderValue::from_static("close"))];
        (StatusCode::TOO_MANY_REQUESTS, close, TOO_MANY_OF_ADDRESS).into_response()
    };
    response.headers_mut().extend(headers);
    if app.hsts {
        let value = HeaderValue::from_static(HSTS);
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, value);
    }
    response
}

async fn figures(State(app): State<App>) -> Response {
    let text = metrics::text(&app.hub, &app.gate, app.relay.as_deref());
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
    let address = client_address(peer.ip(), &headers, &app.config.trusted_proxies);
    let connection = match app.hub.open(address, web::host(&headers)) {
        Ok(connection) => connection,
        Err(Full::Server) => return (StatusCode::SERVICE_UNAVAILABLE, TOO_MANY).into_response(),
        Err(Full::Address) => {
            return (StatusCode::TOO_MANY_REQUESTS, TOO_MANY_OF_ADDRESS).into_response();
        }
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

/// Ports tried until one is free for both TCP and UDP.
const PORT_ATTEMPTS: u32 = 16;
/// TCP connections that may wait to be accepted; the system may have a lower limit (Linux:
/// `net.core.somaxconn`, 4096).
const ACCEPT_QUEUE: i32 = 4096;
/// Time for every client to hear that the server goes down.
const GOODBYE_LIMIT: Duration = Duration::from_millis(1500);
/// Time for what is left of HTTP after that.
const CLOSE_LIMIT: Duration = Duration::from_millis(300);
/// The longest head of a request, bytes. The longest of a browser are its cookies, of which there are
/// none here.
const HEAD_BYTES: usize = 16 * 1024;
/// Lines of such a head. A browser sends some fifteen, proxies some more.
const HEAD_LINES: usize = 64;
/// Connections at once to `/metrics` at an address of its own.
const METRICS_CONNECTIONS: usize = 32;
/// Half a year (RFC 6797 §6.1.1). For this host alone, for the server does not know of others.
const HSTS: &str = "max-age=15552000";
/// A WebSocket's buffers, bytes; most messages are candidates of 200 bytes.
const BUFFER_BYTES: usize = 4 * 1024;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn connections_wait_to_be_accepted() -> Result<(), Box<dyn std::error::Error>> {
        let (listener, _) = listen((Ipv4Addr::LOCALHOST, 0).into(), None)?;
        let address = listener.local_addr()?;
        // Not accepted; a SYN that is dropped comes again after a second.
        let wait = Duration::from_millis(900);
        (0..400)
            .map(|_| TcpStream::connect_timeout(&address, wait))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(())
    }
}
