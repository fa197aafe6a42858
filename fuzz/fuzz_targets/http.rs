//! A connection to the server's one port, with whatever bytes: HTTP, the WebSocket's upgrade and its frames, TURN.
#![no_main]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use socket2::{Domain, Socket, Type};
use visavis_signaling::{RelayConfig, Server, ServerConfig};

/// Serves until the process ends.
static SERVER: LazyLock<SocketAddr> = LazyLock::new(|| {
    let config = ServerConfig { relay: Some(RelayConfig::default()), ..ServerConfig::default() };
    let server = Server::bind(config).expect("a port is free");
    let address = server.address();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(server.run(std::future::pending())).expect("serves");
    });
    address
});

/// Every connection from another address of the loopback network: those of one are limited.
fn connect() -> TcpStream {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let own = Ipv4Addr::from_bits(
        0x7f01_0000 + (NEXT.fetch_add(1, Ordering::Relaxed) & 0xff_ffff) % 0xfe_0000,
    );
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((own, 0)).into()).expect("an address of loopback");
    socket.connect(&(*SERVER).into()).expect("it listens");
    socket.into()
}

fuzz_target!(|input: &[u8]| {
    let mut stream = connect();
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
    // It may close before everything is written.
    let _ = stream.write_all(input);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = [0; 16 * 1024];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => {
                panic!("the server keeps a connection that its client has closed")
            }
            Err(_) => break,
        }
    }
});
