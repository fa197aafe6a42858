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
use axum_server::tls_rustls::RustlsConfig;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::time::{MissedTickBehavior, interval, timeout};
use visavis_signaling_protocol::IceServer;

use crate::hub::{self, Hub, TICK};
use crate::ice::TurnSecret;
use crate::limits::Limits;
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
    /// A TURN server for which every peer gets credentials of its own.
    pub turn: Option<TurnSecret>,
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
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Takes the first free address of `config.listen` and reads certificates. Needs no runtime.
    pub fn bind(config: ServerConfig) -> Result<Self, ServerError> {
        let mut outcome = Err(ServerError::NoAddress);
        for address in &config.listen {
            outcome = TcpListener::bind(address)
                .map_err(|source| ServerError::Listen { address: *address, source });
            if outcome.is_ok() {
                break;
            }
        }
        let listener = outcome?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let tls = config.tls.as_ref().map(|tls| tls::load(tls, address.ip())).transpose()?;
        Ok(Self { config, listener, address, tls })
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
            hosts.extend(tls::machine_addresses().into_iter().map(host_of));
            hosts
        } else {
            vec![host_of(self.address.ip())]
        };
        hosts.iter().map(|host| format!("{scheme}://{host}:{}", self.address.port())).collect()
    }

    /// Serves until `shutdown` is ready; then tells every client, closes and returns within two
    /// seconds.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let (hub, mut all_gone) = Hub::new(&self.config);
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
        tracing::info!(tls = self.tls.is_some(), "serving");
        let handle = axum_server::Handle::new();
        let app = router(App { hub: Arc::clone(&hub), config: Arc::new(self.config) })
            .into_make_service_with_connect_info::<SocketAddr>();
        let mut serving = Box::pin({
            let (handle, listener, tls) = (handle.clone(), self.listener, self.tls);
            async move {
                let server = axum_server::from_tcp(listener)?;
                match tls {
                    None => prepare(server).handle(handle).serve(app).await,
                    Some(tls) => {
                        let config = RustlsConfig::from_config(tls.config);
                        let acceptor = axum_server::tls_rustls::RustlsAcceptor::new(config);
                        prepare(server.acceptor(acceptor)).handle(handle).serve(app).await
                    }
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
        outcome
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
    let text = app.hub.with_rooms(metrics::text);
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
    let Some(connection) = app.hub.open(forwarded.unwrap_or(peer.ip())) else {
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

fn host_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// Time for every client to hear that the server goes down.
const GOODBYE_LIMIT: Duration = Duration::from_millis(1500);
/// Time for what is left of HTTP after that.
const CLOSE_LIMIT: Duration = Duration::from_millis(300);
/// Time for a request's headers to arrive.
const HEADER_LIMIT: Duration = Duration::from_secs(10);
/// A WebSocket's buffers, bytes; most messages are candidates of 200 bytes.
const BUFFER_BYTES: usize = 4 * 1024;
