//! The signaling server as a program.

use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;
use visavis_signaling::{
    Limits, RelayConfig, RelayLimits, Server, ServerConfig, ServerError, Tls, TurnSecret,
    parse_ice_server, parse_turn_url,
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
    /// How long such credentials live, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = TurnSecret::LIFETIME.as_secs(),
          value_parser = clap::value_parser!(u64).range(60..=31_536_000))]
    turn_lifetime: u64,

    /// Rooms in all.
    #[arg(long, value_name = "COUNT", default_value_t = limits::MAX_ROOMS as u64,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    max_rooms: u64,
    /// WebSockets in all.
    #[arg(long, value_name = "COUNT", default_value_t = 3 * limits::MAX_ROOMS as u64,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    max_connections: u64,
    /// Joins a minute from one address.
    #[arg(long, value_name = "COUNT", default_value_t = limits::JOINS_PER_MINUTE,
          value_parser = clap::value_parser!(u32).range(1..))]
    max_joins_per_minute: u32,
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

    /// Take clients' addresses from X-Forwarded-For. Only behind a reverse proxy that sets it.
    #[arg(long)]
    trust_forwarded_for: bool,
    /// Another origin (https://host) whose pages may use this server. Repeatable.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
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
    #[arg(long, value_name = "COUNT", default_value_t = 1000,
          value_parser = clap::value_parser!(u64).range(1..=65_536))]
    relay_max_allocations: u64,
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
                allocations_per_user: self.relay_max_allocations_per_user as usize,
                bytes_per_second: self.relay_bytes_per_second,
                ..RelayLimits::default()
            },
        })
    }
}

fn parse_host(text: &str) -> Result<String, String> {
    parse_turn_url(&format!("turn:{text}:3478")).map(|_| text.to_owned())
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
        let lifetime = Duration::from_secs(self.turn_lifetime);
        let turn = match (secret, self.turn_url) {
            (Some(secret), urls) if !urls.is_empty() && !secret.is_empty() => {
                Some(TurnSecret { urls, secret, lifetime })
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
            relay: self.relay.into_config(self.listen, self.trust_forwarded_for, lifetime),
            limits: Limits {
                message_bytes: self.max_message_bytes as usize,
                messages_per_second: self.messages_per_second,
                message_burst: 4 * self.messages_per_second,
                joins_per_minute: self.max_joins_per_minute,
                rooms: self.max_rooms as usize,
                connections: self.max_connections as usize,
                silence: Duration::from_secs(self.silence_seconds),
                ..Limits::default()
            },
            trust_forwarded_for: self.trust_forwarded_for,
            allowed_origins: self.allow_origin,
        })
    }
}

fn main() -> ExitCode {
    let config = match Args::parse().into_config() {
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
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: ServerConfig) -> Result<(), ServerError> {
    let server = Server::bind(config)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        // Before the first line is printed: whoever has read it may send a signal.
        let asked = shutdown_asked()?;
        println!("Visavis signaling server on {}", server.address());
        for url in server.urls() {
            println!("  open {url}");
        }
        if let Some(fingerprint) = server.fingerprint() {
            println!("  certificate SHA-256 {fingerprint}");
        }
        if let Some(address) = server.relay_address() {
            let relayed: Vec<_> =
                server.relayed_addresses().iter().map(IpAddr::to_string).collect();
            println!("  relay on {address}, UDP and TCP, from {}", relayed.join(" and "));
        }
        server.run(asked).await
    })
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
