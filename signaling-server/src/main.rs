//! The signaling server as a program.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;
use visavis_signaling::{
    Limits, Server, ServerConfig, ServerError, Tls, TurnSecret, parse_ice_server, parse_turn_url,
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

    /// STUN or TURN server to tell every peer of. Repeatable.
    #[arg(long, value_name = "URL[,USER,CREDENTIAL]", value_parser = parse_ice_server)]
    ice_server: Vec<IceServer>,
    /// TURN URL for which every peer gets time-limited credentials. Repeatable.
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
        let turn = match (secret, self.turn_url) {
            (Some(secret), urls) if !urls.is_empty() && !secret.is_empty() => {
                Some(TurnSecret { urls, secret, lifetime: Duration::from_secs(self.turn_lifetime) })
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
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
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
