//! What it takes to come back to a call after a crash: a small file, written while the call is
//! connected and removed when it ends. A thread of its own reads and writes; nobody waits for it
//! except [`SeatFile::token_for`], once a call.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use visavis_signaling_protocol::{ResumeToken, RoomCode};

use crate::shared::lock;

/// A call longer ago than this is over: the other person does not wait that long.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);
/// How often the file of a running call is written anew, so that its age tells the crash's.
const REFRESH: Duration = Duration::from_secs(60);
/// A token is 48 bytes and an address a few hundred at most.
const MAX_FILE_BYTES: u64 = 16 * 1024;
/// Writes that wait for the disk; more are dropped and made up for by the next one.
const WAITING_WRITES: usize = 4;

/// A call that did not end properly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SavedSeat {
    /// The server, as it was given.
    pub server: String,
    /// The room.
    pub room: RoomCode,
    token: ResumeToken,
    /// Unix time, seconds.
    saved_at_s: u64,
}

impl SavedSeat {
    /// What is in the file, if it is of the last ten minutes.
    pub fn load(path: &Path) -> Option<Self> {
        let seat = Self::read(path)?;
        let age = SystemTime::now()
            .duration_since(
                SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seat.saved_at_s))?,
            )
            .unwrap_or_default();
        (age <= MAX_AGE).then_some(seat)
    }

    fn read(path: &Path) -> Option<Self> {
        let mut text = String::new();
        std::fs::File::open(path).ok()?.take(MAX_FILE_BYTES).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }
}

enum Job {
    Write(SavedSeat),
    /// Unless another program has written a seat of its own meanwhile.
    Remove(ResumeToken),
}

/// The file, if one is wanted.
pub(crate) struct SeatFile {
    path: Option<PathBuf>,
    state: Mutex<State>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    jobs: Option<SyncSender<Job>>,
    /// What is in the file of this call.
    kept: Option<KeptToken>,
}

struct KeptToken {
    token: ResumeToken,
    /// When this program wrote it; `None` if an earlier run did.
    written: Option<Instant>,
}

impl SeatFile {
    pub(crate) fn new(path: Option<PathBuf>) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(WAITING_WRITES);
        let thread = path
            .clone()
            .map(|path| {
                std::thread::Builder::new()
                    .name("seat file".into())
                    .spawn(move || work(&path, &queue))
            })
            .transpose()?;
        let jobs = thread.is_some().then_some(jobs);
        Ok(Self { path, state: Mutex::new(State { jobs, kept: None }), thread })
    }

    /// What takes the seat in that room back, if a call there did not end properly.
    pub(crate) fn token_for(&self, server: &str, room: &RoomCode) -> Option<ResumeToken> {
        let seat = SavedSeat::load(self.path.as_deref()?)?;
        let token = (seat.server == server && seat.room == *room).then_some(seat.token)?;
        lock(&self.state).kept = Some(KeptToken { token: token.clone(), written: None });
        Some(token)
    }

    /// The call goes on. Writes when there is something new, and each minute.
    pub(crate) fn keep(&self, server: &str, room: &RoomCode, token: &ResumeToken, now: Instant) {
        let mut state = lock(&self.state);
        let Some(jobs) = &state.jobs else { return };
        if let Some(KeptToken { token: kept, written: Some(at) }) = &state.kept
            && kept == token
            && now - *at < REFRESH
        {
            return;
        }
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seat = SavedSeat {
            server: server.to_owned(),
            room: room.clone(),
            token: token.clone(),
            saved_at_s: since_1970.unwrap_or_default().as_secs(),
        };
        // A full queue: the next tick tries again.
        if jobs.try_send(Job::Write(seat)).is_ok() {
            state.kept = Some(KeptToken { token: token.clone(), written: Some(now) });
        }
    }

    /// The call is over.
    pub(crate) fn forget(&self) {
        let mut state = lock(&self.state);
        if let Some(KeptToken { token, .. }) = state.kept.take()
            && let Some(jobs) = &state.jobs
        {
            // At most a few small writes are before it.
            let _ = jobs.send(Job::Remove(token));
        }
    }
}

impl Drop for SeatFile {
    fn drop(&mut self) {
        lock(&self.state).jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(path: &Path, queue: &Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        let done = match job {
            Job::Write(seat) => write(path, &seat),
            Job::Remove(token) if SavedSeat::read(path).is_some_and(|seat| seat.token == token) => {
                std::fs::remove_file(path)
            }
            Job::Remove(_) => Ok(()),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "what it takes to come back to the call was not kept");
        }
    }
}

/// First beside it, then renamed, so that a crash leaves the old file or the new one.
fn write(path: &Path, seat: &SavedSeat) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // One that is left from a crash may have other permissions.
    let _ = std::fs::remove_file(&beside);
    let mut file = options.open(&beside)?;
    file.write_all(&serde_json::to_vec(seat)?)?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("visavis-seat-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        folder.join("deep").join("seat.json")
    }

    #[test]
    fn a_seat_is_kept_for_its_room_and_server_and_forgotten_at_the_end() {
        let path = path("kept");
        let (room, token) = (RoomCode::random(), ResumeToken::random());
        let file = SeatFile::new(Some(path.clone())).unwrap();
        file.keep("http://a", &room, &token, Instant::now());
        // Killed: nobody says that it is over.
        drop(file);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let file = SeatFile::new(Some(path.clone())).unwrap();
        assert_eq!(file.token_for("http://a", &room), Some(token.clone()));
        assert_eq!(file.token_for("http://b", &room), None);
        assert_eq!(file.token_for("http://a", &RoomCode::random()), None);
        file.forget();
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn an_old_or_damaged_file_and_another_programs_seat_are_left_alone() {
        let path = path("old");
        let seat = SavedSeat {
            server: "http://a".into(),
            room: RoomCode::random(),
            token: ResumeToken::random(),
            saved_at_s: 1_000_000,
        };
        write(&path, &seat).unwrap();
        assert_eq!(SavedSeat::load(&path), None);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(SavedSeat::load(&path), None);
        let (jobs, queue) = sync_channel(1);
        jobs.send(Job::Remove(seat.token.clone())).unwrap();
        drop(jobs);
        write(&path, &SavedSeat { token: ResumeToken::random(), ..seat }).unwrap();
        work(&path, &queue);
        assert!(path.exists());
    }
}
