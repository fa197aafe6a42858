//! Ten times what one address may have, from one address, at the program itself: others join and
//! signal undisturbed. `--nocapture` shows the figures.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use support::{Client, DEADLINE, UPGRADE, connect_from, http_from};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UdpSocket;
use tokio::process::{Child, Command};
use tokio::time::{interval, timeout};
use tokio_tungstenite::tungstenite::Message;

const ATTACKER: &str = "127.0.0.1";
const OTHERS: &str = "127.0.0.2";
/// How much more than its share the attacker wants.
const TIMES: u64 = 10;
const BUDGET_BYTES: u64 = 8 * 1024 * 1024;
const CALM: Duration = Duration::from_millis(1500);
const STORM: Duration = Duration::from_secs(4);

/// What the attacker was answered, by code.
type Answers = Arc<Mutex<BTreeMap<String, u64>>>;

fn count(answers: &Answers, code: &str) {
    *answers.lock().unwrap().entry(code.to_owned()).or_default() += 1;
}

struct Program {
    child: Child,
    page: SocketAddr,
    relay: SocketAddr,
    metrics: SocketAddr,
}

impl Program {
    async fn start() -> Self {
        let budget = BUDGET_BYTES.to_string();
        let mut child = Command::new(env!("CARGO_BIN_EXE_visavis-signaling"))
            .args(["--listen", "127.0.0.1:0", "--relay-listen", "127.0.0.1:0"])
            .args(["--metrics-listen", "127.0.0.1:0", "--max-kept-bytes", &budget])
            .env("RUST_LOG", "error")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address_in = async |words: &str| loop {
            let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
            if let Some((_, rest)) = line.split_once(words) {
                let end = rest.find(['/', ',']).unwrap_or(rest.len());
                break rest[..end].parse().unwrap();
            }
        };
        let page = address_in("server on ").await;
        let relay = address_in("relay on ").await;
        let metrics = address_in("metrics at http://").await;
        Self { child, page, relay, metrics }
    }

    async fn metric(&self, name: &str) -> u64 {
        let (_, body) = http_from(OTHERS, self.metrics, "/metrics", "").await;
        let prefix = format!("visavis_signaling_{name} ");
        body.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap().parse().unwrap()
    }

    /// Memory in use, bytes.
    fn memory(&self) -> u64 {
        let file = format!("/proc/{}/status", self.child.id().unwrap());
        let status = std::fs::read_to_string(file).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

fn room(number: u64) -> String {
    let letters = (0..6).scan(number, |rest, _| {
        let letter = char::from(b'a' + (*rest % 26) as u8);
        *rest /= 26;
        Some(letter)
    });
    letters.collect()
}

fn join(room: &str) -> Value {
    json!({"type": "join", "protocolVersion": 2, "room": room, "received": 0})
}

/// Pairs meet and pass an offer and an answer; the time that each join took, from connecting on.
async fn calls(server: SocketAddr, time: Duration, first_room: u64) -> Vec<Duration> {
    let begin = Instant::now();
    let mut took = Vec::new();
    let mut number = first_room;
    while begin.elapsed() < time {
        number += 1;
        let enter = async || {
            let since = Instant::now();
            let mut client = Client::open_from(OTHERS, server).await;
            client.send(join(&room(number))).await;
            let joined = client.next().await;
            assert_eq!(joined["type"], "joined", "{joined}");
            (client, joined, since.elapsed())
        };
        let (mut a, joined_a, first) = enter().await;
        let (mut b, joined_b, second) = enter().await;
        assert_eq!(a.next().await["type"], "peer-joined");
        let offer = json!({"type": "offer", "sdp": "v=0\r\n".repeat(1000)});
        a.send(json!({"type": "signal", "to": joined_b["peerId"], "description": offer})).await;
        assert_eq!(b.next().await["description"], offer);
        let answer = json!({"type": "answer", "sdp": "v=0\r\n".repeat(1000)});
        b.send(json!({"type": "signal", "to": joined_a["peerId"], "description": answer})).await;
        assert_eq!(a.next().await["description"], answer);
        for client in [&mut a, &mut b] {
            client.send(json!({"type": "leave"})).await;
        }
        took.extend([first, second]);
        // Two hundred joins a minute are what they may have.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    took.sort();
    took
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

/// Asks for a WebSocket; the status of the answer.
async fn knock(server: SocketAddr) -> String {
    let mut stream = connect_from(ATTACKER, server).await;
    let request = format!("GET /ws HTTP/1.1\r\nHost: {server}\r\n{UPGRADE}\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return "closed".to_owned();
    }
    let mut answer = [0; 12];
    match timeout(DEADLINE, stream.read_exact(&mut answer)).await {
        Ok(Ok(_)) => format!("HTTP {}", String::from_utf8_lossy(&answer[9..])),
        _ => "closed".to_owned(),
    }
}

/// One of the attacker's WebSockets: enters a room, whose other seat it leaves without a word, and
/// sends to that what is large, until it is refused.
async fn flood(server: SocketAddr, number: u64, answers: Answers, stop: Arc<AtomicBool>) {
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let stream = connect_from(ATTACKER, server).await;
        let url = format!("ws://{server}/ws");
        let Ok(Ok((socket, _))) =
            timeout(DEADLINE, tokio_tungstenite::client_async(url, stream)).await
        else {
            return count(&answers, "HTTP 429");
        };
        sockets.push(Client(socket));
    }
    let mut other = sockets.pop().unwrap();
    let mut own = sockets.pop().unwrap();
    own.send(join(&room(number))).await;
    other.send(join(&room(number))).await;
    let (first, second) = (own.next().await, other.next().await);
    for answer in [&first, &second] {
        count(&answers, answer["code"].as_str().unwrap_or("joined"));
    }
    if second["type"] != "joined" {
        return;
    }
    drop(other);
    let offer = json!({"type": "offer", "sdp": "x".repeat(60_000)});
    let signal = json!({"type": "signal", "to": second["peerId"], "description": offer});
    let message = Message::text(signal.to_string());
    let (mut sink, mut stream) = own.0.split();
    let sending = async {
        // Together 400 messages a second of 60 kB, ten times 2 MiB and more.
        let mut ticks = interval(Duration::from_millis(250));
        while !stop.load(Ordering::Relaxed) && sink.send(message.clone()).await.is_ok() {
            ticks.tick().await;
        }
    };
    let reading = async {
        while let Some(Ok(message)) = stream.next().await {
            if let Message::Text(text) = message {
                let message: Value = serde_json::from_str(&text).unwrap();
                if let Some(code) = message["code"].as_str() {
                    count(&answers, code);
                }
            }
        }
    };
    tokio::pin!(reading);
    tokio::select! {
        () = sending => {}
        () = &mut reading => return,
    }
    // Refused, with the reason still to be read; or told to stop.
    let _ = timeout(Duration::from_millis(500), reading).await;
}

/// All of it at once, until told to stop.
async fn attack(program: &Program, answers: &Answers, stop: &Arc<AtomicBool>) {
    let mut tasks = tokio::task::JoinSet::new();
    let page = program.page;
    for number in 0..120 {
        tasks.spawn(flood(page, number, Arc::clone(answers), Arc::clone(stop)));
    }
    // New connections, HTTP requests on them, ten times as many as fifty a second.
    let (counted, ended) = (Arc::clone(answers), Arc::clone(stop));
    tasks.spawn(async move {
        let mut ticks = interval(Duration::from_millis(10));
        while !ended.load(Ordering::Relaxed) {
            ticks.tick().await;
            for _ in 0..50 * TIMES / 100 {
                let answers = Arc::clone(&counted);
                tokio::spawn(async move { count(&answers, &knock(page).await) });
            }
        }
    });
    // Connections that only stay, ten times as many as there may be.
    let ended = Arc::clone(stop);
    tasks.spawn(async move {
        let mut held = Vec::new();
        for _ in 0..1000 {
            if ended.load(Ordering::Relaxed) {
                break;
            }
            let mut stream = connect_from(ATTACKER, page).await;
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nX-Slow: ").await;
            held.push(stream);
            tokio::task::yield_now().await;
        }
        while !ended.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    // Streams of one byte, and STUN.
    let (relay, ended) = (program.relay, Arc::clone(stop));
    tasks.spawn(async move {
        let mut held = Vec::new();
        for _ in 0..1000 {
            let mut stream = connect_from(ATTACKER, relay).await;
            let _ = stream.write_all(&[0]).await;
            held.push(stream);
        }
        while !ended.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let ended = Arc::clone(stop);
    tasks.spawn(async move {
        let socket = UdpSocket::bind((ATTACKER, 0)).await.unwrap();
        let mut request = [0; 20];
        request[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
        let mut ticks = interval(Duration::from_millis(10));
        while !ended.load(Ordering::Relaxed) {
            ticks.tick().await;
            for _ in 0..200 * TIMES / 100 {
                let _ = socket.send_to(&request, relay).await;
            }
        }
    });
    while tasks.join_next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_disturbs_nobody_else() {
    let program = Program::start().await;
    let before = calls(program.page, CALM, 1_000_000).await;
    let memory_before = program.memory();

    let answers = Answers::default();
    let stop = Arc::new(AtomicBool::new(false));
    let watch = async {
        let (mut kept, mut memory) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            kept = kept.max(program.metric("kept_bytes").await);
            memory = memory.max(program.memory());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        (kept, memory)
    };
    let meanwhile = async {
        let during = calls(program.page, STORM, 2_000_000).await;
        stop.store(true, Ordering::Relaxed);
        during
    };
    let (during, (kept, memory), ()) =
        tokio::join!(meanwhile, watch, attack(&program, &answers, &stop));

    let answers = answers.lock().unwrap().clone();
    let grown = memory.saturating_sub(memory_before);
    println!(
        "joins of others: before {} with median {:?}, p99 {:?}; during {} with median {:?}, p99 {:?}",
        before.len(),
        percentile(&before, 50),
        percentile(&before, 99),
        during.len(),
        percentile(&during, 50),
        percentile(&during, 99),
    );
    println!(
        "memory: {} MiB before, {} MiB more during; {} KiB kept of {} KiB",
        memory_before >> 20,
        grown >> 20,
        kept >> 10,
        BUDGET_BYTES >> 10
    );
    println!("answers to the attacker: {answers:?}");
    println!("STUN requests without answer: {}", program.metric("relay_unanswered_total").await);

    // Generous: builds run beside tests. Without shares nobody else gets in at all.
    assert!(percentile(&during, 99) < Duration::from_secs(1), "{during:?}");
    assert!(during.len() > 10, "{}", during.len());
    assert!(kept <= BUDGET_BYTES && kept > BUDGET_BYTES / 2, "{kept}");
    assert!(grown < BUDGET_BYTES + 64 * 1024 * 1024, "{grown}");
    for code in ["HTTP 429", "rate-limited", "too-many-joins"] {
        assert!(answers.get(code).is_some_and(|count| *count > 0), "{code} in {answers:?}");
    }
    assert!(!answers.contains_key("HTTP 503"), "{answers:?}");
    assert!(program.metric("relay_unanswered_total").await > 0);
}
