//! The program: flags, window, and what the views' actions do.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser as _;
use eframe::glow;
use egui::{Context, ViewportCommand};
use visavis_engine::{
    CallCode, CallEndReason, CallSnapshot, Command, Engine, EngineConfig, Event, JoinOptions,
    Phase, SavedSeat, VideoSlot,
};

use crate::backend::Backend;
use crate::cli::Args;
use crate::screens::Screens;
use crate::settings::Settings;
use crate::settings_file::Store;
use crate::theme;
use crate::video::VideoView;
use crate::view::{Action, ServerStatus, View};
use crate::widgets;

/// What is said on standard error unless `RUST_LOG` says otherwise: nothing that a call is not worse
/// for.
const LOG_FILTER: &str =
    "warn,visavis=info,pulseaudio=off,rtc=error,rtc_dtls=error,rtc_ice=error,winit=error";

/// Runs the program until its window is closed.
pub fn run() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| LOG_FILTER.into()),
        )
        .with_writer(std::io::stderr)
        .init();
    let started = Instant::now();
    let args = Args::parse();
    let viewport = egui::ViewportBuilder::default()
        .with_title("Visavis")
        .with_app_id("visavis")
        .with_inner_size([1280.0, 800.0])
        .with_min_inner_size([420.0, 480.0])
        .with_icon(window_icon());
    let options =
        eframe::NativeOptions { viewport, renderer: eframe::Renderer::Glow, ..Default::default() };
    let run = eframe::run_native(
        "visavis",
        options,
        Box::new(move |cc| Ok(Box::new(App::new(&cc.egui_ctx, args, started)))),
    );
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!(
                "visavis: no window could be opened: {e}. A display and OpenGL 2.0 are needed."
            );
            ExitCode::FAILURE
        }
    }
}

fn window_icon() -> egui::IconData {
    // The build embeds the file, so a picture that cannot be read is a fault of the build.
    eframe::icon_data::from_png_bytes(include_bytes!("../../../assets/icons/visavis-128.png"))
        .unwrap_or_default()
}

/// How long a changed snapshot waits for a picture to be shown with: one period at 30 fps.
const SNAPSHOT_WAIT: Duration = Duration::from_millis(34);
/// Newest local pictures wake the window only if no remote one did within this time: one repaint
/// shows both.
const REMOTE_LEADS: Duration = Duration::from_millis(100);

/// Which room to join.
#[derive(Clone)]
struct Destination {
    code: CallCode,
    /// From a link; else the person's own.
    server: Option<String>,
}

struct App {
    started: Instant,
    first_pass: bool,
    backend: Backend,
    store: Store,
    settings: Settings,
    screens: Screens,
    local: VideoView,
    remote: VideoView,
    problem: Option<String>,
    /// Asked for, as soon as the server inside is up.
    waiting_to_join: Option<Destination>,
    last_joined: Option<Destination>,
    /// A call that did not end properly; until something is joined.
    rejoin: Option<SavedSeat>,
    /// From the command line, where they are stronger than the settings for this run.
    server_flag: Option<String>,
    name_flag: Option<String>,
    preview: bool,
}

impl App {
    fn new(ctx: &Context, args: Args, started: Instant) -> Self {
        theme::install(ctx);
        let repaint = ctx.clone();
        let (store, mut settings, problem) = Store::load(move || repaint.request_repaint());
        theme::apply(ctx, settings.theme, settings.reduce_motion);
        if let Some(name) = &args.name {
            settings.name.clone_from(name);
        }
        let seat_file = store.seat_file();
        let rejoin = seat_file.as_deref().and_then(SavedSeat::load);
        let config = EngineConfig {
            camera: args.camera.unwrap_or_else(|| settings.camera_source()),
            microphone: args.microphone.unwrap_or_else(|| settings.microphone_source()),
            speaker: args.speaker.unwrap_or_else(|| settings.speaker_sink()),
            voice: settings.voice_processing(),
            size: args.size.unwrap_or(EngineConfig::default().size),
            // Who asks for a size gets no larger one.
            max_size: args.size.is_none().then(|| settings.largest_picture.size()),
            fps: args.fps,
            trusted_certificate: args.trust_certificate,
            seat_file,
            ..EngineConfig::default()
        };
        let mut backend = Backend::start(ctx, config, args.listen, settings.open_to_network);
        for command in [
            Command::SetCameraEnabled(settings.camera_on),
            Command::SetMicrophoneEnabled(settings.microphone_on),
            Command::RefreshDevices,
        ] {
            backend.send(command);
        }
        let mut screens = Screens::default();
        screens.debug.open = args.debug_panel;
        let link = args.room.clone();
        if let Some(given) = &args.room {
            screens.lobby.entry = match &given.server {
                Some(server) => format!("{server}{}", given.code.link_path()),
                None => given.code.to_string(),
            };
        }
        let waiting_to_join = args.join.then(|| match link {
            Some(given) => Destination { code: given.code, server: given.server },
            None => Destination { code: CallCode::random(), server: None },
        });
        Self {
            started,
            first_pass: true,
            backend,
            store,
            settings,
            screens,
            local: VideoView::new(VideoSlot::default()),
            remote: VideoView::new(VideoSlot::default()),
            problem,
            waiting_to_join,
            last_joined: None,
            rejoin,
            server_flag: args.server,
            name_flag: args.name,
            preview: false,
        }
    }

    /// Where a join without a link goes; `None` while the server inside is not up.
    fn home_server(&self) -> Option<String> {
        if let Some(server) = self.server_flag.as_ref().or(self.settings.server.as_ref()) {
            return Some(server.clone());
        }
        match self.backend.server_status() {
            ServerStatus::Running { url, .. } => Some(url.clone()),
            _ => None,
        }
    }

    /// Sends a join that is waiting, once it is known where to.
    fn join_when_ready(&mut self) {
        let Some(destination) = self.waiting_to_join.take() else { return };
        let Destination { code, server: link_server } = destination.clone();
        if let ServerStatus::Failed(why) = self.backend.server_status()
            && link_server.is_none()
            && self.home_server().is_none()
        {
            self.problem = Some(why.clone());
            return;
        }
        let Some(server) = link_server.or_else(|| self.home_server()) else {
            self.waiting_to_join = Some(destination);
            return;
        };
        let (key, guesses) = self.settings.proof(&code.room);
        let name = self.settings.name.trim();
        let join = Command::Join(JoinOptions {
            code,
            key,
            guesses,
            server,
            display_name: (!name.is_empty()).then(|| name.to_owned()),
            ice_servers: Vec::new(),
            addresses: self.settings.addresses,
        });
        if self.backend.send(join) {
            self.problem = None;
            self.rejoin = None;
            self.settings.remember_room(&destination.code);
            self.last_joined = Some(destination);
        } else {
            self.problem =
                Some("The program is busy and did not take the request. Try once more.".into());
        }
    }

    fn perform(&mut self, ctx: &Context, action: Action) {
        match action {
            Action::Send(command) => {
                self.backend.send(command);
            }
            Action::Join { code, server } => {
                self.waiting_to_join = Some(Destination { code, server });
                self.join_when_ready();
            }
            Action::JoinAgain => {
                self.backend.send(Command::Dismiss);
                self.waiting_to_join = self.last_joined.clone();
                self.join_when_ready();
            }
            Action::Leave => {
                self.backend.send(Command::Leave);
            }
            Action::BackToLobby => {
                self.backend.send(Command::Dismiss);
                // As before the call.
                let saved = self.store.saved();
                let (camera, microphone) = (saved.camera_on, saved.microphone_on);
                self.perform(ctx, Action::SetCamera(camera));
                self.perform(ctx, Action::SetMicrophone(microphone));
                self.screens.lobby.entry.clear();
            }
            Action::SetMicrophone(on) => {
                self.settings.microphone_on = on;
                self.backend.send(Command::SetMicrophoneEnabled(on));
            }
            Action::SetCamera(on) => {
                self.settings.camera_on = on;
                self.backend.send(Command::SetCameraEnabled(on));
                self.local.clear();
            }
            Action::Copy(text, words) => {
                ctx.copy_text(text);
                widgets::say(ctx, words);
            }
            Action::ToggleDebug => self.screens.debug.open = !self.screens.debug.open,
            Action::ToggleFullScreen => {
                let full = ctx.input(|i| i.viewport().fullscreen).unwrap_or(false);
                ctx.send_viewport_cmd(ViewportCommand::Fullscreen(!full));
            }
            Action::RestartServer => {
                self.backend.restart_server(ctx, self.settings.open_to_network);
            }
            Action::ApplyTheme => {
                theme::apply(ctx, self.settings.theme, self.settings.reduce_motion);
            }
        }
        // What was asked shows in the next pass.
        ctx.request_repaint();
    }

    /// Camera and microphone run in the lobby only while there is something to see or hear, and
    /// somebody to see it.
    fn follow_preview(&mut self, ctx: &Context, snapshot: &CallSnapshot) {
        let hidden = ctx.input(|i| i.viewport().minimized).unwrap_or(false);
        let in_lobby = snapshot.phase == Phase::Idle;
        let wanted =
            in_lobby && !hidden && (self.settings.camera_on || self.settings.microphone_on);
        if wanted != self.preview && self.backend.send(Command::SetPreview(wanted)) {
            self.preview = wanted;
        }
    }

    fn read_events(&mut self, ctx: &Context) {
        while let Some(event) = self.backend.poll_event() {
            match event {
                Event::DeviceProblem(words) => tracing::warn!("{words}"),
                Event::PeerJoined => self.remote.clear(),
                Event::Guesses(guesses) => {
                    if let Some(joined) = &self.last_joined {
                        self.settings.keep_guesses(&joined.code.room, guesses);
                    }
                }
                Event::ContinuityKey(key) => {
                    if let Some(joined) = &self.last_joined {
                        self.settings.keep_key(&joined.code.room, &key);
                    }
                }
                Event::Knock(_) => {
                    let attention = egui::UserAttentionType::Informational;
                    ctx.send_viewport_cmd(ViewportCommand::RequestUserAttention(attention));
                }
                Event::RoomLock { locked, by_us } => widgets::say(
                    ctx,
                    match (locked, by_us) {
                        (true, true) => "Room locked: nobody else can enter",
                        (true, false) => "The other side locked the room",
                        (false, true) => "Room unlocked",
                        (false, false) => "The room is unlocked",
                    },
                ),
                Event::Ended(CallEndReason::Internal(why)) => tracing::error!("{why}"),
                _ => {}
            }
        }
    }

    fn save(&mut self) {
        let mut kept = self.settings.clone();
        if self.backend.snapshot().phase != Phase::Idle {
            // Muted in a call is not muted for ever.
            kept.camera_on = self.store.saved().camera_on;
            kept.microphone_on = self.store.saved().microphone_on;
        }
        if self.name_flag.as_ref() == Some(&kept.name) {
            // A name given for this run is not the person's setting.
            kept.name.clone_from(&self.store.saved().name);
        }
        self.store.save(&kept);
        if let Some(problem) = self.store.take_problem() {
            self.problem = Some(problem);
        }
    }
}

/// Lets engine and pictures ask for repaints.
fn connect_wakes(ctx: &Context, engine: &Engine, local: &VideoSlot, remote: &VideoSlot) {
    let repaint = ctx.clone();
    // A picture that comes meanwhile shows both; without one the wait is not noticed.
    engine.set_wake(move || repaint.request_repaint_after(SNAPSHOT_WAIT));
    let origin = Instant::now();
    let remote_at = Arc::new(AtomicU64::new(0));
    let millis = move || u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (repaint, at) = (ctx.clone(), Arc::clone(&remote_at));
    remote.set_wake(move || {
        at.store(millis(), Ordering::Relaxed);
        repaint.request_repaint();
    });
    let repaint = ctx.clone();
    local.set_wake(move || {
        let last = remote_at.load(Ordering::Relaxed);
        if last == 0 || u128::from(millis().saturating_sub(last)) > REMOTE_LEADS.as_millis() {
            repaint.request_repaint();
        }
    });
}

impl eframe::App for App {
    /// What goes on behind a hidden window too, where `ui` is not called.
    fn logic(&mut self, ctx: &Context, _frame: &mut eframe::Frame) {
        if self.first_pass {
            self.first_pass = false;
            tracing::info!("first pass after {:?}", self.started.elapsed());
        }
        if let Some(engine) = self.backend.poll() {
            let (local, remote) = (engine.local_video(), engine.remote_video());
            connect_wakes(ctx, engine, &local, &remote);
            self.local.set_slot(local);
            self.remote.set_slot(remote);
        }
        self.join_when_ready();
        self.read_events(ctx);
        self.follow_preview(ctx, &self.backend.snapshot());
    }

    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        let ctx = ui.ctx().clone();
        let snapshot = self.backend.snapshot();
        if matches!(snapshot.phase, Phase::Idle | Phase::Ended(_)) {
            self.remote.clear();
        } else {
            self.remote.poll();
        }
        if self.settings.camera_on {
            self.local.poll();
        }
        let server = self.backend.server_status().clone();
        let mut problem = self.backend.engine_problem().or_else(|| self.problem.clone());
        if problem.is_none() && self.waiting_to_join.is_some() {
            problem = Some("The server on this computer is starting; you join in a moment.".into());
        }
        let mut actions = Vec::new();
        let mut view = View {
            snapshot: &snapshot,
            settings: &mut self.settings,
            local: &self.local,
            remote: &self.remote,
            server: &server,
            server_flag: self.server_flag.as_deref(),
            problem: problem.as_deref(),
            rejoin: self.rejoin.as_ref().map(|seat| (&seat.room, seat.server.as_str())),
            actions: &mut actions,
        };
        self.screens.show(ui, &mut view);
        for action in actions {
            self.perform(&ctx, action);
        }
        self.save();
    }

    fn on_exit(&mut self, gl: Option<&glow::Context>) {
        if let Some(gl) = gl {
            self.local.destroy(gl);
            self.remote.destroy(gl);
        }
        self.store.close();
    }

    fn clear_color(&self, visuals: &egui::Visuals) -> [f32; 4] {
        let phase = &self.backend.snapshot().phase;
        Screens::background(phase, visuals.panel_fill).to_normalized_gamma_f32()
    }
}
