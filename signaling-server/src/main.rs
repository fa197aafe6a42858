//! The signaling server as a program.

use std::io::{IsTerminal, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;
use visavis_signaling::{
    Limits, MetricsAt, RelayConfig, RelayLimits, Server, ServerConfig, ServerError, Tls,
    TrustedProxy, TurnSecret, parse_ice_server, parse_turn_url,
};
use visavis_signaling_protocol::{IceServer, limits};

/// Introduces two people who enter the same room code, and serves the browser client.
#[derive(Debug, Parser)]
#[command(name = "visavis-signaling", version)]
struct Args {
    /// Address to listen on; 0.0.0.0:8443 makes it reachable from other machines, which need TLS
    /// for camera and microphone.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// PEM file with the certificate chain, the own certificate first.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the private key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Make a certificate for this machine's names and addresses; browsers ask once.
    #[arg(long, conflicts_with = "tls_cert")]
    tls_self_signed: bool,

    #[command(flatten)]
    relay: RelayArgs,

    /// STUN or TURN server to tell every peer of. Repeatable.
    #[arg(long, value_name = "URL[,USER,CREDENTIAL]", value_parser = parse_ice_server)]
    ice_server: Vec<IceServer>,
    /// TURN URL for which every peer gets time-limited credentials; in place of the own relay.
    /// Repeatable.
    #[arg(long, value_name = "URL", value_parser = parse_turn_url)]
    turn_url: Vec<String>,
    /// The secret shared with that TURN server (coturn: static-auth-secret).
    #[arg(long, value_name = "SECRET")]
    turn_secret: Option<String>,
    /// The same from a file, which keeps it out of the list of processes.
    #[arg(long, value_name = "FILE", conflicts_with = "turn_secret")]
    turn_secret_file: Option<PathBuf>,
    /// How long TURN credentials live, seconds. Those for the own relay end with their seat anyway
    /// [default: 21600 with --turn-url, 86400 for the own relay].
    #[arg(long, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(60..=31_536_000))]
    turn_lifetime: Option<u64>,

    #[command(flatten)]
    shares: ShareArgs,

    /// Rooms in all.
    #[arg(long, value_name = "COUNT", default_value_t = limits::MAX_ROOMS as u64,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    max_rooms: u64,
    /// WebSockets in all.
    #[arg(long, value_name = "COUNT", default_value_t = 3 * limits::MAX_ROOMS as u64,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    max_connections: u64,
    /// TCP connections in all, whatever they are for. No more than three quarters of the files that
    /// the process may open.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().tcp_connections as u64,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    max_tcp_connections: u64,
    /// Bytes of messages kept for all clients that are away or slow; beyond it the largest backlogs
    /// give way.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().kept_bytes as u64,
          value_parser = clap::value_parser!(u64).range(1_048_576..))]
    max_kept_bytes: u64,
    /// Sustained messages a second from one connection; four times as many may come at once.
    #[arg(long, value_name = "COUNT", default_value_t = limits::MESSAGES_PER_SECOND,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    messages_per_second: u32,
    /// Largest message, bytes.
    #[arg(long, value_name = "BYTES", default_value_t = limits::MAX_MESSAGE_BYTES as u64,
          value_parser = clap::value_parser!(u64).range(1024..=196_608))]
    max_message_bytes: u64,
    /// Silence after which a seat is freed, seconds; clients are heard every 4.
    #[arg(long, value_name = "SECONDS", default_value_t = limits::SILENCE_LIMIT.as_secs(),
          value_parser = clap::value_parser!(u64).range(5..=3600))]
    silence_seconds: u64,

    /// A reverse proxy, or a network of them, that is believed about where requests come from
    /// (X-Forwarded-For, or Forwarded where there is none). Repeatable.
    #[arg(long, value_name = "ADDRESS[/PREFIX]")]
    trust_proxy: Vec<TrustedProxy>,
    /// Where /metrics is served by plain HTTP: an address of its own, `page` for that of the page,
    /// or `off` [default: 127.0.0.1:9464, or off if that is taken].
    #[arg(long, value_name = "ADDRESS:PORT|page|off", value_parser = parse_metrics)]
    metrics_listen: Option<MetricsAt>,
    /// Do not tell browsers to use https alone for this host name (Strict-Transport-Security), for
    /// a name that serves plain http on other ports. Only with --tls-cert are they told.
    #[arg(long)]
    no_hsts: bool,
    /// Another origin (https://host) whose pages may use this server. Repeatable.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
}

/// What one address (IPv6: one /64) may have.
#[derive(Debug, clap::Args)]
struct ShareArgs {
    /// Joins a minute from one address. Resuming a seat is none.
    #[arg(long, value_name = "COUNT", default_value_t = limits::JOINS_PER_MINUTE,
          value_parser = clap::value_parser!(u32).range(1..))]
    max_joins_per_minute: u32,
    /// Joins a minute from one IPv6 /48.
    #[arg(long, value_name = "COUNT", default_value_t = limits::JOINS_PER_MINUTE_PER_SITE,
          value_parser = clap::value_parser!(u32).range(1..))]
    max_joins_per_minute_per_site: u32,
    /// Rooms opened from one address.
    #[arg(long, value_name = "COUNT", default_value_t = limits::MAX_ROOMS_PER_ADDRESS as u64,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    max_rooms_per_address: u64,
    /// Seats taken from one address.
    #[arg(long, value_name = "COUNT", default_value_t = limits::MAX_SEATS_PER_ADDRESS as u64,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    max_seats_per_address: u64,
    /// WebSockets from one address.
    #[arg(long, value_name = "COUNT", default_value_t = limits::MAX_WEBSOCKETS_PER_ADDRESS as u64,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    max_connections_per_address: u64,
    /// TCP connections from one address, whatever they are for.
    #[arg(long, value_name = "COUNT",
          default_value_t = Limits::default().tcp_connections_per_address as u64,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    max_tcp_connections_per_address: u64,
    /// New TCP connections a second from one address; twenty times as many may come at once.
    #[arg(long, value_name = "COUNT",
          default_value_t = Limits::default().tcp_connections_per_second,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tcp_connections_per_second: u32,
    /// HTTP requests a second from one address; twenty times as many may come at once.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().requests_per_second,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests_per_second: u32,
    /// Bytes of messages a second from one address, each message counted as at least 1024; eight
    /// times as many may come at once.
    #[arg(long, value_name = "BYTES", default_value_t = limits::BYTES_PER_SECOND_PER_ADDRESS,
          value_parser = clap::value_parser!(u32).range(65_536..))]
    message_bytes_per_second: u32,
}

/// The own relay.
#[derive(Debug, clap::Args)]
struct RelayArgs {
    /// No STUN and TURN server of its own. There is none either if only this machine or a proxy
    /// reaches the server, unless --relay-listen is given.
    #[arg(long)]
    no_relay: bool,
    /// Address of STUN and TURN over UDP, TCP and TLS [default: that of --listen].
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "no_relay")]
    relay_listen: Option<SocketAddr>,
    /// Host name in the relay's URLs [default: the one under which a client reaches the server].
    #[arg(long, value_name = "HOST", value_parser = parse_host)]
    relay_host: Option<String>,
    /// The machine's public address if it is behind 1:1 NAT. Repeatable, once for IPv4 and IPv6.
    #[arg(long, value_name = "ADDRESS")]
    relay_external_ip: Vec<IpAddr>,
    /// Ports of relayed addresses; open them for UDP in the firewall.
    #[arg(long, value_name = "FIRST-LAST", default_value = "49152-65535",
          value_parser = parse_ports)]
    relay_port_range: RangeInclusive<u16>,
    /// Relay to loopback, link-local and private addresses too: for tests, and for a network whose
    /// clients may reach everything that this machine reaches.
    #[arg(long)]
    relay_allow_private: bool,
    /// Relay allocations in all.
    #[arg(long, value_name = "COUNT", default_value_t = RelayLimits::default().allocations as u64,
          value_parser = clap::value_parser!(u64).range(1..=65_536))]
    relay_max_allocations: u64,
    /// Relay allocations of one client address (IPv6: of one /64).
    #[arg(long, value_name = "COUNT",
          default_value_t = RelayLimits::default().allocations_per_address as u64,
          value_parser = clap::value_parser!(u64).range(1..=65_536))]
    relay_max_allocations_per_address: u64,
    /// TCP and TLS connections to the relay.
    #[arg(long, value_name = "COUNT", default_value_t = RelayLimits::default().connections as u64,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    relay_max_streams: u64,
    /// TCP and TLS connections to the relay from one address.
    #[arg(long, value_name = "COUNT",
          default_value_t = RelayLimits::default().connections_per_address as u64,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    relay_max_streams_per_address: u64,
    /// STUN and TURN requests a second from one address; five times as many may come at once.
    #[arg(long, value_name = "COUNT", default_value_t = RelayLimits::default().requests_per_second,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    relay_requests_per_second: u32,
    /// Relay allocations of one peer; a browser makes one for each URL and network interface.
    #[arg(long, value_name = "COUNT", default_value_t = 24,
          value_parser = clap::value_parser!(u64).range(1..=65_536))]
    relay_max_allocations_per_user: u64,
    /// Bytes a second, each way, of one allocation.
    #[arg(long, value_name = "BYTES", default_value_t = 2_000_000,
          value_parser = clap::value_parser!(u64).range(8192..))]
    relay_bytes_per_second: u64,
}

impl RelayArgs {
    /// `behind_proxy`: the page's port is not the server's.
    fn into_config(
        self,
        listen: SocketAddr,
        behind_proxy: bool,
        lifetime: Duration,
    ) -> Option<RelayConfig> {
        let reachable = self.relay_listen.is_some() || !(listen.ip().is_loopback() || behind_proxy);
        (reachable && !self.no_relay).then(|| RelayConfig {
            listen: self.relay_listen,
            host: self.relay_host,
            external: self.relay_external_ip,
            ports: self.relay_port_range,
            allow_private: self.relay_allow_private,
            lifetime,
            limits: RelayLimits {
                allocations: self.relay_max_allocations as usize,
                allocations_per_address: self.relay_max_allocations_per_address as usize,
                allocations_per_user: self.relay_max_allocations_per_user as usize,
                requests_per_second: self.relay_requests_per_second,
                connections: self.relay_max_streams as usize,
                connections_per_address: self.relay_max_streams_per_address as usize,
                bytes_per_second: self.relay_bytes_per_second,
                ..RelayLimits::default()
            },
        })
    }
}

fn parse_host(text: &str) -> Result<String, String> {
    parse_turn_url(&format!("turn:{text}:3478")).map(|_| text.to_owned())
}

fn parse_metrics(text: &str) -> Result<MetricsAt, String> {
    match text {
        "off" => Ok(MetricsAt::Nowhere),
        "page" => Ok(MetricsAt::Page),
        address => address
            .parse()
            .map(MetricsAt::Address)
            .map_err(|_| "expected ADDRESS:PORT, `page` or `off`".to_owned()),
    }
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let range = text.split_once('-').and_then(|(first, last)| {
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (0 < first && first <= last).then_some(first..=last)
    });
    range.ok_or_else(|| "expected FIRST-LAST, such as 49152-65535".to_owned())
}

impl Args {
    fn into_config(self) -> Result<ServerConfig, String> {
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(certificate), Some(key)) => Some(Tls::Files { certificate, key }),
            _ => self.tls_self_signed.then_some(Tls::SelfSigned),
        };
        let secret = match (self.turn_secret, self.turn_secret_file) {
            (Some(secret), _) => Some(secret),
            (None, Some(file)) => Some(
                std::fs::read_to_string(&file)
                    .map_err(|error| format!("cannot read {}: {error}", file.display()))?
                    .trim_end()
                    .to_owned(),
            ),
            (None, None) => None,
        };
        let lifetime = |default| self.turn_lifetime.map_or(default, Duration::from_secs);
        let turn = match (secret, self.turn_url) {
            (Some(secret), urls) if !urls.is_empty() && !secret.is_empty() => {
                Some(TurnSecret { urls, secret, lifetime: lifetime(TurnSecret::LIFETIME) })
            }
            (Some(secret), _) if secret.is_empty() => return Err("the TURN secret is empty".into()),
            (Some(_), _) => return Err("--turn-secret needs a --turn-url".into()),
            (None, urls) if !urls.is_empty() => {
                return Err("--turn-url needs --turn-secret or --turn-secret-file".into());
            }
            (None, _) => None,
        };
        Ok(ServerConfig {
            listen: vec![self.listen],
            tls,
            ice_servers: self.ice_server,
            turn,
            relay: self.relay.into_config(
                self.listen,
                !self.trust_proxy.is_empty(),
                lifetime(RelayConfig::LIFETIME),
            ),
            limits: Limits {
                message_bytes: self.max_message_bytes as usize,
                messages_per_second: self.messages_per_second,
                message_burst: 4 * self.messages_per_second,
                joins_per_minute: self.shares.max_joins_per_minute,
                joins_per_minute_per_site: self.shares.max_joins_per_minute_per_site,
                rooms: self.max_rooms as usize,
                rooms_per_address: self.shares.max_rooms_per_address as usize,
                seats_per_address: self.shares.max_seats_per_address as usize,
                connections: self.max_connections as usize,
                websockets_per_address: self.shares.max_connections_per_address as usize,
                tcp_connections: self.max_tcp_connections as usize,
                tcp_connections_per_address: self.shares.max_tcp_connections_per_address as usize,
                tcp_connections_per_second: self.shares.tcp_connections_per_second,
                requests_per_second: self.shares.requests_per_second,
                bytes_per_second_per_address: self.shares.message_bytes_per_second,
                kept_bytes: self.max_kept_bytes as usize,
                silence: Duration::from_secs(self.silence_seconds),
                ..Limits::default()
            },
            trusted_proxies: self.trust_proxy,
            metrics: self.metrics_listen.unwrap_or(MetricsAt::Address(METRICS_ADDRESS)),
            hsts: !self.no_hsts,
            allowed_origins: self.allow_origin,
        })
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let metrics_by_default = args.metrics_listen.is_none();
    let mut config = match args.into_config() {
        Ok(config) => config,
        // Says it as clap says it, and ends with 2.
        Err(error) => {
            use clap::CommandFactory;
            Args::command().error(ErrorKind::ArgumentConflict, error).exit()
        }
    };
    // The STUN library warns of every malformed packet, which anybody can send.
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,stun_types=error,turn_types=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    if let Some(files) = raise_open_files() {
        let limits = &mut config.limits;
        limits.tcp_connections = limits.tcp_connections.min(files / 4 * 3);
        // Even where few files may be opened, one address does not get all of them.
        let share = (limits.tcp_connections / 4).max(1);
        limits.tcp_connections_per_address = limits.tcp_connections_per_address.min(share);
    }
    match run(config, metrics_by_default) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Where `/metrics` is served unless told otherwise: the port that OpenTelemetry's exporters for
/// Prometheus have.
const METRICS_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

/// Asks for as many open files as the system allows; how many there may be now.
fn raise_open_files() -> Option<usize> {
    #[cfg(unix)]
    {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
        let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
        usize::try_from(if raised { hard } else { soft }).ok()
    }
    #[cfg(not(unix))]
    None
}

fn run(mut config: ServerConfig, metrics_by_default: bool) -> Result<(), ServerError> {
    let server = match Server::bind(config.clone()) {
        // Another server on this machine has it, and nobody asked for this one.
        Err(ServerError::ListenMetrics { address, source }) if metrics_by_default => {
            tracing::warn!(%address, %source, "no /metrics: see --metrics-listen");
            config.metrics = MetricsAt::Nowhere;
            Server::bind(config)?
        }
        server => server?,
    };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        // Before the first line is printed: whoever has read it may send a signal.
        let asked = shutdown_asked()?;
        // Nobody has to read it: whoever starts the server may close its standard output.
        let _ = std::io::stdout().write_all(announcement(&server).as_bytes());
        server.run(asked).await
    })
}

/// What is printed when the server listens.
fn announcement(server: &Server) -> String {
    let mut lines = vec![format!("Visavis signaling server on {}", server.address())];
    lines.extend(server.urls().iter().map(|url| format!("  open {url}")));
    if let Some(fingerprint) = server.fingerprint() {
        lines.push(format!("  certificate SHA-256 {fingerprint}"));
    }
    if let Some(address) = server.relay_address() {
        let relayed: Vec<_> = server.relayed_addresses().iter().map(IpAddr::to_string).collect();
        lines.push(format!("  relay on {address}, UDP and TCP, from {}", relayed.join(" and ")));
    }
    if let Some(address) = server.metrics_address() {
        lines.push(format!("  metrics at http://{address}/metrics"));
    }
    lines.join("\n") + "\n"
}

/// Ready at the first SIGINT or SIGTERM (elsewhere: Ctrl-C).
fn shutdown_asked() -> std::io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "Ctrl-C cannot be heard; end the process to stop the server");
            std::future::pending::<()>().await;
        }
    })
}
