//! The settings' file: a small JSON file in the user's configuration directory. Nobody but the user
//! may read it: the code of a room is all one needs to enter.
//!
//! The UI thread reads it once at start. A thread of its own, `settings`, writes it when the settings
//! have not changed for a moment, so that no keystroke waits for the disk.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use etcetera::BaseStrategy as _;

use crate::settings::Settings;

/// The file is written when the settings have not changed for so long,
const QUIET: Duration = Duration::from_millis(500);
/// or when the first unwritten change is so old.
const LONGEST_DELAY: Duration = Duration::from_secs(3);

/// Where settings live, and what was last handed over to be written there. Dropping it writes what
/// has not been written yet.
pub(crate) struct Store {
    path: Option<PathBuf>,
    saved: Settings,
    writer: Option<Writer>,
}

impl Store {
    /// Reads the user's file. The second value are the settings, the third a sentence if the file
    /// could not be used; it is kept aside then, and defaults apply. `wake` is called on another
    /// thread when [`Self::take_problem`] has something to tell.
    pub(crate) fn load(wake: impl Fn() + Send + 'static) -> (Self, Settings, Option<String>) {
        let path = etcetera::choose_base_strategy()
            .ok()
            .map(|folders| folders.config_dir().join("visavis").join("settings.json"));
        Self::load_from(path, wake)
    }

    fn load_from(
        path: Option<PathBuf>,
        wake: impl Fn() + Send + 'static,
    ) -> (Self, Settings, Option<String>) {
        // Earlier versions left the file as readable as others are.
        if let Some(path) = path.as_deref() {
            for path in path.parent().into_iter().chain([path]) {
                if let Err(error) = keep_private(path)
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    tracing::warn!(%error, path = %path.display(), "others may read the settings");
                }
            }
        }
        let (settings, mut problem) = match path.as_deref().map(std::fs::read) {
            None => (Settings::default(), None),
            Some(Err(e)) if e.kind() == std::io::ErrorKind::NotFound => (Settings::default(), None),
            Some(Err(e)) => (
                Settings::default(),
                Some(format!("The settings could not be read ({e}); the defaults are used.")),
            ),
            Some(Ok(bytes)) => match serde_json::from_slice(&bytes) {
                Ok(settings) => (settings, None),
                Err(_) => (Settings::default(), path.as_deref().map(set_aside)),
            },
        };
        let writer = match path.clone().map(|path| Writer::start(path, wake)).transpose() {
            Ok(writer) => writer,
            Err(e) => {
                problem.get_or_insert(format!("The settings of this run cannot be saved: {e}."));
                None
            }
        };
        (Self { path, saved: settings.clone(), writer }, settings, problem)
    }

    /// Beside the settings: what it takes to come back to a call after a crash.
    pub(crate) fn seat_file(&self) -> Option<PathBuf> {
        Some(self.path.as_deref()?.with_file_name("seat.json"))
    }

    /// What is in the file, or will be in a moment.
    pub(crate) fn saved(&self) -> &Settings {
        &self.saved
    }

    /// Has the file written soon if `settings` differ from what is in it.
    pub(crate) fn save(&mut self, settings: &Settings) {
        if self.saved == *settings {
            return;
        }
        self.saved = settings.clone();
        if let Some(writer) = &self.writer {
            writer.shared.want(settings.clone());
        }
    }

    /// A sentence why the file could not be written, once each time.
    pub(crate) fn take_problem(&self) -> Option<String> {
        self.writer.as_ref()?.shared.lock().problem.take()
    }

    /// Writes what has not been written yet, and waits for that. Nothing is saved afterwards.
    pub(crate) fn close(&mut self) {
        self.writer = None;
    }
}

/// The thread that writes; dropping it waits until everything is written.
struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Newer settings replace older ones that are not written yet.
    unwritten: Option<Unwritten>,
    problem: Option<String>,
    closing: bool,
}

struct Unwritten {
    settings: Settings,
    first_change: Instant,
    last_change: Instant,
}

impl Writer {
    fn start(path: PathBuf, wake: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new().name("settings".into()).spawn(move || {
            while let Some(settings) = of_thread.next() {
                if let Err(error) = write(&path, &settings) {
                    tracing::warn!(%error, "the settings were not saved");
                    of_thread.lock().problem =
                        Some(format!("The settings could not be saved: {error}."));
                    wake();
                }
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // One that panicked has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// All states are valid at any time, so one that a panic left is used.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn want(&self, settings: Settings) {
        let now = Instant::now();
        let mut state = self.lock();
        let first_change = state.unwritten.as_ref().map_or(now, |before| before.first_change);
        state.unwritten = Some(Unwritten { settings, first_change, last_change: now });
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for settings that are due to be written; `None` when there will be none any more.
    fn next(&self) -> Option<Settings> {
        let mut state = self.lock();
        loop {
            let wait = match &state.unwritten {
                None if state.closing => return None,
                None => None,
                Some(unwritten) => {
                    let due =
                        (unwritten.last_change + QUIET).min(unwritten.first_change + LONGEST_DELAY);
                    Some(due.saturating_duration_since(Instant::now()))
                }
            };
            if state.closing || wait.is_some_and(|wait| wait.is_zero()) {
                return state.unwritten.take().map(|unwritten| unwritten.settings);
            }
            state = match wait {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(wait) => {
                    self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

fn set_aside(path: &Path) -> String {
    let backup = path.with_extension("json.broken");
    match std::fs::rename(path, &backup) {
        Ok(()) => format!(
            "The settings file was damaged. It is kept as {}; the defaults are used.",
            backup.display()
        ),
        Err(e) => format!("The settings file is damaged and could not be moved ({e})."),
    }
}

/// First beside the file, then renamed, so that a crash leaves the old file or the new one.
fn write(path: &Path, settings: &Settings) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    keep_private(folder)?;
    let beside = path.with_extension("json.new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    // One that a crash left there keeps the mode that it has.
    keep_private(&beside)?;
    serde_json::to_writer_pretty(&mut file, settings)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

/// Takes group's and others' permissions from a file or folder. Elsewhere than on Unix the user's
/// configuration folder is private by inheritance.
fn keep_private(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path)?.permissions().mode();
        if mode & 0o077 != 0 {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode & 0o700))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use visavis_engine::ContinuityKey;

    use super::*;
    use crate::theme::ThemeChoice;

    fn load(path: &Path) -> (Store, Settings, Option<String>) {
        Store::load_from(Some(path.to_owned()), || {})
    }

    /// Saves and waits for the disk.
    fn save(mut store: Store, settings: &Settings) {
        store.save(settings);
        let shared = store.writer.as_ref().unwrap().shared.clone();
        store.close();
        assert_eq!(shared.lock().problem, None);
    }

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("visavis-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn settings_come_back_as_they_were_saved() {
        let path = folder("roundtrip").join("deep").join("settings.json");
        let (store, mut settings, problem) = load(&path);
        assert_eq!((settings.clone(), problem), (Settings::default(), None));
        settings.name = "Ada".into();
        settings.remember_room(&"abc-def-ghj-kmn".parse().unwrap());
        settings.theme = ThemeChoice::HighContrast;
        save(store, &settings);
        let (_, read, problem) = load(&path);
        assert_eq!((read, problem), (settings, None));
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_the_settings() {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let folder = folder("private").join("visavis");
        let path = folder.join("settings.json");
        let (store, mut settings, _) = load(&path);
        settings.name = "Ada".into();
        save(store, &settings);
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));

        // As an earlier version left them, and one that it left beside when it crashed.
        let beside = path.with_extension("json.new");
        std::fs::write(&beside, "{").unwrap();
        for (path, mode) in [(&folder, 0o755), (&path, 0o644), (&beside, 0o644)] {
            set(path, mode);
        }
        let (store, mut settings, problem) = load(&path);
        assert_eq!((settings.name.as_str(), problem), ("Ada", None));
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
        settings.name = "Grace".into();
        save(store, &settings);
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
    }

    #[cfg(unix)]
    #[test]
    fn settings_are_for_their_owner_and_codes_of_older_versions_are_left_out() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder("owner").join("settings.json");
        std::fs::write(&path, r#"{"recent-rooms": ["abc-defg-hij", "abc-def-ghj-kmn"]}"#).unwrap();
        let (store, mut settings, problem) = load(&path);
        assert_eq!((settings.recent_rooms.len(), problem), (1, None));
        let room = settings.recent_rooms[0].room.clone();
        let key = ContinuityKey::from_bytes([7; 32]);
        settings.keep_key(&room, &key);
        settings.keep_guesses(&room, 3);
        save(store, &settings);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (_, read, _) = load(&path);
        assert_eq!(read.proof(&room), (Some(key), 3));
    }

    #[test]
    fn damaged_file_is_kept_aside_and_said() {
        let path = folder("damaged").join("settings.json");
        std::fs::write(&path, "{\"name\": 12").unwrap();
        let (_, settings, problem) = load(&path);
        assert_eq!(settings, Settings::default());
        assert!(problem.unwrap().contains("settings.json.broken"));
        let kept = std::fs::read_to_string(path.with_extension("json.broken")).unwrap();
        assert_eq!(kept, "{\"name\": 12");
    }

    #[test]
    fn changes_in_quick_succession_are_written_once_and_the_newest_wins() {
        let path = folder("quick").join("settings.json");
        let (mut store, mut settings, _) = load(&path);
        for name in ["A", "Ad", "Ada"] {
            settings.name = name.into();
            store.save(&settings);
        }
        assert!(!path.exists(), "somebody is still typing");
        store.close();
        assert_eq!(load(&path).1.name, "Ada");
    }

    #[test]
    fn settings_are_written_without_being_closed_and_a_refusal_is_told() {
        let (said, told) = std::sync::mpsc::sync_channel(1);
        // A file where the folder should be.
        let folder = folder("refused").join("visavis");
        std::fs::write(&folder, "").unwrap();
        let path = folder.join("settings.json");
        let (mut store, mut settings, _) =
            Store::load_from(Some(path), move || said.try_send(()).unwrap());
        settings.name = "Ada".into();
        store.save(&settings);
        told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(store.take_problem().unwrap().starts_with("The settings could not be saved"));
        assert_eq!(store.take_problem(), None);
    }
}
