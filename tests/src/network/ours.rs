//! Two `visavis-cli` over the link.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use super::{Case, Extra, Outcome, Picture, Sound, speech};
use crate::link::{Direction, Emulator, Recording};
use crate::program::{Program, Server, join, scratch};

const LIMIT: Duration = Duration::from_secs(20);

/// A sender on the left and a receiver on the right of the link.
pub struct Call {
    sender: Program,
    receiver: Program,
    folder: PathBuf,
}

impl Call {
    /// Brings one about; returns with the first picture on its way. `sender_flags` and
    /// `receiver_flags` are further ones of `visavis-cli join`, `--camera` among them if it is not to
    /// be the grainy test pattern and none.
    ///
    /// # Errors
    ///
    /// A peer does not start, or nobody answers.
    pub fn start(
        emulator: &Emulator,
        server: &str,
        number: usize,
        sender_flags: &[&str],
        receiver_flags: &[&str],
    ) -> anyhow::Result<Self> {
        let room = ["abc-def-ghj-kmn", "abc-der-ghj-kmn", "abc-dek-ghj-kmn", "abc-des-ghj-kmn"]
            [number % 4];
        static FOLDERS: AtomicUsize = AtomicUsize::new(0);
        let folder = scratch(&format!("network-{}", FOLDERS.fetch_add(1, Ordering::Relaxed)))?;
        let trace = folder.join("trace.jsonl").display().to_string();
        let flags = with_camera("none", receiver_flags);
        let flags = [&["--trace", &trace], flags.as_slice()].concat();
        let mut receiver = emulator.right().within(|| join("receiver", server, room, &flags))??;
        receiver.wait_event("waiting", LIMIT)?;
        let flags = with_camera("grainy-test-pattern", sender_flags);
        let sender = emulator.left().within(|| join("sender", server, room, &flags))??;
        Ok(Self { sender, receiver, folder })
    }

    /// Ends it; both summaries: sender's, receiver's.
    ///
    /// # Errors
    ///
    /// A peer ended by itself or hangs.
    pub fn end(&mut self) -> anyhow::Result<(Value, Value)> {
        self.receiver.terminate().context("the receiver ended by itself")?;
        let receiver = self.receiver.wait_event("summary", LIMIT)?;
        // Where its word that it left was lost on the way, the sender has to be told.
        let sender = self.sender.wait_event("summary", Duration::from_secs(1)).or_else(|_| {
            self.sender.terminate()?;
            self.sender.wait_event("summary", LIMIT)
        })?;
        Ok((sender, receiver))
    }

    /// What the receiver showed and played so far.
    ///
    /// # Errors
    ///
    /// There is no trace.
    pub fn trace(&self) -> anyhow::Result<(Vec<Picture>, Vec<Sound>)> {
        let text = std::fs::read_to_string(self.folder.join("trace.jsonl"))?;
        let (mut pictures, mut sounds) = (Vec::new(), Vec::new());
        for line in text.lines() {
            // The last line may be half written.
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            let Some(unix_ms) = line["unix_ms"].as_f64() else { continue };
            match line["event"].as_str() {
                Some("picture") => pictures.push(Picture {
                    unix_ms,
                    latency_ms: line["latency_ms"].as_f64(),
                    height_px: line["height"].as_u64().and_then(|h| h.try_into().ok()).unwrap_or(0),
                }),
                Some("sound") => sounds.extend(line["level_dbfs"].as_f64().map(|level_dbfs| {
                    let made_up = line["made_up"].as_bool().unwrap_or(false);
                    Sound { unix_ms, level_dbfs, made_up }
                })),
                _ => {}
            }
        }
        Ok((pictures, sounds))
    }
}

/// `flags`, with this camera if they name none.
fn with_camera<'f>(camera: &'f str, flags: &[&'f str]) -> Vec<&'f str> {
    let mut all = flags.to_vec();
    if !all.contains(&"--camera") {
        all.extend(["--camera", camera]);
    }
    all
}

impl Drop for Call {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Holds the calls of a case; also what the impaired direction did meanwhile. `sender_flags`: as of [`Call::start`].
///
/// # Errors
///
/// One does not come about.
pub fn measure(
    case: &Case,
    emulator: &Emulator,
    sender_flags: &[&str],
) -> anyhow::Result<(Vec<Outcome>, Recording)> {
    let listen = format!("{}:0", Emulator::LEFT);
    let server = emulator.left().within(|| Server::listen(&listen))??;
    let speech = (case.extra == Extra::Speech).then(Speech::new).transpose()?;
    let (sender, receiver) = speech.as_ref().map(Speech::flags).unwrap_or_default();
    let sender = [strs(&sender).as_slice(), sender_flags].concat();
    let mut calls = (0..case.calls)
        .map(|number| Call::start(emulator, server.url(), number, &sender, &strs(&receiver)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let (begun, begun_ms) = emulator.wait_begun(LIMIT)?;
    std::thread::sleep((begun + case.duration).saturating_duration_since(Instant::now()));
    let until_ms = begun_ms + case.duration.as_secs_f64() * 1e3;
    let recording = emulator.recording(Direction::LeftToRight);
    let outcomes = calls.iter_mut().map(|call| outcome(call, begun_ms, until_ms));
    let mut outcomes = outcomes.collect::<anyhow::Result<Vec<_>>>()?;
    if let (Some(speech), Some(outcome)) = (&speech, outcomes.first_mut()) {
        outcome.stoi = speech.stoi()?;
    }
    Ok((outcomes, recording))
}

fn strs(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

/// A recording to send, and where it is recorded again.
struct Speech {
    folder: PathBuf,
    sent: Vec<f32>,
}

impl Speech {
    fn new() -> anyhow::Result<Self> {
        static FOLDERS: AtomicUsize = AtomicUsize::new(0);
        let folder = scratch(&format!("speech-{}", FOLDERS.fetch_add(1, Ordering::Relaxed)))?;
        let speech = Self { folder, sent: speech::recording(1) };
        speech::write(&speech.sent, &speech.folder.join("sent.wav"))?;
        Ok(speech)
    }

    /// Of sender and receiver.
    fn flags(&self) -> (Vec<String>, Vec<String>) {
        let file = |name| format!("file:{}", self.folder.join(name).display());
        (
            vec!["--microphone".to_owned(), file("sent.wav")],
            vec!["--speaker".to_owned(), file("heard.wav")],
        )
    }

    fn stoi(&self) -> anyhow::Result<Option<f64>> {
        Ok(speech::intelligibility(&self.sent, &speech::read(&self.folder.join("heard.wav"))?))
    }
}

impl Drop for Speech {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn outcome(call: &mut Call, begun_ms: f64, until_ms: f64) -> anyhow::Result<Outcome> {
    let (sender, receiver) = call.end()?;
    let (mut pictures, mut sounds) = call.trace()?;
    pictures.retain(|p| p.unix_ms <= until_ms);
    sounds.retain(|s| s.unix_ms >= begun_ms && s.unix_ms <= until_ms);
    let (sent, video) = (&sender["video_sent"], &receiver["video_received"]);
    let cpu = sender["cpu_seconds"].as_f64().zip(receiver["cpu_seconds"].as_f64());
    #[expect(clippy::cast_precision_loss, reason = "a count of pictures")]
    let frames = pictures.len() as f64;
    Ok(Outcome {
        fps: Some(frames / ((until_ms - begun_ms) / 1e3)),
        frozen_s: video["freeze_ms"].as_f64().map(|ms| ms / 1e3),
        concealed: receiver["audio_received"]["concealed_ratio"].as_f64(),
        retransmitted_packets: sent["retransmitted_packets"].as_f64(),
        cpu_s: cpu.map(|(a, b)| a + b),
        stoi: None,
        pictures,
        sounds,
        raw: json!({ "sender": sender, "receiver": receiver }),
    })
}
